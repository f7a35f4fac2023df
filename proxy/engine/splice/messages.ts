/**
 * What the control thread and the data threads say to each other. Only data;
 * `mailbox.ts` carries it. Thread 0 is the one that accepts: what concerns
 * listeners and choices goes to it alone. All of UDP is the last thread's.
 *
 * @module
 */
import type {
  ForwardingPolicy,
  ListenAddress,
  ListenOptions,
} from "../engine.ts";

/** The first message to a thread: all it needs to exist. */
export interface ThreadStart {
  readonly index: number;
  /** How many messages were sent, and whether one woke it; see `mailbox.ts`. */
  readonly mailCount: SharedArrayBuffer;
  /** An eventfd that says: there is mail. */
  readonly wakeFd: number;
  /** For each thread a pipe; see `hand_over.ts`. Empty if there is but one. */
  readonly handOver: readonly {
    readonly readFd: number;
    readonly writeFd: number;
  }[];
  readonly dialTimeoutsMs: readonly number[];
  readonly lingerMs: number;
  /** For the one thread that forwards UDP. */
  readonly udp: UdpStart | undefined;
}

/** What UDP flows are held to. */
export interface UdpStart {
  /** Milliseconds of silence that end one. */
  readonly timeoutMs: number;
  /** How many there may be: of a ServicePort, and of all. */
  readonly limits: { readonly perPort: number; readonly total: number };
}

/** To a data thread. Numbers name ServicePorts, listeners and counter lines. */
export type Command =
  | { readonly type: "table"; readonly memory: SharedArrayBuffer }
  /** A ServicePort, and the counter lines it has, one for each thread. */
  | {
    readonly type: "port";
    readonly port: number;
    readonly lines: readonly number[];
  }
  | {
    readonly type: "policy";
    readonly port: number;
    readonly policy: ForwardingPolicy;
    /** Grows with each policy of the port, from 1. */
    readonly generation: number;
    /** Endpoint key → counter line. */
    readonly lines: ReadonlyMap<string, number>;
    /** The port's own lines for how long things take. */
    readonly timings: readonly number[];
  }
  | {
    readonly type: "listen";
    readonly listener: number;
    readonly fd: number;
    readonly address: ListenAddress;
    /** Whose connections these are; undefined: their original destination says. */
    readonly route: Route | undefined;
    /** What is known by original destination from the start. */
    readonly routes?: readonly RouteTo[];
  }
  | {
    readonly type: "route";
    readonly listener: number;
    readonly destination: ListenAddress;
    /** Undefined: nobody's any more. */
    readonly route: Route | undefined;
  }
  /** The listener, which refuses connections already, is to be closed. */
  | { readonly type: "unlisten"; readonly listener: number }
  | {
    readonly type: "age limit";
    readonly port: number;
    /** 0: none. */
    readonly limitMs: number;
  }
  | { readonly type: "cluster sources"; readonly cidrs: readonly string[] }
  /** Whether the end of each connection is reported, of those that come. */
  | { readonly type: "tell connections"; readonly isTold: boolean }
  /** When the port has no connection left, forget it and say `drained`. */
  | { readonly type: "drain"; readonly port: number }
  /** Its connections, and those that are still to come, end now. */
  | { readonly type: "cut"; readonly port: number }
  /** It has drained. */
  | { readonly type: "forget"; readonly port: number }
  /** The first of a port makes it. */
  | {
    readonly type: "udp policy";
    readonly port: number;
    readonly policy: ForwardingPolicy;
    readonly generation: number;
    /** Endpoint key → counter line. */
    readonly lines: ReadonlyMap<string, number>;
    /** The port's own two. */
    readonly portLines: readonly [number, number];
  }
  | {
    readonly type: "udp listen";
    readonly port: number;
    readonly listener: number;
    readonly fd: number;
    readonly address: ListenAddress;
    readonly options: ListenOptions;
  }
  /** Nothing is received there any more; answers that are due still go out. */
  | { readonly type: "udp quiet"; readonly listener: number }
  /** To be closed, with its flows; `udp listener closed` says that it is. */
  | { readonly type: "udp unlisten"; readonly listener: number }
  /** The port's flows end; then `drained`. */
  | { readonly type: "udp close"; readonly port: number }
  | { readonly type: "close" };

/** A destination, and whose its connections are. */
export interface RouteTo {
  readonly destination: ListenAddress;
  readonly route: Route;
}

/** The ServicePort that a connection belongs to, and how its client came in. */
export interface Route {
  readonly port: number;
  readonly options: ListenOptions;
}

/** From a data thread. */
export type Report =
  | { readonly type: "ready" }
  /** It cannot run; nothing of it is left. */
  | { readonly type: "unable"; readonly reason: string }
  | { readonly type: "drained"; readonly port: number }
  /** An endpoint that `generation` no longer has is in no use any more. */
  | {
    readonly type: "endpoint gone";
    readonly port: number;
    readonly key: string;
    readonly generation: number;
  }
  | { readonly type: "udp listener closed"; readonly listener: number }
  /** Only where it was asked for: at `-v=4`. */
  | { readonly type: "flow ended"; readonly ended: EndedFlow }
  | { readonly type: "events"; readonly events: readonly CountedEvent[] }
  /** Only where it was asked for: at `-v=4`. */
  | { readonly type: "connection ended"; readonly ended: EndedConnection }
  | { readonly type: "closed" };

export interface EndedConnection {
  readonly port: number;
  /** `ip:port`. */
  readonly client: string;
  /** `ip:port`. */
  readonly endpoint: string;
  /** From when the endpoint answered. */
  readonly openMs: number;
}

export interface EndedFlow {
  readonly port: number;
  /** `ip:port`. */
  readonly client: string;
  /** `ip:port`. */
  readonly endpoint: string;
  readonly reason: string;
}

/** Something to log, that happened `count` times. */
export interface CountedEvent {
  /** Undefined: it concerns no single ServicePort. */
  readonly port: number | undefined;
  readonly kind: string;
  readonly message: string;
  /** Of the last time. */
  readonly properties: Readonly<Record<string, unknown>>;
  readonly count: number;
}

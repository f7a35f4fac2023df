/**
 * The engine for Linux with FFI, as the rest of the program sees it: control.
 * In: policies and addresses. Out: listeners and counts. Sockets are made here
 * and served by data threads (`thread.ts`); no byte passes through this thread.
 *
 * @module
 */
import type { Clock } from "../../../watch/clock.ts";
import type {
  Engine,
  Forwarder,
  ForwardingPolicy,
  ListenAddress,
  NamespaceOpener,
  RedirectedListener,
} from "../engine.ts";
import { ListeningSockets } from "../listening_sockets.ts";
import { DIAL_TIMEOUTS_MS } from "../portable/dial.ts";
import { LINGER_MS } from "../portable/splice.ts";
import {
  UDP_FLOWS_MAX,
  UDP_FLOWS_PER_PORT_MAX,
  UDP_TIMEOUT_MS,
} from "../udp_flows.ts";
import { DataThreads } from "./data_threads.ts";
import { SpliceForwarder } from "./forwarder.ts";
import { type Libc, openLibc } from "./libc.ts";
import { ListenerSet, listenForRedirected } from "./listener_set.ts";
import { EngineLog } from "./engine_log.ts";
import type { Report } from "./messages.ts";
import { LineAllocator } from "./shared_counters.ts";
import { SpliceUdpForwarder } from "./udp_forwarder.ts";
import { UdpListeners } from "./udp_listeners.ts";

/** How many data threads there are; ./README.md has the measurements. */
export const WORKERS = 1;

export interface SpliceEngineOptions {
  readonly clock: Clock;
  /** Without it, nothing can listen in another network namespace. */
  readonly namespaces?: NamespaceOpener;
  /** Where its listeners come from; without it, it makes them itself. */
  readonly sockets?: ListeningSockets | undefined;
  /** Data threads; {@linkcode WORKERS}. */
  readonly workers?: number;
  /** Milliseconds for the first, second … dial; `DIAL_TIMEOUTS_MS`. */
  readonly dialTimeoutsMs?: readonly number[];
  /** Milliseconds of silence after one end; `LINGER_MS`. */
  readonly lingerMs?: number;
  /** Milliseconds of silence that end a UDP flow; `UDP_TIMEOUT_MS`. */
  readonly udpTimeoutMs?: number;
  /** UDP flows of one ServicePort; `UDP_FLOWS_PER_PORT_MAX`. */
  readonly udpFlowsPerPortMax?: number;
  /** UDP flows of all ServicePorts; `UDP_FLOWS_MAX`. */
  readonly udpFlowsMax?: number;
  /** Listens on addresses that are not this machine's (yet), too. */
  readonly freeBind?: boolean;
}

/** An engine with threads, which end with it. */
export interface SpliceEngine extends Engine, AsyncDisposable {
  readonly name: "splice";
  /**
   * Resolves when its threads run.
   *
   * @throws what keeps one from running
   */
  readonly ready: Promise<void>;
  /**
   * Never resolves.
   *
   * @throws when a thread has died, after which the program should end
   */
  readonly failed: Promise<never>;
  listenForRedirected(address: ListenAddress): Promise<RedirectedListener>;
  tellConnections(isTold: boolean): void;
}

/**
 * Makes the engine. Dispose it: that ends its connections, and its threads,
 * without which the program does not end.
 *
 * @throws {NoLibcError} where it cannot run: other systems, or no permission
 * @throws {Error} if there are no descriptors left for its threads
 */
export function createSpliceEngine(options: SpliceEngineOptions): SpliceEngine {
  const libc = openLibc();
  try {
    return new LinuxEngine(libc, options);
  } catch (error) {
    libc.close();
    throw error;
  }
}

/** What forwarders and listeners share. */
export interface EngineParts {
  readonly libc: Libc;
  readonly threads: DataThreads;
  readonly lines: LineAllocator;
  readonly listeners: ListenerSet;
  readonly log: EngineLog;
  /** How many threads there are. */
  readonly workers: number;
}

class LinuxEngine implements SpliceEngine {
  readonly name = "splice";
  readonly #parts: EngineParts;
  readonly #udpListeners: UdpListeners;
  readonly #forwarders = new Map<
    number,
    SpliceForwarder | SpliceUdpForwarder
  >();
  #lastPort = 0;
  #disposed: Promise<void> | undefined;

  constructor(libc: Libc, options: SpliceEngineOptions) {
    const workers = options.workers ?? WORKERS;
    const threads = new DataThreads({
      count: workers,
      libc,
      dialTimeoutsMs: options.dialTimeoutsMs ?? DIAL_TIMEOUTS_MS,
      lingerMs: options.lingerMs ?? LINGER_MS,
      udp: {
        timeoutMs: options.udpTimeoutMs ?? UDP_TIMEOUT_MS,
        limits: {
          perPort: options.udpFlowsPerPortMax ?? UDP_FLOWS_PER_PORT_MAX,
          total: options.udpFlowsMax ?? UDP_FLOWS_MAX,
        },
      },
      receive: (report) => this.#receive(report),
    });
    const { namespaces, freeBind = false } = options;
    const sockets = options.sockets ?? new ListeningSockets(libc, namespaces);
    this.#udpListeners = new UdpListeners({ threads, sockets, freeBind });
    this.#parts = {
      libc,
      threads,
      workers,
      lines: new LineAllocator((memory) =>
        threads.send({ type: "table", memory }, "all")
      ),
      listeners: new ListenerSet({
        threads,
        sockets,
        freeBind,
      }),
      log: new EngineLog(options.clock),
    };
  }

  get ready(): Promise<void> {
    return this.#parts.threads.ready;
  }

  get failed(): Promise<never> {
    return this.#parts.threads.failed;
  }

  forwarder(policy: ForwardingPolicy): Forwarder {
    const port = ++this.#lastPort;
    const forget = () => this.#forwarders.delete(port);
    const udpListeners = this.#udpListeners;
    const options = { ...this.#parts, udpListeners, forget };
    const forwarder = policy.protocol === "UDP"
      ? new SpliceUdpForwarder(port, policy, options)
      : new SpliceForwarder(port, policy, options);
    this.#forwarders.set(port, forwarder);
    return forwarder;
  }

  setClusterSources(cidrs: readonly string[]): void {
    this.#parts.threads.send({ type: "cluster sources", cidrs }, "all");
  }

  tellConnections(isTold: boolean): void {
    this.#parts.threads.send({ type: "tell connections", isTold }, "all");
  }

  async listenForRedirected(
    address: ListenAddress,
  ): Promise<RedirectedListener> {
    await this.ready;
    return listenForRedirected(this.#parts, address);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposed ??= this.#dispose();
  }

  async #dispose(): Promise<void> {
    const { threads, listeners, log, libc } = this.#parts;
    listeners.close();
    await threads[Symbol.asyncDispose]();
    this.#udpListeners[Symbol.dispose]();
    for (const forwarder of this.#forwarders.values()) forwarder.engineClosed();
    log[Symbol.dispose]();
    libc.close();
  }

  #receive(report: Report): void {
    switch (report.type) {
      case "drained":
        return this.#forwarders.get(report.port)?.drained();
      case "endpoint gone":
        return this.#forwarders.get(report.port)?.endpointGone(report);
      case "connection ended": {
        const { port, ...ended } = report.ended;
        const service = this.#forwarders.get(port)?.name;
        this.#parts.log.connectionEnded({ service, ...ended });
        return;
      }
      case "flow ended": {
        const { port, ...ended } = report.ended;
        const service = this.#forwarders.get(port)?.name;
        this.#parts.log.flowEnded({ service, ...ended });
        return;
      }
      case "udp listener closed":
        return this.#udpListeners.closed(report.listener);
      case "events":
        for (const event of report.events) {
          const { port } = event;
          const of = port === undefined
            ? undefined
            : this.#forwarders.get(port);
          this.#parts.log.write(event, of?.name);
        }
    }
  }
}

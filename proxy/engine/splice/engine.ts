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
import { DataThreads } from "./data_threads.ts";
import { SpliceForwarder } from "./forwarder.ts";
import { type Libc, openLibc } from "./libc.ts";
import { ListenerSet, listenForRedirected } from "./listener_set.ts";
import { EngineLog } from "./engine_log.ts";
import type { Report } from "./messages.ts";
import { LineAllocator } from "./shared_counters.ts";

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
  /** Forwards UDP; without one, `listen` for UDP throws. */
  readonly udp?: Engine;
  /** Milliseconds for the first, second … dial; `DIAL_TIMEOUTS_MS`. */
  readonly dialTimeoutsMs?: readonly number[];
  /** Milliseconds of silence after one end; `LINGER_MS`. */
  readonly lingerMs?: number;
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
 */
export function createSpliceEngine(options: SpliceEngineOptions): SpliceEngine {
  const libc = openLibc();
  return new LinuxEngine(libc, options);
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
  readonly #udp: Engine | undefined;
  readonly #forwarders = new Map<number, SpliceForwarder>();
  #lastPort = 0;
  #disposed: Promise<void> | undefined;

  constructor(libc: Libc, options: SpliceEngineOptions) {
    const workers = options.workers ?? WORKERS;
    this.#udp = options.udp;
    const threads = new DataThreads({
      count: workers,
      libc,
      dialTimeoutsMs: options.dialTimeoutsMs ?? DIAL_TIMEOUTS_MS,
      lingerMs: options.lingerMs ?? LINGER_MS,
      receive: (report) => this.#receive(report),
    });
    this.#parts = {
      libc,
      threads,
      workers,
      lines: new LineAllocator((memory) =>
        threads.send({ type: "table", memory }, "all")
      ),
      listeners: new ListenerSet({
        threads,
        sockets: options.sockets ??
          new ListeningSockets(libc, options.namespaces),
        freeBind: options.freeBind ?? false,
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
    if (policy.protocol === "UDP" && this.#udp !== undefined) {
      return this.#udp.forwarder(policy);
    }
    const port = ++this.#lastPort;
    const forwarder = new SpliceForwarder(port, policy, {
      ...this.#parts,
      forget: () => this.#forwarders.delete(port),
    });
    this.#forwarders.set(port, forwarder);
    return forwarder;
  }

  setClusterSources(cidrs: readonly string[]): void {
    this.#udp?.setClusterSources(cidrs);
    const { threads } = this.#parts;
    threads.send({ type: "cluster sources", cidrs }, "acceptor");
  }

  tellConnections(isTold: boolean): void {
    const { threads } = this.#parts;
    threads.send({ type: "tell connections", isTold }, "acceptor");
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

/**
 * The forwarding of one TCP ServicePort, from the control thread's side: tells the
 * data threads what to do, and reads what they count. Who follows a connection
 * goes to `service_port.ts`.
 *
 * @module
 */
import type {
  Forwarder,
  ForwarderStats,
  ForwardingPolicy,
  ListenAddress,
  Listener,
  ListenOptions,
} from "../engine.ts";
import { EndpointLines } from "./endpoint_lines.ts";
import type { EngineParts } from "./engine.ts";
import { type Line, PORT_CELLS } from "./shared_counters.ts";
import { TIMING_LINES, Timings } from "./timings.ts";

export interface SpliceForwarderOptions extends EngineParts {
  /** Nothing is left of it. */
  readonly forget: () => void;
}

export class SpliceForwarder implements Forwarder {
  /** By which the data threads know it. */
  readonly port: number;
  readonly #options: SpliceForwarderOptions;
  /** One for each thread; the first counts connections. */
  readonly #lineNumbers: readonly number[];
  readonly #lines: readonly Line[];
  readonly #timingNumbers: readonly number[];
  readonly #timings: Timings;
  readonly #endpoints: EndpointLines;
  readonly #listeners = new Set<Listener>();
  readonly #drained = Promise.withResolvers<void>();
  #policy: ForwardingPolicy;
  #ageLimitMs = 0;
  #isClosed = false;
  /** What `stats` says when nothing is left. */
  #final: ForwarderStats | undefined;

  constructor(
    port: number,
    policy: ForwardingPolicy,
    options: SpliceForwarderOptions,
  ) {
    const { lines, threads, workers } = options;
    this.port = port;
    this.#options = options;
    this.#policy = policy;
    this.#lineNumbers = Array.from({ length: workers }, () => lines.take());
    this.#lines = this.#lineNumbers.map((number) =>
      lines.counters.line(number)
    );
    this.#timingNumbers = Array.from(
      { length: TIMING_LINES },
      () => lines.take(),
    );
    this.#endpoints = new EndpointLines(lines);
    this.#timings = new Timings(lines.counters, this.#timingNumbers);
    threads.send({ type: "port", port, lines: this.#lineNumbers }, "all");
    this.update(policy);
  }

  get name(): string {
    return this.#policy.name;
  }

  update(policy: ForwardingPolicy): void {
    const { threads } = this.#options;
    const { port } = this;
    if (this.#final !== undefined) return;
    this.#policy = policy;
    if (policy.maxConnectionAgeMs !== this.#ageLimitMs) {
      const limitMs = this.#ageLimitMs = policy.maxConnectionAgeMs;
      threads.send({ type: "age limit", port, limitMs }, "all");
    }
    threads.send({
      type: "policy",
      port,
      policy,
      ...this.#endpoints.update(policy.endpoints),
      timings: this.#timingNumbers,
    }, "acceptor");
  }

  async listen(
    address: ListenAddress,
    options: ListenOptions,
  ): Promise<Listener> {
    await this.#options.threads.ready;
    if (this.#isClosed) {
      throw new Error(`Cannot listen: "${this.name}" is closed`);
    }
    const route = { port: this.port, options };
    const listener = this.#options.listeners.listen(address, route);
    this.#listeners.add(listener);
    return {
      address: listener.address,
      close: () => {
        this.#listeners.delete(listener);
        listener.close();
      },
    };
  }

  stats(): ForwarderStats {
    if (this.#final !== undefined) return this.#final;
    const sum = (cell: number) =>
      this.#lines.reduce((total, line) => total + line.get(cell), 0);
    return {
      connectionsOpen: sum(PORT_CELLS.connectionsOpen),
      connectionsTotal: sum(PORT_CELLS.connectionsTotal),
      connectionsFailed: sum(PORT_CELLS.connectionsFailed),
      connectionsRefused: sum(PORT_CELLS.connectionsRefused),
      flowsEvicted: 0,
      datagramsDropped: 0,
      affinityEntries: sum(PORT_CELLS.affinityEntries),
      dialFailures: sum(PORT_CELLS.dialFailures),
      ...this.#timings.stats(),
      bytesToEndpoints: sum(PORT_CELLS.bytesToEndpoints),
      bytesToClients: sum(PORT_CELLS.bytesToClients),
      endpoints: this.#endpoints.stats(),
    };
  }

  async close(signal: AbortSignal): Promise<void> {
    const { threads } = this.#options;
    const { port } = this;
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
    if (!this.#isClosed) {
      this.#isClosed = true;
      threads.send({ type: "drain", port }, "acceptor");
    }
    const cut = () => threads.send({ type: "cut", port }, "all");
    if (signal.aborted) cut();
    else signal.addEventListener("abort", cut, { once: true });
    await this.#drained.promise;
    signal.removeEventListener("abort", cut);
  }

  /** The acceptor: no connection is left, and none will come. */
  drained(): void {
    const { threads, lines, forget } = this.#options;
    this.#final = this.stats();
    for (const number of [...this.#lineNumbers, ...this.#timingNumbers]) {
      lines.giveBack(number);
    }
    this.#endpoints.giveBack();
    threads.send({ type: "forget", port: this.port }, "all");
    forget();
    this.#drained.resolve();
  }

  /** The threads are no more. */
  engineClosed(): void {
    this.#isClosed = true;
    this.#drained.resolve();
  }

  endpointGone(
    gone: { readonly key: string; readonly generation: number },
  ): void {
    this.#endpoints.gone(gone);
  }
}

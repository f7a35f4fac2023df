/**
 * The forwarding of one UDP ServicePort, from the control thread's side: binds
 * its listeners, tells the data thread what to do, and reads what it counts.
 * Who follows a datagram goes to `udp_listener.ts`.
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
import type { UdpListeners } from "./udp_listeners.ts";
import { type Line, PORT_CELLS, UDP_CELLS } from "./shared_counters.ts";

export interface SpliceUdpForwarderOptions extends EngineParts {
  readonly udpListeners: UdpListeners;
  /** Nothing is left of it. */
  readonly forget: () => void;
}

export class SpliceUdpForwarder implements Forwarder {
  /** By which the data thread knows it. */
  readonly port: number;
  readonly #options: SpliceUdpForwarderOptions;
  readonly #lineNumbers: readonly [number, number];
  readonly #line: Line;
  readonly #udpLine: Line;
  readonly #endpoints: EndpointLines;
  readonly #listeners = new Set<Listener>();
  readonly #drained = Promise.withResolvers<void>();
  #policy: ForwardingPolicy;
  #isClosed = false;
  /** What `stats` says when nothing is left. */
  #final: ForwarderStats | undefined;

  constructor(
    port: number,
    policy: ForwardingPolicy,
    options: SpliceUdpForwarderOptions,
  ) {
    const { lines } = options;
    this.port = port;
    this.#options = options;
    this.#policy = policy;
    this.#lineNumbers = [lines.take(), lines.take()];
    this.#line = lines.counters.line(this.#lineNumbers[0]);
    this.#udpLine = lines.counters.line(this.#lineNumbers[1]);
    this.#endpoints = new EndpointLines(lines);
    this.update(policy);
  }

  get name(): string {
    return this.#policy.name;
  }

  update(policy: ForwardingPolicy): void {
    if (this.#isClosed) return;
    this.#policy = policy;
    this.#options.threads.send({
      type: "udp policy",
      port: this.port,
      policy,
      ...this.#endpoints.update(policy.endpoints),
      portLines: this.#lineNumbers,
    }, "udp");
  }

  async listen(
    address: ListenAddress,
    options: ListenOptions,
  ): Promise<Listener> {
    const { threads, udpListeners } = this.#options;
    await threads.ready;
    const bound = await udpListeners.listen(address, {
      port: this.port,
      options,
      isWanted: () => !this.#isClosed,
    });
    if (bound === undefined) {
      throw new Error(`Cannot listen: "${this.name}" is closed`);
    }
    const listener: Listener = {
      address: bound.address,
      close: () => {
        this.#listeners.delete(listener);
        bound.close();
      },
    };
    this.#listeners.add(listener);
    return listener;
  }

  stats(): ForwarderStats {
    if (this.#final !== undefined) return this.#final;
    const get = (cell: number) => this.#line.get(cell);
    return {
      connectionsOpen: get(PORT_CELLS.connectionsOpen),
      connectionsTotal: get(PORT_CELLS.connectionsTotal),
      connectionsFailed: get(PORT_CELLS.connectionsFailed),
      connectionsRefused: get(PORT_CELLS.connectionsRefused),
      flowsEvicted: this.#udpLine.get(UDP_CELLS.flowsEvicted),
      datagramsDropped: this.#udpLine.get(UDP_CELLS.datagramsDropped),
      affinityEntries: get(PORT_CELLS.affinityEntries),
      dialFailures: get(PORT_CELLS.dialFailures),
      dialTimeouts: 0,
      bytesToEndpoints: get(PORT_CELLS.bytesToEndpoints),
      bytesToClients: get(PORT_CELLS.bytesToClients),
      endpoints: this.#endpoints.stats(),
    };
  }

  /** Flows end with their listeners: there is nothing to wait for. */
  async close(_signal: AbortSignal): Promise<void> {
    for (const listener of [...this.#listeners]) listener.close();
    if (!this.#isClosed) {
      this.#isClosed = true;
      await this.#options.udpListeners.answered();
      this.#options.threads.send({ type: "udp close", port: this.port }, "udp");
    }
    await this.#drained.promise;
  }

  /** The data thread: all its sockets are closed. */
  drained(): void {
    const { lines, forget } = this.#options;
    this.#final = this.stats();
    for (const number of this.#lineNumbers) lines.giveBack(number);
    this.#endpoints.giveBack();
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

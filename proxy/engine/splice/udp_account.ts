/**
 * What a UDP ServicePort counts and has to say. In: what happened. Out: counter
 * lines in shared memory, and events for the log.
 *
 * @module
 */
import { type ClientAddress, endpointKey } from "../../load_balancer.ts";
import type { ListenAddress } from "../engine.ts";
import type { Endpoint } from "./endpoint.ts";
import type { CountedEvent } from "./messages.ts";
import {
  type Line,
  PORT_CELLS,
  type SharedCounters,
  UDP_CELLS,
} from "./shared_counters.ts";

export class UdpAccount {
  readonly #port: number;
  readonly #write: (event: Omit<CountedEvent, "count">) => void;
  /** The one that every ServicePort has. */
  readonly line: Line;
  readonly #udpLine: Line;

  /** @param options.lines the numbers of its two lines */
  constructor(
    port: number,
    options: {
      readonly counters: SharedCounters;
      readonly lines: readonly [number, number];
      readonly log: (event: Omit<CountedEvent, "count">) => void;
    },
  ) {
    this.#port = port;
    this.#write = options.log;
    this.line = options.counters.line(options.lines[0]);
    this.#udpLine = options.counters.line(options.lines[1]);
  }

  arrived(): void {
    this.line.add(PORT_CELLS.connectionsTotal, 1);
  }

  opened(): void {
    this.line.add(PORT_CELLS.connectionsOpen, 1);
  }

  ended(): void {
    this.line.add(PORT_CELLS.connectionsOpen, -1);
  }

  /** @param open how many flows there are */
  evicted(open: number): void {
    this.#udpLine.add(UDP_CELLS.flowsEvicted, 1);
    this.#log("evicted", "Ended the oldest UDP flow to make room", { open });
  }

  notSent(endpoint: Endpoint, cause: string): void {
    this.line.add(PORT_CELLS.dialFailures, 1);
    endpoint.dialFailed();
    this.#log(
      `send ${endpoint.key}`,
      "Cannot send to endpoint; trying the next",
      { endpoint: endpoint.key, cause },
    );
  }

  turnedAway(client: ClientAddress, reason: string): void {
    this.line.add(PORT_CELLS.connectionsRefused, 1);
    this.#log(`refused ${reason}`, "Turned a client away", {
      client: endpointKey(client),
      reason,
    });
  }

  failed(reason: string, cause?: string): void {
    this.line.add(PORT_CELLS.connectionsFailed, 1);
    this.#log(
      `failed ${reason}`,
      "Cannot reach any endpoint; the datagram was dropped",
      { reason, ...(cause === undefined ? {} : { cause }) },
    );
  }

  dropped(
    count: number,
    where: string,
    properties: Record<string, unknown>,
  ): void {
    this.#udpLine.add(UDP_CELLS.datagramsDropped, count);
    this.#log(`dropped ${where}`, `Dropped a datagram ${where}`, properties);
  }

  cannotReceive({ ip, port }: ListenAddress, cause: string): void {
    this.#log("receive", "Cannot receive datagrams; trying again", {
      address: ip,
      port,
      cause,
    });
  }

  #log(
    kind: string,
    message: string,
    properties: Record<string, unknown>,
  ): void {
    this.#write({ port: this.#port, kind, message, properties });
  }
}

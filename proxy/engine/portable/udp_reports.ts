/**
 * What becomes of datagrams that nobody gets: counted, and said with a count and
 * not one by one. In: what happened. Out: counters, lines of log.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Clock } from "../../../watch/clock.ts";
import { endpointKey } from "../../load_balancer.ts";
import { RepeatedLog } from "../../repeated_log.ts";
import type { ForwarderCounters } from "../counters.ts";
import type { EndpointAddress } from "../engine.ts";

const logger = getLogger("engine");

export interface UdpReportsOptions {
  readonly clock: Clock;
  readonly counters: ForwarderCounters;
  /** Of the ServicePort, as it is now. */
  readonly service: () => string;
}

export class UdpReports implements Disposable {
  /** For what sockets have to say themselves. */
  readonly log: RepeatedLog;
  readonly #counters: ForwarderCounters;

  constructor({ clock, counters, service }: UdpReportsOptions) {
    this.#counters = counters;
    this.log = new RepeatedLog({
      clock,
      write: (message, properties) =>
        logger.warn(message, { service: service(), ...properties }),
    });
  }

  /** A client that may not come in, or that there is no endpoint for. */
  turnedAway(client: EndpointAddress, reason: string): void {
    this.#counters.connectionsRefused++;
    this.log.report(`refused ${reason}`, "Turned a client away", {
      client: endpointKey(client),
      reason,
    });
  }

  /** An endpoint that the next one is tried instead of. */
  notSent(endpoint: string, cause: unknown): void {
    this.#counters.dialFailed(endpoint);
    this.log.report(
      `send ${endpoint}`,
      "Cannot send to endpoint; trying the next",
      { endpoint, cause },
    );
  }

  /** No endpoint is left for a datagram. */
  failed(reason: string, cause?: unknown): void {
    this.#counters.connectionsFailed++;
    this.log.report(
      `failed ${reason}`,
      "Cannot reach any endpoint; the datagram was dropped",
      { reason, ...(cause === undefined ? {} : { cause }) },
    );
  }

  /** A datagram of a flow that there is. */
  dropped(where: string, properties: Record<string, unknown>): void {
    this.#counters.datagramsDropped++;
    this.log.report(
      `dropped ${where}`,
      `Dropped a datagram ${where}`,
      properties,
    );
  }

  evicted(): void {
    this.#counters.flowsEvicted++;
    this.log.report("evicted", "Ended the oldest UDP flow to make room", {
      open: this.#counters.connectionsOpen,
    });
  }

  [Symbol.dispose](): void {
    this.log[Symbol.dispose]();
  }
}

/**
 * An endpoint as the accepting thread knows it: what a dial needs, ready made,
 * and where its connections are counted. In: a policy's endpoint. Out: counts,
 * and word when nobody needs it any more.
 *
 * @module
 */
import type { EndpointAddress } from "../engine.ts";
import { encodeSockaddr } from "./layouts.ts";
import { ENDPOINT_CELLS, type Line } from "./shared_counters.ts";

export class Endpoint implements EndpointAddress {
  readonly ip: string;
  readonly port: number;
  readonly key: string;
  /** What `connect` takes. */
  readonly sockaddr: Uint8Array<ArrayBuffer>;
  readonly #line: Line;
  /**
   * Until when, by the loop's clock, no dial of it need be looked at for having
   * met itself: its address was not ours, though it may become so.
   */
  isElsewhereUntil = 0;
  /** Connections and dials. */
  #uses = 0;

  constructor(address: EndpointAddress, options: { key: string; line: Line }) {
    this.ip = address.ip;
    this.port = address.port;
    this.key = options.key;
    this.sockaddr = encodeSockaddr(address);
    this.#line = options.line;
  }

  get isInUse(): boolean {
    return this.#uses > 0;
  }

  dialled(): void {
    this.#uses++;
  }

  /** The dial led to no connection. */
  undialled(): void {
    this.#uses--;
  }

  dialFailed(): void {
    this.#line.add(ENDPOINT_CELLS.dialFailures, 1);
  }

  /** @param time milliseconds since 1970; 0: it is not ejected */
  ejectedUntil(time: number): void {
    this.#line.set(ENDPOINT_CELLS.ejectedUntil, time);
  }

  opened(): void {
    this.#line.add(ENDPOINT_CELLS.connectionsOpen, 1);
    this.#line.add(ENDPOINT_CELLS.connectionsTotal, 1);
  }

  closed(): void {
    this.#uses--;
    this.#line.add(ENDPOINT_CELLS.connectionsOpen, -1);
  }
}

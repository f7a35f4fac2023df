/**
 * A flow: one client at one listener, one endpoint, and a connected socket
 * towards it. Here is what it is made of, and what its socket says; what is
 * done about it is `udp_service_port.ts`'s.
 *
 * @module
 */
import type { TimedFlow } from "../udp_flows.ts";
import type { Endpoint } from "./endpoint.ts";
import { EPOLLERR, EPOLLIN } from "./libc.ts";
import type { EventHandler } from "./poller.ts";
import type { KeptDatagrams } from "./udp_kept.ts";
import type { UdpListener } from "./udp_listener.ts";

/**
 * What a flow keeps of what its endpoint has not answered yet, in bytes: both
 * questions that a resolver asks from one port (A and AAAA), with room. An
 * endpoint that refuses says so after the datagram has left.
 */
export const KEPT_BYTES_MAX = 4_096;

/** A client, as a listener knows it. */
export interface UdpClient {
  readonly listener: UdpListener;
  /** The same for the same address and port; see `DatagramBatch.nameKey`. */
  readonly key: number | string;
  /** What `sendto` takes. */
  readonly sockaddr: Uint8Array<ArrayBuffer>;
}

/** Told what happens at a flow's socket. */
export interface FlowOwner {
  /** Answers may be waiting. */
  answered(flow: UdpFlow): void;
  /** The kernel says that its endpoint cannot be reached. */
  refused(flow: UdpFlow): void;
}

export class UdpFlow implements TimedFlow<UdpFlow>, EventHandler {
  usedAt = 0;
  older: UdpFlow | undefined;
  newer: UdpFlow | undefined;
  readonly client: UdpClient;
  readonly endpoint: Endpoint;
  readonly fd: number;
  /** Endpoints that what it carries could not be sent to. */
  readonly tried: ReadonlySet<string> | undefined;
  isEnded = false;
  /** Its endpoint works, as far as can be known. */
  isProven = false;
  /** Milliseconds, the loop's. */
  readonly openedAt: number;
  readonly #owner: FlowOwner;
  /** In turn: where it is kept, how long it is. Undefined: it was answered. */
  #kept: number[] | undefined = [];
  #keptBytes = 0;

  constructor(
    client: UdpClient,
    options: {
      readonly owner: FlowOwner;
      readonly endpoint: Endpoint;
      readonly fd: number;
      readonly tried: ReadonlySet<string> | undefined;
      readonly now: number;
    },
  ) {
    this.client = client;
    this.#owner = options.owner;
    this.endpoint = options.endpoint;
    this.fd = options.fd;
    this.tried = options.tried;
    this.openedAt = options.now;
  }

  /** Whether a datagram of this length is still to be kept. */
  keeps(bytes: number): boolean {
    return this.#kept !== undefined &&
      this.#keptBytes + bytes <= KEPT_BYTES_MAX;
  }

  /** @param at where; see `KeptDatagrams` */
  keep(at: number, bytes: number): void {
    this.#kept?.push(at, bytes);
    this.#keptBytes += bytes;
  }

  /** There was an answer: what is lost from now on, is lost. */
  keepNoMore(): void {
    this.#kept = undefined;
  }

  /** What was sent and never answered, in order. */
  kept(ring: KeptDatagrams): readonly Uint8Array<ArrayBuffer>[] {
    const datagrams: Uint8Array<ArrayBuffer>[] = [];
    const kept = this.#kept ?? [];
    for (let index = 0; index < kept.length; index += 2) {
      const datagram = ring.get(kept[index]!, kept[index + 1]!);
      if (datagram !== undefined) datagrams.push(datagram);
    }
    return datagrams;
  }

  onEvents(events: number): void {
    // What came before the refusal is still an answer.
    if ((events & EPOLLIN) !== 0) this.#owner.answered(this);
    if ((events & EPOLLERR) !== 0 && !this.isEnded) this.#owner.refused(this);
  }
}

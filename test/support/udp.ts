/**
 * Real UDP peers on loopback for tests: a socket whose datagrams can be awaited
 * one by one, and servers that answer with their name. Everything is closed by
 * `await using`.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { EndpointAddress } from "../../proxy/engine/engine.ts";
import { text, within } from "./tcp.ts";

/** Generous: a busy machine must not look like a datagram that was lost. */
const ANSWER_LIMIT_MS = 10_000;

export interface Received {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly from: EndpointAddress;
}

/** A socket; with a port of its own for as long as it lives. */
export class UdpPeer implements AsyncDisposable {
  readonly address: EndpointAddress;
  /** How many datagrams came. */
  received = 0;
  readonly #socket: Deno.DatagramConn;
  readonly #loop: Promise<void>;
  #closed = false;
  readonly #arrived: Received[] = [];
  #waiting: ((received: Received) => void) | undefined;

  /** @param handle takes every datagram; without it `receive` does */
  constructor(
    address: Partial<EndpointAddress> = {},
    handle?: (received: Received, peer: UdpPeer) => void,
  ) {
    const { ip = "127.0.0.1", port = 0 } = address;
    this.#socket = Deno.listenDatagram({
      transport: "udp",
      hostname: ip,
      port,
    });
    this.address = { ip, port: (this.#socket.addr as Deno.NetAddr).port };
    this.#loop = this.#receiveAll(
      handle ?? ((received) => {
        if (this.#waiting === undefined) this.#arrived.push(received);
        else this.#waiting(received);
        this.#waiting = undefined;
      }),
    );
  }

  async send(
    data: Uint8Array<ArrayBuffer> | string,
    { ip, port }: EndpointAddress,
  ): Promise<void> {
    const bytes = typeof data === "string" ? text(data) : data;
    await this.#socket.send(bytes, { transport: "udp", hostname: ip, port });
  }

  /** The next datagram; for one caller at a time. */
  receive(): Promise<Received> {
    const next = this.#arrived.shift();
    if (next !== undefined) return Promise.resolve(next);
    return within(
      ANSWER_LIMIT_MS,
      new Promise((resolve) => this.#waiting = resolve),
    );
  }

  /** Sends, and waits for the answer, which must come from that address. */
  async ask(
    address: EndpointAddress,
    data: Uint8Array<ArrayBuffer> | string = "",
  ): Promise<Uint8Array<ArrayBuffer>> {
    await this.send(data, address);
    const answer = await this.receive();
    assert.deepEqual(answer.from, { ip: address.ip, port: address.port });
    return answer.data;
  }

  /** The name in the answer of a {@linkcode namedPeer}. */
  async askName(address: EndpointAddress): Promise<string> {
    return new TextDecoder().decode(await this.ask(address));
  }

  async #receiveAll(
    handle: (received: Received, peer: UdpPeer) => void,
  ): Promise<void> {
    const buffer = new Uint8Array(65_536);
    try {
      for (;;) {
        const [data, from] = await this.#socket.receive(buffer);
        const { hostname, port } = from as Deno.NetAddr;
        this.received++;
        handle({ data: data.slice(), from: { ip: hostname, port } }, this);
      }
    } catch (error) {
      const closed = error instanceof Deno.errors.Interrupted ||
        error instanceof Deno.errors.BadResource;
      if (!closed) throw error;
    }
  }

  /** Closes it; the second time too. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) this.#socket.close();
    this.#closed = true;
    await this.#loop;
  }
}

/** Sends every datagram back. */
export function echoPeer(address?: Partial<EndpointAddress>): UdpPeer {
  return new UdpPeer(address, ({ data, from }, peer) => peer.send(data, from));
}

/** Answers every datagram with its name. */
export function namedPeer(
  name: string,
  address?: Partial<EndpointAddress>,
): UdpPeer {
  return new UdpPeer(address, ({ from }, peer) => peer.send(name, from));
}

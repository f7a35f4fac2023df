/**
 * One datagram socket: it receives until it is closed, and sends without ever
 * failing the caller. In: an address, and a function for what arrives. Out:
 * datagrams, whole. Knows neither Services nor flows.
 *
 * `Deno.listenDatagram` is marked unstable (`"unstable": ["net"]` in deno.json)
 * and worth it: `node:dgram` costs two to three times the CPU for each datagram,
 * since it allocates and clears 64 KiB for each receive (see ../README.md).
 *
 * @module
 */
import type { Clock } from "../../../watch/clock.ts";
import type { RepeatedLog } from "../../repeated_log.ts";
import type { ListenAddress, NamespaceOpener } from "../engine.ts";
import { openAt } from "../network_namespaces.ts";
import { isExhausted } from "./errors.ts";
import type { ReceiveBuffers } from "./udp_buffers.ts";

/**
 * What may wait to be sent through one socket, in bytes: the kernel takes
 * datagrams at once until its queue towards a slow device is full, and then
 * ours must not grow without end. Datagrams beyond it are dropped, as a
 * router would.
 */
export const SEND_QUEUE_MAX_BYTES = 4 * 1024 * 1024;

/** An empty datagram takes memory too. */
const DATAGRAM_OVERHEAD_BYTES = 256;

/** Pause after a receive that failed, in milliseconds. */
const RECEIVE_PAUSE_MS = 100;

export type SendResult =
  /** The kernel has it. */
  | { readonly type: "sent" }
  /** The socket was closed meanwhile. */
  | { readonly type: "closed" }
  /**
   * Neither end is to blame: larger than the way allows, too many waiting, or
   * this machine is out of memory.
   */
  | {
    readonly type: "dropped";
    readonly reason: "too large" | "queue full" | "exhausted";
  }
  /** There is no way to the receiver: no route, a firewall, a wrong address. */
  | { readonly type: "failed"; readonly cause: unknown };

const SENT: SendResult = { type: "sent" };
const CLOSED: SendResult = { type: "closed" };
const QUEUE_FULL: SendResult = { type: "dropped", reason: "queue full" };

export interface UdpSocketOptions {
  readonly clock: Clock;
  readonly log: RepeatedLog;
  readonly buffers: ReceiveBuffers;
  readonly namespaces?: NamespaceOpener | undefined;
  /**
   * Told of each datagram, whose memory is good until it returns, or until its
   * promise resolves: the next is received after that. Never throws.
   */
  readonly handle: (
    data: Uint8Array<ArrayBuffer>,
    from: Deno.NetAddr,
  ) => Promise<void> | void;
}

export class UdpSocket {
  readonly address: ListenAddress;
  /** Resolves when it is closed, and its descriptor free. */
  readonly ended: Promise<void>;
  readonly #socket: Deno.DatagramConn;
  readonly #options: UdpSocketOptions;
  /** Ends the pause after a receive that failed. */
  #pause: AbortController | undefined;
  #closed = false;
  #queuedBytes = 0;

  /**
   * Binds, then receives in the background.
   *
   * @throws the system's error, unchanged, if the address cannot be bound
   */
  constructor(address: ListenAddress, options: UdpSocketOptions) {
    this.#options = options;
    this.#socket = openAt(
      address,
      options.namespaces,
      () => openSocket(address),
    );
    const { hostname, port } = this.#socket.addr as Deno.NetAddr;
    this.address = { ip: hostname, port };
    this.ended = this.#receiveAll();
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Gives the port back at once. What is queued may be lost. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#pause?.abort();
    this.#socket.close();
  }

  /**
   * Hands a datagram to the kernel, which is all that can be known: nobody says
   * whether it arrived. Never rejects.
   *
   * @param data stays as it is until the promise resolves
   */
  async send(
    data: Uint8Array<ArrayBuffer>,
    to: Deno.NetAddr,
  ): Promise<SendResult> {
    if (this.#closed) return CLOSED;
    const bytes = data.length + DATAGRAM_OVERHEAD_BYTES;
    if (this.#queuedBytes + bytes > SEND_QUEUE_MAX_BYTES) return QUEUE_FULL;
    this.#queuedBytes += bytes;
    try {
      await this.#socket.send(data, to);
      return SENT;
    } catch (cause) {
      if (this.#closed) return CLOSED;
      if (isExhausted(cause)) return { type: "dropped", reason: "exhausted" };
      if (isTooLarge(cause)) return { type: "dropped", reason: "too large" };
      return { type: "failed", cause };
    } finally {
      this.#queuedBytes -= bytes;
    }
  }

  async #receiveAll(): Promise<void> {
    const { buffers, handle, log, clock } = this.#options;
    const buffer = buffers.take();
    while (!this.#closed) {
      try {
        const [data, from] = await this.#socket.receive(buffer);
        const handled = handle(
          data as Uint8Array<ArrayBuffer>,
          from as Deno.NetAddr,
        );
        if (handled !== undefined) await handled;
      } catch (cause) {
        if (this.#closed) break;
        // No error is known that Linux gives here, and a socket that died
        // silently would look like an open port that nobody answers.
        log.report("receive", "Cannot receive datagrams; trying again", {
          address: this.address.ip,
          port: this.address.port,
          cause,
        });
        this.#pause = new AbortController();
        await clock.delay(RECEIVE_PAUSE_MS, this.#pause.signal).catch(() => {});
      }
    }
    buffers.giveBack(buffer);
  }
}

function openSocket({ ip, port }: ListenAddress): Deno.DatagramConn {
  if (Deno.listenDatagram === undefined) {
    throw new Deno.errors.NotSupported(
      "Cannot open a UDP socket: Deno was started without --unstable-net",
    );
  }
  return Deno.listenDatagram({ transport: "udp", hostname: ip, port });
}

function isTooLarge(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EMSGSIZE";
}

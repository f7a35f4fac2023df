/**
 * Receives what clients send to one address. In: a bound socket. Out: runs of
 * datagrams of one client, at its ServicePort. Whatever the kernel says, it
 * goes on: a listener that died silently would look like a port that nobody
 * answers.
 *
 * @module
 */
import { ipFamily } from "../../ip.ts";
import { Admission } from "../admission.ts";
import type { ListenAddress, ListenOptions } from "../engine.ts";
import { EAGAIN, EINTR, errnoText } from "./errors.ts";
import { SOCKADDR_BYTES_MAX } from "./layouts.ts";
import { EPOLLIN, type Libc } from "./libc.ts";
import type { EventHandler, Poller } from "./poller.ts";
import { Timer, type Timers } from "./timers.ts";
import { BATCH_SLOTS, type DatagramBatch, nameBytes } from "./udp_batch.ts";
import type { UdpClient, UdpFlow } from "./udp_flow.ts";

/**
 * Clients without a flow that a round is to have, about: a flow takes a socket
 * and some 100 µs, which everybody else in this thread waits for. Where a round
 * had so many, the next receives no more datagrams than this.
 */
const NEW_CLIENTS_PER_ROUND = 4;

/** Pause after a receive that failed, in milliseconds. */
const RECEIVE_PAUSE_MS = 100;

/** What a listener asks of its ServicePort. */
export interface UdpReceiver {
  /**
   * Slots `from` to `to` (not included) of the batch are one client's.
   *
   * @param flow undefined: it has none
   * @param client makes what a new flow needs
   */
  received(
    run: { readonly from: number; readonly to: number },
    flow: UdpFlow | undefined,
    client: () => UdpClient,
  ): void;
  cannotReceive(address: ListenAddress, cause: string): void;
}

export interface UdpListenerOptions {
  readonly libc: Libc;
  readonly poller: Poller;
  readonly timers: Timers;
  readonly batch: DatagramBatch;
  /** Milliseconds, the loop's. */
  readonly now: () => number;
  readonly receiver: UdpReceiver;
  readonly address: ListenAddress;
  readonly listen: ListenOptions;
}

export class UdpListener implements EventHandler {
  readonly fd: number;
  readonly admission: Admission;
  /** Who has a flow here. */
  readonly flows = new Map<number | string, UdpFlow>();
  readonly #options: UdpListenerOptions;
  readonly #isIpv4: boolean;
  readonly #names = new NameMemory();
  readonly #resume: Timer;
  #isClosed = false;
  /** Datagrams of the next round. */
  #most = BATCH_SLOTS;

  /** Owns the socket. */
  constructor(fd: number, options: UdpListenerOptions) {
    this.fd = fd;
    this.#options = options;
    this.admission = new Admission(options.listen);
    this.#isIpv4 = ipFamily(options.address.ip) === "IPv4";
    this.#resume = new Timer(() => this.#receiveAgain());
    if (!options.poller.add(fd, EPOLLIN, this)) {
      this.#pause(options.libc.errno());
    }
  }

  /** Receives nothing any more. */
  quiet(): void {
    this.#options.timers.clear(this.#resume);
    this.#options.poller.giveAway(this.fd);
  }

  /** Nothing can be answered from it. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  close(): void {
    this.#isClosed = true;
    this.#options.timers.clear(this.#resume);
    // Another process may have it too: then closing it ends no events.
    this.#options.poller.giveAway(this.fd);
    this.#options.poller.close(this.fd);
  }

  /** Level-triggered: what one round does not receive, the next is told of. */
  onEvents(): void {
    const { batch, libc, receiver } = this.#options;
    const count = batch.receiveFromClients(this.fd, this.#most);
    if (count === -1) {
      const errno = libc.errno();
      if (errno !== EAGAIN && errno !== EINTR) this.#pause(errno);
      return;
    }
    let newClients = 0;
    for (let from = 0, to; from < count; from = to) {
      const key = batch.nameKey(from, this.#isIpv4);
      to = from + 1;
      while (to < count && batch.nameKey(to, this.#isIpv4) === key) to++;
      const at = from;
      const flow = this.flows.get(key);
      if (flow === undefined) newClients++;
      receiver.received({ from, to }, flow, () => ({
        listener: this,
        key,
        sockaddr: this.#names.copy(
          batch.names[at]!.subarray(0, nameBytes(this.#isIpv4)),
        ),
      }));
    }
    this.#most = newClients >= NEW_CLIENTS_PER_ROUND
      ? NEW_CLIENTS_PER_ROUND
      : Math.min(this.#most * 2, BATCH_SLOTS);
  }

  /** No error is known that Linux gives for long; without a pause one would
   * take all of the thread's time. */
  #pause(errno: number): void {
    const { poller, timers, receiver, address, now } = this.#options;
    receiver.cannotReceive(address, errnoText(errno));
    poller.change(this.fd, 0);
    timers.set(this.#resume, { now: now(), delayMs: RECEIVE_PAUSE_MS });
  }

  #receiveAgain(): void {
    const { poller } = this.#options;
    // It may never have been in the set: there was no memory for it.
    if (!poller.add(this.fd, EPOLLIN, this)) poller.change(this.fd, EPOLLIN);
  }
}

/** Names for which memory is allocated at once. */
const NAMES = 64;

/** Addresses of clients, cut from larger pieces: cheaper than one by one. */
class NameMemory {
  #piece = new Uint8Array(0);
  #used = 0;

  copy(name: Uint8Array): Uint8Array<ArrayBuffer> {
    if (this.#used + name.length > this.#piece.length) {
      this.#piece = new Uint8Array(NAMES * SOCKADDR_BYTES_MAX);
      this.#used = 0;
    }
    const copy = this.#piece.subarray(this.#used, this.#used + name.length);
    this.#used += name.length;
    copy.set(name);
    return copy;
  }
}

/**
 * A client and its endpoint, connected. In: two sockets. Out: word, when each
 * side has said all it had to say, or one has broken off. The semantics are
 * those of `../portable/splice.ts`, and one suite tests both; how bytes move is
 * `half.ts`.
 *
 * @module
 */
import type { Traffic } from "../counters.ts";
import { Half, type HalfOwner, type HalfTools } from "./half.ts";
import type { Poller } from "./poller.ts";
import type { WatchedSocket } from "./search.ts";
import { resetOnClose } from "./socket.ts";
import { Timer, type Timers } from "./timers.ts";

/** What the connections of one thread share. */
export interface ConnectionTools extends HalfTools {
  readonly poller: Poller;
  readonly timers: Timers;
  /** Milliseconds, see `LINGER_MS`. */
  readonly lingerMs: number;
  /** Milliseconds since some time: the start of this round of the loop. */
  readonly now: number;
}

export interface ConnectionOptions {
  readonly tools: ConnectionTools;
  readonly client: WatchedSocket;
  readonly endpoint: WatchedSocket;
  readonly traffic: Traffic;
  /** Called once; nothing of the connection is left then. */
  readonly ended: (connection: Connection) => void;
}

/** Owns both sockets, which the poller knows already. */
export class Connection implements HalfOwner {
  readonly #tools: ConnectionTools;
  readonly #traffic: Traffic;
  readonly #client: Half;
  readonly #endpoint: Half;
  readonly #ended: (connection: Connection) => void;
  #isClosed = false;
  #linger: Timer | undefined;
  #movedAt: number;
  #isAnswerDue = false;

  constructor(options: ConnectionOptions) {
    const { tools, client, endpoint } = options;
    this.#tools = tools;
    this.#traffic = options.traffic;
    this.#ended = options.ended;
    this.#movedAt = tools.now;
    this.#client = new Half(client, { tools, owner: this });
    this.#endpoint = new Half(endpoint, { tools, owner: this });
    this.#client.peer = this.#endpoint;
    this.#endpoint.peer = this.#client;
    tools.poller.handOver(client.fd, this.#client);
    tools.poller.handOver(endpoint.fd, this.#endpoint);
  }

  /** Moves what has come while the endpoint was dialled. */
  start(): void {
    this.#client.move();
    this.#endpoint.move();
  }

  /** For how long no byte has passed, in milliseconds. */
  get silentMs(): number {
    return this.#tools.now - this.#movedAt;
  }

  /**
   * Nothing is on its way here, and the last byte was the endpoint's, so that
   * it owes no answer, as far as that can be told from outside.
   */
  get isAtRest(): boolean {
    return !this.#isAnswerDue && !this.#client.isHolding &&
      !this.#endpoint.isHolding;
  }

  moved(half: Half, count: number): void {
    this.#isAnswerDue = half === this.#client;
    if (half === this.#client) this.#traffic.bytesToEndpoints += count;
    else this.#traffic.bytesToClients += count;
    this.#movedAt = this.#tools.now;
    if (this.#linger !== undefined) this.#startLinger(this.#linger);
  }

  directionEnded(half: Half): void {
    if (half.peer.hasEnded) return this.#close();
    this.#linger = new Timer(() => this.#close());
    this.#startLinger(this.#linger);
  }

  /**
   * A reset for one is a reset for the other: with an ordinary end it could not
   * tell a broken answer from a complete one.
   */
  broken(): void {
    if (this.#isClosed) return;
    resetOnClose(this.#tools.libc, this.#client.fd);
    resetOnClose(this.#tools.libc, this.#endpoint.fd);
    this.#close();
  }

  /** Ends both directions at once; bytes on the way may be lost. */
  cut(): void {
    this.#close();
  }

  #startLinger(timer: Timer): void {
    const { timers, now, lingerMs } = this.#tools;
    timers.set(timer, { now, delayMs: lingerMs });
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { timers, poller } = this.#tools;
    if (this.#linger !== undefined) timers.clear(this.#linger);
    this.#client.release();
    this.#endpoint.release();
    poller.close(this.#client.fd);
    poller.close(this.#endpoint.fd);
    this.#ended(this);
  }
}

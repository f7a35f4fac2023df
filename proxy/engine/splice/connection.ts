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
import type { Rostered } from "./roster.ts";
import type { Pair } from "./search.ts";
import { keepAlive, resetOnClose } from "./socket.ts";
import { Timed, type Timers } from "./timers.ts";

/** Older than this, both sides are asked now and then whether they live. */
const KEEP_ALIVE_AFTER_MS = 10_000;

/** What the connections of one thread share. */
export interface ConnectionTools extends HalfTools {
  readonly poller: Poller;
  readonly timers: Timers;
  /** Milliseconds, see `LINGER_MS`. */
  readonly lingerMs: number;
  /** Milliseconds since some time: the start of this round of the loop. */
  readonly now: number;
  /** Of all ServicePorts, in this thread. */
  openConnections: number;
}

/** To whom a connection belongs. */
export interface ConnectionOwner {
  readonly traffic: Traffic;
  /** Called once; both its sockets are closed. */
  ended(connection: Connection): void;
}

/**
 * Owns both sockets, which the poller knows already. It has one time limit at
 * a time: at first the one after which keep-alive begins, and after one
 * direction has ended the linger time.
 */
export class Connection extends Timed implements HalfOwner, Rostered {
  readonly #tools: ConnectionTools;
  readonly #owner: ConnectionOwner;
  readonly #client: Half;
  readonly #endpoint: Half;
  /** In milliseconds of the loop's clock. */
  readonly openedAt: number;
  /** For the owner: whom to tell of the end. */
  readonly whenEnded: () => void;
  place = -1;
  #isClosed = false;
  #isLingering = false;
  #movedAt: number;
  #isAnswerDue = false;

  constructor(pair: Pair, options: {
    readonly tools: ConnectionTools;
    readonly owner: ConnectionOwner;
    readonly whenEnded: () => void;
  }) {
    super();
    const { tools } = options;
    const { first, sentBytes } = pair;
    this.#tools = tools;
    this.#owner = options.owner;
    this.whenEnded = options.whenEnded;
    this.openedAt = this.#movedAt = tools.now;
    const client = new Half(pair.client, { tools, owner: this, first });
    const endpoint = new Half(pair.endpoint, {
      tools,
      owner: this,
      first: undefined,
    });
    this.#client = client;
    this.#endpoint = endpoint;
    client.peer = endpoint;
    endpoint.peer = client;
    tools.poller.handOver(client.fd, client);
    tools.poller.handOver(endpoint.fd, endpoint);
    const heardBytes = sentBytes + (first?.count ?? 0);
    if (heardBytes > 0) this.moved(client, heardBytes);
    const { timers, now } = tools;
    timers.set(this, { now, delayMs: KEEP_ALIVE_AFTER_MS });
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
    const { traffic } = this.#owner;
    this.#isAnswerDue = half === this.#client;
    if (this.#isAnswerDue) traffic.bytesToEndpoints += count;
    else traffic.bytesToClients += count;
    this.#movedAt = this.#tools.now;
    if (this.#isLingering) this.#linger();
  }

  directionEnded(half: Half): void {
    if (half.peer.hasEnded) this.#close();
    else this.#linger();
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

  /** One side ended, and the other was silent for the linger time; or it is
   * an old connection by now. */
  override due(): void {
    if (this.#isLingering) return this.#close();
    const { libc } = this.#tools;
    keepAlive(libc, this.#client.fd);
    keepAlive(libc, this.#endpoint.fd);
  }

  #linger(): void {
    const { timers, now, lingerMs } = this.#tools;
    this.#isLingering = true;
    timers.set(this, { now, delayMs: lingerMs });
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { timers, poller } = this.#tools;
    timers.clear(this);
    this.#client.release();
    this.#endpoint.release();
    poller.close(this.#client.fd);
    poller.close(this.#endpoint.fd);
    this.#owner.ended(this);
  }
}

/**
 * Ends connections that are too old, each at a moment when that does least
 * harm. In: connections, and what moves through them. Out: an abort. It knows
 * no sockets and no protocol: "at rest" is what can be told from outside.
 *
 * @module
 */
import type { Clock } from "../../../watch/clock.ts";

/** What passes through a connection; kept by whoever moves the bytes. */
export interface Activity {
  bytes: number;
  /** The last byte went to the endpoint: it may still owe an answer. */
  isAnswerDue: boolean;
  /** Writes that have not ended: bytes that a close would lose. */
  writes: number;
}

/** The reason that a connection's signal is aborted with. */
export const AGED = "aged";

/** At rest is who has been silent for a tenth of the age, at most a second. */
const REST_SHARE = 1 / 10;
const REST_MAX_MS = 1_000;

/** Ages are spread by a tenth, as gRPC servers do (`MaxConnectionAge`). */
const JITTER = 1 / 10;

/** At this many times its age a connection is ended, at rest or not. */
const PATIENCE = 2;

export interface AgeLimitOptions {
  readonly clock: Clock;
  /** At least 0, less than 1; `Math.random`. */
  readonly random?: () => number;
}

interface Entry {
  readonly connection: AbortController;
  readonly activity: Activity;
  readonly openedAt: number;
  /** 0.9 to 1.1: its own age is this times the limit. */
  readonly factor: number;
  /** Bytes at the last look, and when they were first that many. */
  seenBytes: number;
  restsSince: number;
}

/**
 * The age limit of one ServicePort's connections.
 *
 * 1. A connection is aborted when it is older than the limit and at rest: no
 *    byte for a moment, none on the way, and the last one came from the
 *    endpoint, so that no request is without its answer.
 * 2. At twice the limit it is aborted in any case.
 * 3. A new limit counts for connections that are open already.
 *
 * It waits (a delay of the clock) only while there are connections and a
 * limit, and looks only at those that are old.
 */
export class AgeLimit {
  readonly #clock: Clock;
  readonly #random: () => number;
  /** In the order they were opened. */
  readonly #entries = new Set<Entry>();
  #limitMs: number;
  #waiting: AbortController | undefined;

  /** @param limitMs 0: none */
  constructor(limitMs: number, options: AgeLimitOptions) {
    this.#limitMs = limitMs;
    this.#clock = options.clock;
    this.#random = options.random ?? Math.random;
  }

  change(limitMs: number): void {
    if (limitMs === this.#limitMs) return;
    this.#limitMs = limitMs;
    this.#waiting?.abort();
    this.#waiting = undefined;
    this.#wait();
  }

  /** Watches over a connection until `delete` is called with what it returns. */
  add(connection: AbortController, activity: Activity): object {
    const now = this.#clock.now();
    const entry: Entry = {
      connection,
      activity,
      openedAt: now,
      factor: 1 + JITTER * (2 * this.#random() - 1),
      seenBytes: -1,
      restsSince: now,
    };
    this.#entries.add(entry);
    this.#wait();
    return entry;
  }

  delete(entry: object): void {
    this.#entries.delete(entry as Entry);
    if (this.#entries.size > 0) return;
    this.#waiting?.abort();
    this.#waiting = undefined;
  }

  get #restMs(): number {
    return Math.min(REST_MAX_MS, this.#limitMs * REST_SHARE);
  }

  /** Looks now if one may be due, and again when the next may be. */
  #wait(): void {
    if (
      this.#limitMs === 0 || this.#waiting !== undefined ||
      this.#entries.size === 0
    ) return;
    const nextMs = this.#look();
    const waiting = this.#waiting = new AbortController();
    this.#clock.delay(Math.min(nextMs, LONGEST_DELAY_MS), waiting.signal).then(
      () => {
        if (this.#waiting !== waiting) return;
        this.#waiting = undefined;
        this.#wait();
      },
      () => {}, // the limit has changed, or nobody is left
    );
  }

  /** @returns milliseconds until it is time for the next look */
  #look(): number {
    const now = this.#clock.now();
    const earliestMs = this.#limitMs * (1 - JITTER);
    const againMs = this.#restMs / 2;
    // One that is opened after this look is not due sooner.
    let nextMs = earliestMs;
    for (const entry of this.#entries) {
      const age = now - entry.openedAt;
      const limitMs = this.#limitMs * entry.factor;
      if (age < earliestMs) {
        // As all that follow: the first of them decides.
        nextMs = Math.min(nextMs, earliestMs - age);
        break;
      }
      if (age < limitMs) nextMs = Math.min(nextMs, limitMs - age);
      else if (age >= limitMs * PATIENCE || this.#rests(entry, now)) {
        entry.connection.abort(AGED);
      } else nextMs = againMs;
    }
    return Math.max(nextMs, againMs);
  }

  #rests(entry: Entry, now: number): boolean {
    const { bytes, isAnswerDue, writes } = entry.activity;
    if (bytes !== entry.seenBytes || isAnswerDue || writes > 0) {
      entry.seenBytes = bytes;
      entry.restsSince = now;
      return false;
    }
    return now - entry.restsSince >= this.#restMs;
  }
}

/** Timers of JavaScript count in 31 bits; a longer one ends at once. */
const LONGEST_DELAY_MS = 2 ** 31 - 1;

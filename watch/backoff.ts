/**
 * How long to wait before asking an API server again: client-go's reflector
 * numbers (tools/cache/reflector.go), with the whole step as jitter, so that a
 * thousand nodes that lost the server in the same second do not come back in
 * the same second. It counts and draws; waiting itself is the caller's.
 *
 * @module
 */
import type { Clock } from "./clock.ts";

/** The first step; the n-th is twice the one before. */
export const FIRST_BACKOFF_MS = 800;
export const LONGEST_BACKOFF_MS = 30_000;
/** A pause this long between two failures makes the next one a first one. */
export const HEALTHY_AFTER_MS = 120_000;
/** A `Retry-After` beyond this is taken for a mistake. */
export const LONGEST_RETRY_AFTER_MS = 120_000;

export interface BackoffOptions {
  readonly clock: Clock;
  /** Uniform in [0, 1), as `Math.random`, which is the default. */
  readonly random?: () => number;
}

/** Exponential backoff with full jitter that forgets after two healthy minutes. */
export class Backoff {
  readonly #clock: Clock;
  readonly #random: () => number;
  #stepMs = FIRST_BACKOFF_MS;
  #lastWaitEndsAt = -Infinity;

  constructor(options: BackoffOptions) {
    this.#clock = options.clock;
    this.#random = options.random ?? Math.random;
  }

  /**
   * Milliseconds to wait after one more failure: anything up to the present
   * step, and never less than the server asked for.
   *
   * @param retryAfterSeconds the answer's `Retry-After`, if it had one
   */
  nextMs(retryAfterSeconds = 0): number {
    const now = this.#clock.now();
    // Health is what lies after the wait: half a minute of backing off is none.
    if (now - this.#lastWaitEndsAt >= HEALTHY_AFTER_MS) {
      this.#stepMs = FIRST_BACKOFF_MS;
    }
    const jittered = Math.ceil(this.#random() * this.#stepMs);
    const asked = Math.min(retryAfterSeconds * 1000, LONGEST_RETRY_AFTER_MS);
    // Jitter comes on top of what was asked, or all who were asked come at once.
    const ms = asked > 0 ? asked + jittered : jittered;
    this.#stepMs = Math.min(this.#stepMs * 2, LONGEST_BACKOFF_MS);
    this.#lastWaitEndsAt = now + ms;
    return ms;
  }
}

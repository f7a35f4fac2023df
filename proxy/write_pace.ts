/**
 * How often the kernel's rules may be rewritten: kube-proxy's `minSyncPeriod`,
 * which is about those alone. Times in, waiting times out. Pure.
 *
 * Two writes may follow each other at once, as kube-proxy allowed until 1.34,
 * so that a Service and its slice, which are never written together, are not a
 * period apart; after that there is one in a period (fact 9.2).
 *
 * @module
 */

/** Writes that need not wait, after a quiet time. */
const BURST = 2;

export class WritePace {
  readonly #periodMs: number;
  /** Writes that are free now; fractions are on their way. */
  #free = BURST;
  #freeAt = 0;

  /** @param periodMs 0: no limit */
  constructor(periodMs: number) {
    this.#periodMs = periodMs;
  }

  /** Milliseconds until something may be written; 0: now. */
  waitMs(now: number): number {
    if (this.#periodMs === 0) return 0;
    // Somebody set the clock back: nothing shall wait until it has caught up.
    this.#freeAt = Math.min(this.#freeAt, now);
    const missing = 1 - this.#freeNow(now);
    return missing <= 0 ? 0 : Math.ceil(missing * this.#periodMs);
  }

  /** Something was written. */
  wrote(now: number): void {
    if (this.#periodMs === 0) return;
    this.#free = this.#freeNow(now) - 1;
    this.#freeAt = now;
  }

  #freeNow(now: number): number {
    const since = Math.max(0, now - this.#freeAt);
    return Math.min(BURST, this.#free + since / this.#periodMs);
  }
}

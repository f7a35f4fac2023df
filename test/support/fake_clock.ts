/**
 * Time that stands still until a test moves it. Nothing here sleeps: moving the
 * clock runs what was due, in order, and lets it finish its promises.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { Clock } from "../../watch/clock.ts";

interface Sleeper {
  at: number;
  readonly wake: () => void;
}

export class FakeClock implements Clock {
  #now: number;
  readonly #sleepers = new Set<Sleeper>();
  readonly #watchers = new Set<() => void>();

  /** @param now where it begins: 2026-01-01 unless told */
  constructor(now = Date.UTC(2026, 0, 1)) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  delay(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const abort = () => {
        this.#sleepers.delete(sleeper);
        reject(signal?.reason);
      };
      const sleeper: Sleeper = {
        at: this.#now + Math.max(0, ms),
        wake: () => {
          signal?.removeEventListener("abort", abort);
          resolve();
        },
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.#sleepers.add(sleeper);
      for (const notice of this.#watchers) notice();
    });
  }

  /** How many delays have not ended. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  /** Milliseconds until the next delay ends; undefined if none is pending. */
  get nextInMs(): number | undefined {
    const next = this.#next();
    return next === undefined ? undefined : next.at - this.#now;
  }

  /** Resolves once a delay is pending that ends within `ms`. */
  async untilSleeping(ms = Infinity): Promise<void> {
    const within = () =>
      [...this.#sleepers].some((s) => s.at - this.#now <= ms);
    while (!within()) {
      await new Promise<void>((resolve) => {
        const notice = () => {
          this.#watchers.delete(notice);
          resolve();
        };
        this.#watchers.add(notice);
      });
    }
  }

  /** Moves on by `ms`; delays end one by one, each at its own time. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    while (true) {
      await settle();
      const next = this.#next();
      if (next === undefined || next.at > until) break;
      this.#now = Math.max(this.#now, next.at);
      this.#sleepers.delete(next);
      next.wake();
    }
    this.#now = until;
    await settle();
  }

  /** As a machine that was asleep: time has passed, timers have not. */
  jump(ms: number): void {
    this.#now += ms;
    for (const sleeper of this.#sleepers) sleeper.at += ms;
  }

  #next(): Sleeper | undefined {
    let first: Sleeper | undefined;
    for (const sleeper of this.#sleepers) {
      if (first === undefined || sleeper.at < first.at) first = sleeper;
    }
    return first;
  }
}

/** Lets promises and streams that need no outside world run to their end. */
export async function settle(): Promise<void> {
  // Not setTimeout: its least delay is a millisecond, and there are thousands.
  for (let turn = 0; turn < 3; turn++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

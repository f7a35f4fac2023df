/**
 * Aborting: a signal of one's own that follows another one, and a promise that
 * must not take longer than so many milliseconds.
 *
 * @module
 */
import type { Clock } from "./clock.ts";

/**
 * A signal that is aborted with `outer`, and at the latest when this is
 * disposed. Unlike `AbortSignal.any` it leaves nothing behind on a signal that
 * lives as long as the program.
 */
export class LinkedAbort implements Disposable {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal;
  readonly #follow = () => this.#controller.abort(this.#outer.reason);

  constructor(outer: AbortSignal) {
    this.#outer = outer;
    if (outer.aborted) this.#follow();
    else outer.addEventListener("abort", this.#follow, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(): void {
    this.#controller.abort();
  }

  [Symbol.dispose](): void {
    this.#outer.removeEventListener("abort", this.#follow);
    this.abort();
  }
}

/** It took too long; the message says what did. */
export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
}

export interface DeadlineOptions {
  readonly clock: Clock;
  readonly ms: number;
  readonly signal: AbortSignal;
  /** Subject and verb of the error: `list of services does not end`. */
  readonly what: string;
}

/**
 * Runs `work` with a signal that is aborted when time is up or `signal` is.
 *
 * @throws {DeadlineError} time is up
 * @throws the signal's reason, or what `work` throws
 */
export async function withDeadline<T>(
  work: (signal: AbortSignal) => Promise<T>,
  options: DeadlineOptions,
): Promise<T> {
  using abort = new LinkedAbort(options.signal);
  const timeUp = options.clock.delay(options.ms, abort.signal).then(() => {
    throw new DeadlineError(`${options.what} within ${options.ms / 1000} s`);
  });
  // Whichever loses the race rejects with nobody listening.
  timeUp.catch(() => {});
  const working = work(abort.signal);
  working.catch(() => {});
  return await Promise.race([working, timeUp]);
}

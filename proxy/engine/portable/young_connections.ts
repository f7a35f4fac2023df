/**
 * Why a flood to one Service does not hold up the others: they share one event
 * loop, in which each connection waits for all others that have something to
 * do, and a flood that is accepted faster than it is served would leave a
 * thousand of them in it. In: a listener's connections, and their ends. Out:
 * whether it may accept more, or when.
 *
 * @module
 */

/** Connections are young for so long, in milliseconds, unless they end before. */
const YOUNG_MS = 4;
/**
 * Young connections of one listener, while others have clients. What a
 * connection costs, it costs at its beginning; more of them would not be served
 * faster, only held longer. A Service whose endpoints take their time still has
 * 2,000 new ones a second.
 */
const YOUNG_MAX = 8;
/** For so long others count as being there, in milliseconds. */
const OTHERS_MS = 1_000;

/** Connections of all listeners of an engine. */
export class OpenConnections {
  #open = 0;

  opened(): void {
    this.#open++;
  }

  closed(): void {
    this.#open--;
  }

  /** Whether there are more than these. */
  isMoreThan(own: number): boolean {
    return this.#open > own;
  }
}

/** Those of one listener. */
export class YoungConnections {
  readonly #max: number;
  readonly #youngMs: number;
  /** When they were accepted; the oldest first. */
  readonly #young = new Set<{ readonly at: number }>();
  #othersUntil = -Infinity;
  #room: PromiseWithResolvers<void> | undefined;

  constructor({ max = YOUNG_MAX, youngMs = YOUNG_MS } = {}) {
    this.#max = max;
    this.#youngMs = youngMs;
  }

  /** @param ended its end; never rejects */
  add(ended: Promise<void>): void {
    const one = { at: performance.now() };
    this.#young.add(one);
    ended.then(() => {
      if (this.#young.delete(one)) this.#room?.resolve();
    });
  }

  /**
   * Waits until it may be one more.
   *
   * @param hasOthers other listeners have clients
   * @returns undefined: it may at once
   */
  untilRoom(hasOthers: boolean): Promise<void> | undefined {
    const now = performance.now();
    if (hasOthers) this.#othersUntil = now + OTHERS_MS;
    let oldestAt = now;
    for (const one of this.#young) {
      oldestAt = one.at;
      if (now - oldestAt < this.#youngMs) break;
      this.#young.delete(one);
    }
    const isFull = this.#young.size >= this.#max;
    if (!isFull || now >= this.#othersUntil) return undefined;
    const { promise, resolve } = this.#room = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, oldestAt + this.#youngMs - now);
    return promise.finally(() => clearTimeout(timer));
  }
}

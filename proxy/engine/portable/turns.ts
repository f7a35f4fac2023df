/**
 * Letting everything else go first: sockets that are ready, timers that are
 * due. In: work that came. Out: when to go on with it.
 *
 * @module
 */

/**
 * Everything else that is ready goes first. By a timer: what `setImmediate`
 * waits for is over before Deno asks the kernel which sockets are ready. It
 * takes some 2 ms, since Deno's timers count in milliseconds.
 */
export function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** So long after the first, work is no longer counted with it, milliseconds. */
const BURST_MS = 5;

/** Counts work that comes in bursts. */
export class Bursts {
  readonly #most: number;
  #count = 0;
  #since = -Infinity;

  /** @param most of one burst, until the others have their turn */
  constructor(most: number) {
    this.#most = most;
  }

  /** One more was done. Undefined: the next may follow at once. */
  done(): Promise<void> | undefined {
    const now = performance.now();
    if (now - this.#since > BURST_MS) {
      this.#since = now;
      this.#count = 0;
    }
    if (++this.#count < this.#most) return undefined;
    this.#since = -Infinity;
    return turn();
  }
}

/** A number of things in one turn of the loop, whoever does them. */
export class PerTurn {
  readonly #most: number;
  #left: number;
  #turn: Promise<void> | undefined;

  constructor(most: number) {
    this.#most = this.#left = most;
  }

  /** Resolves when one may be done. */
  async next(): Promise<void> {
    while (this.#left === 0) await this.#nextTurn();
    this.#left--;
  }

  #nextTurn(): Promise<void> {
    return this.#turn ??= turn().then(() => {
      this.#left = this.#most;
      this.#turn = undefined;
    });
  }
}

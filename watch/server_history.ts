/**
 * Whether an API server was set back (restored from a backup), told to everything
 * that follows it: whoever finds out first spares the others a version that
 * means something else by now. One that catches up with theirs before they ask
 * would look as if nothing had happened.
 *
 * @module
 */

/**
 * 1. History is cut into epochs, counted from 0: each time the server was set
 *    back, one ends.
 * 2. However many find out about the same end, it is told once.
 */
export class ServerHistory {
  #epoch = 0;
  readonly #listeners = new Set<() => void>();

  /** Versions that were given out in an earlier one may mean something else. */
  get epoch(): number {
    return this.#epoch;
  }

  /**
   * The server no longer has a version that it gave out in `epoch`.
   *
   * @returns the epoch that followed
   */
  endOf(epoch: number): number {
    if (epoch === this.#epoch) {
      this.#epoch++;
      for (const listener of [...this.#listeners]) listener();
    }
    return epoch + 1;
  }

  /** Calls `listener` at each end, until it is disposed. */
  listen(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return {
      [Symbol.dispose]: () => void this.#listeners.delete(listener),
    };
  }
}

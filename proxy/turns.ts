/**
 * Long work in short turns: a first list of 50,000 Services must not keep the
 * program from answering for its health. Work that goes through many entries
 * asks after each whether it is time to let others go first.
 *
 * @module
 */

/** A turn is over after so many milliseconds. */
const TURN_MS = 20;

export class Turns {
  #since = performance.now();

  /** True: this turn has been long; `rest` before going on. */
  get isOver(): boolean {
    return performance.now() - this.#since >= TURN_MS;
  }

  /** Lets everything else that waits go first. */
  async rest(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#since = performance.now();
  }
}

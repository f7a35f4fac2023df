/**
 * The last minutes in numbers, for plots: one sample at a time, the oldest goes.
 *
 * @module
 */

/** One moment; all but `open` count up from the start of the process. */
export interface HistorySample {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly open: number;
  readonly total: number;
  readonly failed: number;
  readonly bytesToEndpoints: number;
  readonly bytesToClients: number;
}

/** How far back samples go. */
export const HISTORY_MS = 5 * 60_000;

export class History {
  readonly #samples: HistorySample[] = [];

  get samples(): readonly HistorySample[] {
    return this.#samples;
  }

  get latest(): HistorySample | undefined {
    return this.#samples.at(-1);
  }

  /** Drops what has become too old. */
  add(sample: HistorySample): void {
    this.#samples.push(sample);
    const oldest = sample.time - HISTORY_MS;
    let drop = 0;
    while (this.#samples[drop]!.time < oldest) drop++;
    if (drop > 0) this.#samples.splice(0, drop);
  }
}

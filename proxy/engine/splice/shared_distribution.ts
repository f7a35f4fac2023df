/**
 * A distribution in shared cells: one data thread observes, the control thread
 * looks. In: two counter lines. Out: counts in buckets.
 *
 * @module
 */
import type { DistributionView } from "../../distribution.ts";
import { type Line, LINE_CELLS } from "./shared_counters.ts";

/** Lines that one of them takes: as many buckets, their sum, and a spare. */
export const DISTRIBUTION_LINES = 2;
const SUM_CELL = DISTRIBUTION_LINES * LINE_CELLS - 2;
const SPARE_CELL = DISTRIBUTION_LINES * LINE_CELLS - 1;

/** Up to 13 bounds. */
export class SharedDistribution {
  readonly #bounds: readonly number[];
  readonly #lines: readonly Line[];

  /** @throws {RangeError} more bounds than there are cells for */
  constructor(bounds: readonly number[], lines: readonly Line[]) {
    if (bounds.length >= SUM_CELL) {
      throw new RangeError(`Cannot count in ${bounds.length + 1} buckets`);
    }
    this.#bounds = bounds;
    this.#lines = lines;
  }

  observe(value: number): void {
    let bucket = 0;
    while (bucket < this.#bounds.length && value > this.#bounds[bucket]!) {
      bucket++;
    }
    this.#add(bucket, 1);
    this.#add(SUM_CELL, value);
  }

  /** What the owner counts beside it. */
  countSpare(): void {
    this.#add(SPARE_CELL, 1);
  }

  get spare(): number {
    return this.#get(SPARE_CELL);
  }

  /** A copy; undefined while nothing was observed. */
  snapshot(): DistributionView | undefined {
    const counts = Array.from(
      { length: this.#bounds.length + 1 },
      (_, bucket) => this.#get(bucket),
    );
    if (counts.every((count) => count === 0)) return undefined;
    return { bounds: this.#bounds, counts, sum: this.#get(SUM_CELL) };
  }

  #get(cell: number): number {
    return this.#lines[Math.floor(cell / LINE_CELLS)]!.get(cell % LINE_CELLS);
  }

  #add(cell: number, value: number): void {
    this.#lines[Math.floor(cell / LINE_CELLS)]!.add(cell % LINE_CELLS, value);
  }
}

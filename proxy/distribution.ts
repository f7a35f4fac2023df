/**
 * How often a measured value was how large: a histogram, as plain numbers. Who
 * measures adds to it, who asks reads it; it knows no names and no formats.
 *
 * @module
 */

/** What a distribution holds; a live view, unless it was copied. */
export interface DistributionView {
  /** Ascending; the last bucket, above them all, is implied. */
  readonly bounds: readonly number[];
  /** For each bound those at most as large and above the one before; one more for the rest. */
  readonly counts: ArrayLike<number>;
  readonly sum: number;
}

/** Counts observations in buckets. */
export class Distribution implements DistributionView {
  readonly bounds: readonly number[];
  readonly counts: Float64Array;
  #sum = 0;

  /** @param bounds ascending, the same unit as the observations */
  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  get sum(): number {
    return this.#sum;
  }

  /** What is not a number counts nowhere. */
  observe(value: number): void {
    if (Number.isNaN(value)) return;
    let bucket = 0;
    while (bucket < this.bounds.length && value > this.bounds[bucket]!) {
      bucket++;
    }
    this.counts[bucket]!++;
    this.#sum += value;
  }

  /**
   * Adds all that another one counted.
   *
   * @throws {RangeError} its bounds are others
   */
  add(other: DistributionView): void {
    if (other.counts.length !== this.counts.length) {
      throw new RangeError("Cannot add a distribution of other buckets");
    }
    for (let bucket = 0; bucket < this.counts.length; bucket++) {
      this.counts[bucket]! += other.counts[bucket]!;
    }
    this.#sum += other.sum;
  }

  copy(): Distribution {
    const copy = new Distribution(this.bounds);
    copy.add(this);
    return copy;
  }
}

/** How many observations there are. */
export function countOf({ counts }: DistributionView): number {
  let count = 0;
  for (let bucket = 0; bucket < counts.length; bucket++) {
    count += counts[bucket]!;
  }
  return count;
}

/** `start`, `start * factor` … : as Prometheus' ExponentialBuckets. */
export function exponentialBounds(
  start: number,
  { factor, count }: { factor: number; count: number },
): number[] {
  return Array.from({ length: count }, (_, index) => start * factor ** index);
}

/**
 * Numbers of a benchmark, as a row of its table.
 *
 * @module
 */

/** Median, 99th percentile and maximum of times in milliseconds, for people. */
export function percentiles(valuesMs: readonly number[]): string[] {
  const sorted = valuesMs.toSorted((a, b) => a - b);
  const at = (part: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
  return [at(0.5), at(0.99), at(1)].map((ms) => `${ms.toFixed(1)} ms`);
}

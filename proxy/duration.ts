/**
 * Durations as Go writes them, which is how Kubernetes does: `250ms`, `1h30m`.
 * Serves flags and annotations alike.
 *
 * @module
 */

/** Milliseconds of each unit. */
const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  "µs": 1e-3,
  "μs": 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

const PART = String.raw`(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)`;
const DURATION_REGEXP = new RegExp(`^\\+?(${PART})+$`);
const PART_REGEXP = new RegExp(PART, "g");

/**
 * Milliseconds of a duration as Go's `time.ParseDuration` reads it, exact to
 * the nanosecond.
 *
 * @returns `undefined` for anything else, and for less than 0
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * assert.equal(goDurationMs("1h30m"), 5_400_000);
 * assert.equal(goDurationMs("90"), undefined);
 * ```
 */
export function goDurationMs(text: string): number | undefined {
  if (/^[+-]?0$/.test(text)) return 0;
  if (!DURATION_REGEXP.test(text)) return undefined;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(PART_REGEXP)) {
    total += Number(amount) * (UNIT_MS[unit ?? ""] ?? 0);
  }
  // 1.1m is 66,000.00000000001 in binary.
  return Math.round(total * 1e6) / 1e6;
}

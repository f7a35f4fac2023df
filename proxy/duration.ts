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

/**
 * The same as Go's `Duration.String` writes it, which is what Kubernetes'
 * files hold: `15m0s`, `250ms`, `0s`.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * assert.equal(goDurationText(5_400_000), "1h30m0s");
 * assert.equal(goDurationText(-1_500), "-1.5s");
 * ```
 */
export function goDurationText(ms: number): string {
  if (ms < 0) return `-${goDurationText(-ms)}`;
  if (ms === 0) return "0s";
  if (ms < 1e-3) return `${decimal(ms * 1e6)}ns`;
  if (ms < 1) return `${decimal(ms * 1e3)}µs`;
  if (ms < 1_000) return `${decimal(ms)}ms`;
  const minutes = Math.floor(ms / 60_000);
  const seconds = `${decimal((ms - minutes * 60_000) / 1_000)}s`;
  if (minutes === 0) return seconds;
  const hours = Math.floor(minutes / 60);
  return `${hours === 0 ? "" : `${hours}h`}${minutes % 60}m${seconds}`;
}

/** At most nine digits after the point: a nanosecond is the smallest there is. */
function decimal(value: number): string {
  return String(Number(value.toFixed(9)));
}

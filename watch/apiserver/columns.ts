/**
 * Cells that several tables have, as `kubectl get` prints them
 * (pkg/printers and apimachinery's HumanDuration).
 *
 * @module
 */
import { type KubeObject, record, text } from "./resource.ts";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const YEAR = 365 * DAY;

/** How long ago the object was created. */
export function ageCell(object: KubeObject, nowMs: number): string {
  return sinceCell(object.metadata.creationTimestamp, nowMs);
}

/** @param timestamp RFC 3339 */
export function sinceCell(timestamp: unknown, nowMs: number): string {
  const then = Date.parse(text(timestamp));
  return Number.isNaN(then)
    ? "<unknown>"
    : humanDuration(Math.floor((nowMs - then) / 1000));
}

/**
 * `45s`, `2m5s`, `3h`, `47h`, `8d`: two units while the first is small.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { humanDuration } from "./columns.ts";
 * assert.equal(humanDuration(125), "2m5s");
 * ```
 */
export function humanDuration(seconds: number): string {
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 2 * MINUTE) return `${seconds}s`;
  if (seconds < 10 * MINUTE) return two(seconds, MINUTE, "m", 1, "s");
  if (seconds < 3 * HOUR) return one(seconds, MINUTE, "m");
  if (seconds < 8 * HOUR) return two(seconds, HOUR, "h", MINUTE, "m");
  if (seconds < 2 * DAY) return one(seconds, HOUR, "h");
  if (seconds < 8 * DAY) return two(seconds, DAY, "d", HOUR, "h");
  if (seconds < 2 * YEAR) return one(seconds, DAY, "d");
  if (seconds < 8 * YEAR) return two(seconds, YEAR, "y", DAY, "d");
  return one(seconds, YEAR, "y");
}

function one(seconds: number, unit: number, name: string): string {
  return `${Math.floor(seconds / unit)}${name}`;
}

function two(
  seconds: number,
  unit: number,
  name: string,
  small: number,
  smallName: string,
): string {
  const rest = Math.floor((seconds % unit) / small);
  return one(seconds, unit, name) + (rest === 0 ? "" : `${rest}${smallName}`);
}

/** `app=web,tier=front`, or `<none>`. */
export function labelsCell(labels: unknown): string {
  const pairs = Object.entries(record(labels)).sort(([a], [b]) =>
    a < b ? -1 : 1
  )
    .map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? "<none>" : pairs.join(",");
}

/** `a,b,c + 2 more...`, or what stands for none. */
export function shortListCell(items: readonly string[], none: string): string {
  if (items.length === 0) return none;
  const shown = items.slice(0, 3).join(",");
  return items.length > 3 ? `${shown} + ${items.length - 3} more...` : shown;
}

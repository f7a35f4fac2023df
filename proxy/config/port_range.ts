/**
 * Ranges of ports as Kubernetes writes them: `30000-30999`, `30000+999`. Text
 * in, numbers out. Pure.
 *
 * @module
 */

export interface PortRange {
  readonly first: number;
  /** Included. */
  readonly last: number;
}

/**
 * A range of at least two ports.
 *
 * @returns `"any"` for an empty text, `0` and `0-0`: our own choice;
 *   `undefined` for what is no such range
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * assert.deepEqual(parsePortRange("40000+9"), { first: 40000, last: 40009 });
 * ```
 */
export function parsePortRange(text: string): PortRange | "any" | undefined {
  const trimmed = text.trim();
  if (/^(0(-0)?)?$/.test(trimmed)) return "any";
  const parts = /^(\d{1,5})([-+])(\d{1,5})$/.exec(trimmed);
  if (parts === null) return undefined;
  const [first, second] = [Number(parts[1]), Number(parts[3])];
  const last = parts[2] === "+" ? first + second : second;
  if (first < 1 || last > 65_535 || last <= first) return undefined;
  return { first, last };
}

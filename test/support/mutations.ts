/**
 * Damage, as data: what fuzz tests do to recorded answers. A damage is made of
 * small numbers, so that fast-check can shrink it to the one that matters.
 *
 * @module
 */
import fc from "fast-check";

/** One change of a JSON value; `at` is taken modulo what there is. */
export interface Mutation {
  readonly kind: "replace" | "delete" | "duplicate" | "swap" | "rename";
  readonly at: number;
  readonly with: number;
}

/** Values that no field expects, or that look nearly like what it does. */
export const ODD_VALUES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  65_536,
  1e308,
  2 ** 53,
  "",
  " ",
  "80",
  "0x50",
  "null",
  "NaN",
  "None",
  "999999999999999999999999",
  "10.96.0.0/16",
  "010.96.0.1",
  "256.1.1.1",
  "::ffff:10.96.0.1",
  "0.0.0.0",
  "fe80::1%eth0",
  "TCP\nUDP",
  "\u0000\u001b[2J",
  "__proto__",
  "constructor",
  "../../etc/passwd",
  "💥",
  "\ud800",
  "x".repeat(5_000),
  [],
  {},
  [[]],
  [null],
  [{}],
  { a: { a: {} } },
  JSON.parse("[".repeat(2_000) + "]".repeat(2_000)),
  JSON.parse('{"__proto__":{"ready":true}}'),
];

export const mutations: fc.Arbitrary<Mutation> = fc.record({
  kind: fc.constantFrom("replace", "delete", "duplicate", "swap", "rename"),
  at: fc.nat(100_000),
  with: fc.nat(100_000),
});

interface Place {
  readonly parent: Record<string, unknown> | unknown[];
  readonly key: string | number;
}

/** A copy of `value`, changed in one place. */
export function mutate(value: unknown, mutation: Mutation): unknown {
  const root = { value: copy(value) };
  const places = placesIn(root);
  const { parent, key } = places[mutation.at % places.length]!;
  const holder = parent as Record<string | number, unknown>;
  switch (mutation.kind) {
    case "replace":
      holder[key] = ODD_VALUES[mutation.with % ODD_VALUES.length];
      break;
    case "delete":
      if (Array.isArray(parent)) parent.splice(Number(key), 1);
      else delete holder[key];
      break;
    case "duplicate":
      if (Array.isArray(parent)) parent.splice(Number(key), 0, holder[key]);
      else holder[`${key}2`] = holder[key];
      break;
    case "swap": {
      const other = places[mutation.with % places.length]!;
      const its = other.parent as Record<string | number, unknown>;
      // By copies, or a value could come to hold itself.
      const [mine, theirs] = [holder[key], its[other.key]].map(copy);
      holder[key] = theirs;
      its[other.key] = mine;
      break;
    }
    case "rename":
      if (Array.isArray(parent)) parent.reverse();
      else {
        holder[String(key).toUpperCase()] = holder[key];
        delete holder[key];
      }
      break;
  }
  return root.value;
}

/** Not structuredClone, which falls over what is too deep; JSON does not. */
function copy(value: unknown): unknown {
  return value === undefined ? value : JSON.parse(JSON.stringify(value));
}

/** Deeper than any field, and less deep than what is odd. */
const DEEPEST_PLACE = 50;

/** Every place that a value is in, the outermost first. */
function placesIn(root: Record<string, unknown>): Place[] {
  const found: Place[] = [];
  const visit = (parent: Place["parent"], depth: number) => {
    if (depth > DEEPEST_PLACE) return;
    const keys = Array.isArray(parent)
      ? parent.map((_, index) => index)
      : Object.keys(parent);
    for (const key of keys) {
      found.push({ parent, key });
      const value = (parent as Record<string | number, unknown>)[key];
      if (typeof value === "object" && value !== null) {
        visit(value as Place["parent"], depth + 1);
      }
    }
  };
  visit(root, 0);
  return found;
}

/** One change of bytes. */
export interface ByteEdit {
  readonly kind: "flip" | "insert" | "delete" | "repeat" | "truncate";
  readonly at: number;
  readonly length: number;
  readonly value: number;
}

export const byteEdits: fc.Arbitrary<ByteEdit> = fc.record({
  kind: fc.constantFrom("flip", "insert", "delete", "repeat", "truncate"),
  at: fc.nat(100_000),
  length: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.nat(4_000)),
  value: fc.nat(255),
});

/**
 * Applies it, and says which bytes of the original are no longer what, or no
 * longer where, they were.
 */
export function editBytes(
  bytes: Uint8Array<ArrayBuffer>,
  edit: ByteEdit,
): { bytes: Uint8Array<ArrayBuffer>; from: number; to: number } {
  const from = bytes.length === 0 ? 0 : edit.at % bytes.length;
  const to = Math.min(bytes.length, from + edit.length);
  const part = (...parts: readonly Uint8Array[]) => {
    const all = new Uint8Array(parts.reduce((n, { length }) => n + length, 0));
    let at = 0;
    for (const one of parts) {
      all.set(one, at);
      at += one.length;
    }
    return all;
  };
  const [before, middle, after] = [
    bytes.subarray(0, from),
    bytes.subarray(from, to),
    bytes.subarray(to),
  ];
  switch (edit.kind) {
    case "flip": {
      const changed = middle.map((byte) => byte ^ edit.value);
      return { bytes: part(before, changed, after), from, to };
    }
    case "insert": {
      const noise = new Uint8Array(edit.length).fill(edit.value);
      return {
        bytes: part(before, noise, bytes.subarray(from)),
        from,
        to: from,
      };
    }
    case "delete":
      return { bytes: part(before, after), from, to };
    case "repeat":
      return { bytes: part(before, middle, middle, after), from, to };
    case "truncate":
      return { bytes: part(before), from, to: bytes.length };
  }
}

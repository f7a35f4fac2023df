/**
 * Kinds of configuration fields, and reading them. In: a table that says what
 * each field is, and what a YAML file or a flag says. Out: values with defaults
 * filled in, and everything that was wrong, all of it at once. Knows no field
 * of kube-proxy's by name. Pure.
 *
 * @module
 */
import { goDurationMs, goDurationText } from "../duration.ts";

interface FieldKinds {
  text: string;
  boolean: boolean;
  /** 32 bits, signed. */
  integer: number;
  number: number;
  /** Milliseconds; written as Go does. */
  duration: number;
  texts: readonly string[];
  /** Names that are on or off. */
  switches: Readonly<Record<string, boolean>>;
  /** Kept as it was read, and not looked into. */
  anything: unknown;
}

type Kind = keyof FieldKinds;

export interface FieldOf<K extends Kind> {
  readonly kind: K;
  readonly default: FieldKinds[K];
  /**
   * Zero (or empty, or false) is a value of its own. Without this it stands for
   * the default, as in Go, where a field that is no pointer cannot be missing.
   */
  readonly keepsZero?: true;
  /** Not written while it is zero. */
  readonly omitZero?: true;
  /** A number is nanoseconds: the one duration for which upstream takes them. */
  readonly numberIsNs?: true;
}

export type Field = { readonly [K in Kind]: FieldOf<K> }[Kind];

/** Field names → fields and sections, in the order they are written in. */
export interface Section {
  readonly [name: string]: Field | Section;
}

/** What reading a table gives: a value for every field. */
export type Values<S> = {
  readonly [Name in keyof S]: S[Name] extends FieldOf<infer K> ? FieldKinds[K]
    : Values<S[Name]>;
};

/** A value that is not allowed. */
export interface Problem {
  /** As the file has it: `iptables.syncPeriod`. */
  readonly field: string;
  /** As upstream's messages have it, where that is something else. */
  readonly path?: string;
  readonly value: unknown;
  /** What is allowed. */
  readonly text: string;
  readonly kind?: "Invalid value" | "Unsupported value";
}

export interface FieldReading<S> {
  readonly values: Values<S>;
  /** Paths of the fields that are there and not null. */
  readonly given: ReadonlySet<string>;
  /** Paths of what the table does not have. */
  readonly unknown: readonly string[];
  /** Wrong kinds of values. */
  readonly problems: readonly Problem[];
}

/** A value, and not a group of them. */
export function isField(entry: Field | Section): entry is Field {
  return typeof entry.kind === "string";
}

/** Reads what a file says; null and missing are the same, as in Go. */
export function readFields<const S extends Section>(
  table: S,
  raw: unknown,
): FieldReading<S> {
  const given = new Set<string>();
  const unknown: string[] = [];
  const problems: Problem[] = [];
  const read = (section: Section, from: unknown, path: string): unknown => {
    if (!isMapping(from)) {
      problems.push({ field: path, value: from, text: "must be a mapping" });
      from = {};
    }
    const source = from as Readonly<Record<string, unknown>>;
    for (const name of Object.keys(source)) {
      if (!Object.hasOwn(section, name)) unknown.push(join(path, name));
    }
    const values: Record<string, unknown> = {};
    for (const [name, entry] of Object.entries(section)) {
      const value = Object.hasOwn(source, name) ? source[name] ?? null : null;
      const field = join(path, name);
      if (value !== null) given.add(field);
      if (!isField(entry)) {
        values[name] = read(entry, value ?? {}, field);
        continue;
      }
      const result = value === null
        ? { value: entry.default }
        : fromFile(entry, value);
      if ("want" in result) problems.push({ field, value, text: result.want });
      values[name] = "want" in result ? entry.default : result.value;
    }
    return values;
  };
  const values = read(table, raw ?? {}, "") as Values<S>;
  return { values, given, unknown, problems };
}

type ReadValue = { readonly value: unknown } | { readonly want: string };

const WANTED: Readonly<Record<Kind, string>> = {
  text: "must be text",
  boolean: "must be true or false",
  integer: "must be a whole number of 32 bits",
  number: "must be a number",
  duration: "must be a duration such as 250ms, 30s or 1h30m",
  texts: "must be a list of texts",
  switches: "must be names with true or false",
  anything: "",
};

function fromFile(field: Field, raw: unknown): ReadValue {
  const value = valueOf(field, raw);
  if (value === undefined) return { want: WANTED[field.kind] };
  return { value: isZero(value) && !field.keepsZero ? field.default : value };
}

function valueOf(field: Field, raw: unknown): unknown {
  switch (field.kind) {
    case "text":
      return typeof raw === "string" ? raw : undefined;
    case "boolean":
      return booleanOf(raw);
    case "integer":
      return typeof raw === "number" && (raw | 0) === raw ? raw : undefined;
    case "number":
      return typeof raw === "number" && Number.isFinite(raw) ? raw : undefined;
    case "duration":
      if (typeof raw === "number" && field.numberIsNs) return raw / 1e6;
      return typeof raw === "string" ? signedDurationMs(raw) : undefined;
    case "texts":
      return Array.isArray(raw) && raw.every((each) => typeof each === "string")
        ? raw
        : undefined;
    case "switches":
      return isMapping(raw) ? switchesOf(Object.entries(raw)) : undefined;
    case "anything":
      return raw;
  }
}

/** YAML 1.1, which Kubernetes' files are, has more words for it than YAML 1.2. */
function booleanOf(raw: unknown): boolean | undefined {
  if (typeof raw === "boolean") return raw;
  if (typeof raw !== "string") return undefined;
  if (/^(yes|Yes|YES|on|On|ON)$/.test(raw)) return true;
  return /^(no|No|NO|off|Off|OFF)$/.test(raw) ? false : undefined;
}

function switchesOf(
  entries: readonly (readonly [string, unknown])[],
): Readonly<Record<string, boolean>> | undefined {
  const pairs: [string, boolean][] = [];
  for (const [name, raw] of entries) {
    const value = booleanOf(raw);
    if (name === "" || value === undefined) return undefined;
    pairs.push([name, value]);
  }
  return Object.fromEntries(pairs);
}

function signedDurationMs(text: string): number | undefined {
  if (!text.startsWith("-")) return goDurationMs(text);
  if (/^-[+-]/.test(text)) return undefined;
  const ms = goDurationMs(text.slice(1));
  return ms === undefined ? undefined : 0 - ms;
}

/**
 * What a flag's text means for a field. Zero is a value of its own here, since a
 * flag that is not given is not there.
 */
export function fieldOfText(field: Field, text: string): ReadValue {
  const value = valueOf(field, rawOfText(field, text));
  return value === undefined ? { want: WANTED[field.kind] } : { value };
}

function rawOfText(field: Field, text: string): unknown {
  switch (field.kind) {
    case "integer":
    case "number":
      return /^[+-]?[\d.]+(e[+-]?\d+)?$/i.test(text) ? Number(text) : text;
    case "boolean":
      return text === "true" ? true : text === "false" ? false : text;
    case "texts":
      return text === "" ? [] : text.split(",");
    case "switches":
      return Object.fromEntries(
        text.split(",").filter((part) => part !== "").map((part) => {
          const [, name = "", value = ""] = /^([^=]*)=(.*)$/.exec(part) ?? [];
          return [name.trim(), rawOfText(SWITCH, value.trim())];
        }),
      );
    default:
      return text;
  }
}

const SWITCH: FieldOf<"boolean"> = { kind: "boolean", default: false };

/** A value as a file has it: durations are texts again. */
export function writtenValue(field: Field, value: unknown): unknown {
  return field.kind === "duration" ? goDurationText(value as number) : value;
}

/** As a file has it that says nothing: Go's zero value. */
export function isZero(value: unknown): boolean {
  return value === 0 || value === "" || value === false ||
    (typeof value === "object" && value !== null &&
      Object.keys(value).length === 0);
}

export function isMapping(
  value: unknown,
): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function join(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

/**
 * Command-line flags: each command describes its own in a table, from which
 * they are parsed and their help is printed. Spelt and parsed as kube-proxy's
 * are (`--flag=value`, `--flag value`, `--switch`, `--switch=false`).
 *
 * @module
 */
import { parsePortRange } from "../config/mod.ts";
import { goDurationMs } from "../duration.ts";
import { canonicalCidr } from "../ip.ts";
import { UserError } from "./errors.ts";

export interface FlagSpec {
  readonly type: "string" | "boolean";
  /** One letter, for `-v 4` and `-v=4`. */
  readonly short?: string;
  readonly default?: string | boolean;
  /** Shown in the help in place of the value: `FILE`. */
  readonly value?: string;
  /** One sentence. */
  readonly help: string;
  readonly choices?: readonly string[];
  /** Given again it adds to what was given; the parts are split by commas. */
  readonly list?: boolean;
  /** Words that a switch takes for true, beside those of every switch. */
  readonly alsoTrue?: readonly string[];
  /** The field of KubeProxyConfiguration that it sets. */
  readonly field?: string;
  /** Shown in the help as its default, where that is the field's. */
  readonly standard?: string;
  /** Accepted for kube-proxy's sake; the help does no more than name it. */
  readonly silent?: boolean;
  /** What to use instead, as upstream says. */
  readonly deprecated?: string;
}

export type FlagSpecs = Readonly<Record<string, FlagSpec>>;

type FlagValue<S extends FlagSpec> = S["type"] extends "boolean" ? boolean
  : S extends { default: string } ? string
  : string | undefined;

export type FlagValues<S extends FlagSpecs> = {
  readonly [Name in keyof S]: FlagValue<S[Name]>;
};

/**
 * The values of a command's flags, defaults included. Of a flag given twice the
 * last one counts; a flag that needs a value takes the next argument for it,
 * whatever that looks like, as kube-proxy does.
 *
 * @throws {UserError} naming the flag and what it takes
 */
export function parseFlags<const S extends FlagSpecs>(
  args: readonly string[],
  specs: S,
): FlagValues<S> {
  return parseGivenFlags(args, specs).values;
}

export interface GivenFlags<S extends FlagSpecs> {
  readonly values: FlagValues<S>;
  /** Names of the flags that were there, in the order of the table. */
  readonly given: ReadonlySet<string>;
  /** What stood between them. */
  readonly words: readonly string[];
}

/**
 * `parseFlags`, for whom it matters which flags were given, or who takes words
 * beside them: so many at most.
 *
 * @throws {UserError} naming the flag and what it takes
 */
export function parseGivenFlags<const S extends FlagSpecs>(
  args: readonly string[],
  specs: S,
  { wordsMax = 0 }: { readonly wordsMax?: number } = {},
): GivenFlags<S> {
  const words: string[] = [];
  const given = new Set<string>();
  const values: Record<string, string | boolean> = {};
  for (const [name, { type, default: standard }] of Object.entries(specs)) {
    if (standard !== undefined) values[name] = standard;
    else if (type === "boolean") values[name] = false;
  }
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    const flag = arg === "--" ? undefined : splitFlag(arg);
    if (flag === undefined) {
      const stray = arg === "--" ? rest.shift() : arg;
      if (stray === undefined) break;
      if (words.length < wordsMax) {
        words.push(stray);
        continue;
      }
      throw new UserError(`Unexpected argument "${stray}"`);
    }
    const [name, spec] = findFlag(flag.flag, specs);
    const text = flag.value ??
      (spec.type === "boolean" ? "true" : rest.shift());
    if (text === undefined) {
      throw new UserError(`Flag ${flag.flag} needs a value`);
    }
    const value = flagValue(text, { flag: flag.flag, spec });
    values[name] = spec.list && given.has(name)
      ? `${values[name]},${value}`
      : value;
    given.add(name);
  }
  return {
    values: values as FlagValues<S>,
    given: new Set(Object.keys(specs).filter((name) => given.has(name))),
    words,
  };
}

/** `--flag`, `--flag=value`, `-f`, `-f=value`, `-fvalue`; else no flag. */
function splitFlag(arg: string): { flag: string; value?: string } | undefined {
  const parts = /^(--[^=]+|-[^-=])(=?)(.*)$/s.exec(arg);
  if (parts === null) return undefined;
  const [, flag = "", equals, value = ""] = parts;
  return equals === "" && value === "" ? { flag } : { flag, value };
}

function findFlag(flag: string, specs: FlagSpecs): [string, FlagSpec] {
  const found = Object.entries(specs).find(([name, { short }]) =>
    flag === `--${name}` || flag === `-${short}`
  );
  if (found === undefined) throw new UserError(`Unknown flag ${flag}`);
  return found;
}

function flagValue(
  text: string,
  { flag, spec }: { flag: string; spec: FlagSpec },
): string | boolean {
  if (spec.type === "boolean") {
    // The words that Go's strconv.ParseBool knows.
    if (/^(1|t|T|true|True|TRUE)$/.test(text)) return true;
    if (/^(0|f|F|false|False|FALSE)$/.test(text)) return false;
    if (spec.alsoTrue?.includes(text)) return true;
    throw new UserError(
      `Invalid value "${text}" for ${flag}: want true or false`,
    );
  }
  if (spec.choices !== undefined && !spec.choices.includes(text)) {
    throw new UserError(
      `Invalid value "${text}" for ${flag}: want ${spec.choices.join(", ")}`,
    );
  }
  return text;
}

/** The flags of a command, one a line, for its help; then the silent ones. */
export function flagsHelp(specs: FlagSpecs): string {
  const all = Object.entries(specs);
  const lines = all.filter(([, spec]) => !spec.silent).map(([name, spec]) => {
    const value = spec.choices?.join("|") ?? spec.value;
    const left = `  ${spec.short ? `-${spec.short}, ` : ""}--${name}` +
      (value === undefined ? "" : ` ${value}`);
    // Nothing is what "no default" means to a reader too.
    const shown = spec.standard ?? spec.default;
    const standard = shown ? ` (default ${shown})` : "";
    return left.length <= 32
      ? `${left.padEnd(34)}${spec.help}${standard}\n`
      : `${left}\n${"".padEnd(34)}${spec.help}${standard}\n`;
  });
  const silent = all.filter(([, spec]) => spec.silent)
    .map(([name]) => `--${name}`);
  return lines.join("") + (silent.length === 0 ? "" : SILENT_HEADING +
    wrapped(silent));
}

const SILENT_HEADING =
  "\nAccepted for kube-proxy's sake, without an effect here:\n";
const HELP_WIDTH = 79;

function wrapped(words: readonly string[]): string {
  const lines = [""];
  for (const word of words) {
    const line = `${lines.at(-1)}  ${word}`;
    if (line.length <= HELP_WIDTH) lines[lines.length - 1] = line;
    else lines.push(`  ${word}`);
  }
  return lines.map((line) => `${line}\n`).join("");
}

/**
 * Milliseconds of a duration as Go writes it: `250ms`, `2s`, `1h30m`.
 *
 * @throws {UserError} naming the flag
 */
export function durationMs(
  text: string,
  flag: string,
  { aboveZero = false }: { aboveZero?: boolean } = {},
): number {
  const ms = goDurationMs(text);
  if (ms === 0 && aboveZero) {
    throw new UserError(
      `Invalid value "${text}" for --${flag}: want more than 0`,
    );
  }
  if (ms === undefined) {
    throw new UserError(
      `Invalid value "${text}" for --${flag}: want a duration such as 250ms, 2s or 1h30m`,
    );
  }
  return ms;
}

/**
 * A whole number.
 *
 * @throws {UserError} naming the flag and the range
 */
export function wholeNumber(
  text: string,
  { flag, min, max }: { flag: string; min: number; max: number },
): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < min || number > max) {
    throw new UserError(
      `Invalid value "${text}" for --${flag}: want a whole number from ${min} to ${max}`,
    );
  }
  return number;
}

/**
 * A range of at least two ports as kube-proxy writes it: `20000-29999`, or
 * `20000+9999` for as many more. Empty and `0-0` are none: our own choice.
 *
 * @throws {UserError} naming the flag
 */
export function portRange(
  text: string,
  flag: string,
): { first: number; last: number } | undefined {
  const range = parsePortRange(text);
  if (range === undefined) {
    throw new UserError(
      `Invalid value "${text}" for --${flag}: want first-last, such as 20000-29999`,
    );
  }
  return range === "any" ? undefined : range;
}

/**
 * CIDRs in canonical form, separated by commas; an empty text is none.
 *
 * @throws {UserError} naming the flag and what is not a CIDR
 */
export function cidrList(text: string, flag: string): string[] {
  if (text.trim() === "") return [];
  return text.split(",").map((part) => {
    const cidr = canonicalCidr(part.trim());
    if (cidr === undefined) {
      throw new UserError(
        `Invalid value "${part}" for --${flag}: want a CIDR such as 10.96.0.0/12`,
      );
    }
    return cidr;
  });
}

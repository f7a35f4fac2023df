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
  const values: Record<string, string | boolean> = {};
  for (const [name, { type, default: standard }] of Object.entries(specs)) {
    if (standard !== undefined) values[name] = standard;
    else if (type === "boolean") values[name] = false;
  }
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    const given = arg === "--" ? undefined : splitFlag(arg);
    if (given === undefined) {
      const stray = arg === "--" ? rest.shift() : arg;
      if (stray === undefined) break;
      throw new UserError(`Unexpected argument "${stray}"`);
    }
    const [name, spec] = findFlag(given.flag, specs);
    const text = given.value ??
      (spec.type === "boolean" ? "true" : rest.shift());
    if (text === undefined) {
      throw new UserError(`Flag ${given.flag} needs a value`);
    }
    values[name] = flagValue(text, { flag: given.flag, spec });
  }
  return values as FlagValues<S>;
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

/** The flags of a command, one a line, for its help. */
export function flagsHelp(specs: FlagSpecs): string {
  const lines = Object.entries(specs).map(([name, spec]) => {
    const value = spec.choices?.join("|") ?? spec.value;
    const left = `  ${spec.short ? `-${spec.short}, ` : ""}--${name}` +
      (value === undefined ? "" : ` ${value}`);
    // Nothing is what "no default" means to a reader too.
    const standard = spec.default ? ` (default ${spec.default})` : "";
    return left.length <= 32
      ? `${left.padEnd(34)}${spec.help}${standard}\n`
      : `${left}\n${"".padEnd(34)}${spec.help}${standard}\n`;
  });
  return lines.join("");
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

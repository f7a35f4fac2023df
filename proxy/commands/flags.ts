/**
 * Command-line flags: each command describes its own in a table, from which
 * they are parsed and their help is printed. Spelt and parsed as kube-proxy's
 * are (`--flag=value`, `--flag value`, `--switch`, `--switch=false`).
 *
 * @module
 */
import { parseArgs } from "node:util";
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
 * @throws {UserError} naming the flag and what it takes
 */
export function parseFlags<const S extends FlagSpecs>(
  args: readonly string[],
  specs: S,
): FlagValues<S> {
  const { values, positionals } = parse(args, specs);
  if (positionals.length > 0) {
    throw new UserError(`Unexpected argument "${positionals[0]}"`);
  }
  for (const [name, { choices }] of Object.entries(specs)) {
    const value = values[name];
    if (
      choices !== undefined && typeof value === "string" &&
      !choices.includes(value)
    ) {
      throw new UserError(
        `Invalid value "${value}" for --${name}: want ${choices.join(", ")}`,
      );
    }
  }
  return values as FlagValues<S>;
}

function parse(args: readonly string[], specs: FlagSpecs) {
  const options = Object.fromEntries(
    Object.entries(specs).map(([name, { type, short, ...spec }]) => [name, {
      type,
      ...(short === undefined ? {} : { short }),
      ...(spec.default !== undefined
        ? { default: spec.default }
        : type === "boolean"
        ? { default: false }
        : {}),
    }]),
  );
  try {
    return parseArgs({
      args: args.map((arg) => goStyle(arg, specs)),
      options,
      allowNegative: true,
      allowPositionals: true,
      strict: true,
    });
  } catch (error) {
    throw new UserError(plainWords(error));
  }
}

/** `--switch=true`, `--switch=false` and `-v=4`, which parseArgs knows not. */
function goStyle(arg: string, specs: FlagSpecs): string {
  const boolean = /^--([\w-]+)=(true|false|1|0)$/.exec(arg);
  if (boolean !== null && specs[boolean[1] ?? ""]?.type === "boolean") {
    const on = boolean[2] === "true" || boolean[2] === "1";
    return `--${on ? "" : "no-"}${boolean[1]}`;
  }
  return arg.replace(/^-(\w)=/, "-$1");
}

function plainWords(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const unknown = /^Unknown option '([^']+)'/.exec(message);
  if (unknown !== null) return `Unknown flag ${unknown[1]}`;
  return message.replaceAll("Option '", "Flag '").replace(/\.$/, "")
    .split("\n")[0] ?? message;
}

/** The flags of a command, one a line, for its help. */
export function flagsHelp(specs: FlagSpecs): string {
  const lines = Object.entries(specs).map(([name, spec]) => {
    const value = spec.choices?.join("|") ?? spec.value;
    const left = `  ${spec.short ? `-${spec.short}, ` : ""}--${name}` +
      (value === undefined ? "" : ` ${value}`);
    const standard = spec.default === undefined || spec.default === false
      ? ""
      : ` (default ${spec.default})`;
    return left.length <= 32
      ? `${left.padEnd(34)}${spec.help}${standard}\n`
      : `${left}\n${"".padEnd(34)}${spec.help}${standard}\n`;
  });
  return lines.join("");
}

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/**
 * Milliseconds of a duration as Go writes it: `250ms`, `2s`, `1h30m`.
 *
 * @throws {UserError} naming the flag
 */
export function durationMs(text: string, flag: string): number {
  if (text === "0") return 0;
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) {
    throw new UserError(
      `Invalid value "${text}" for --${flag}: want a duration such as 250ms, 2s or 1h30m`,
    );
  }
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/([\d.]+)(ms|s|m|h)/g)) {
    total += Number(amount) * (UNIT_MS[unit ?? ""] ?? 0);
  }
  return total;
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

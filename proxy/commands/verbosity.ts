/**
 * How much is said: kube-proxy's `-v` and `--logging-format`, in terms of our
 * four log levels. The whole program logs to standard error, so that what a
 * command prints can be piped.
 *
 * @module
 */
import { type LogEntry, setup } from "@std/log";
import { type FlagSpecs, wholeNumber } from "./flags.ts";
import { printError } from "./terminal.ts";

export const LOG_FLAGS = {
  v: {
    type: "string",
    short: "v",
    value: "LEVEL",
    default: "0",
    help:
      "Log level, 0-10: state changes at 0, each connection and stack traces from 4.",
  },
  "logging-format": {
    type: "string",
    choices: ["text", "json"],
    default: "text",
    help: "How log lines are written.",
  },
} as const satisfies FlagSpecs;

/** From this level on every connection is logged, and errors show their stack. */
const DEBUG_FROM = 4;

export interface LogSettings {
  readonly v: string;
  readonly "logging-format": string;
}

/**
 * @param options.quiet warnings and errors only
 * @param options.tap told of every record from info on, quiet or not
 * @throws {UserError} if the level is not a number
 */
export async function setupLogging(
  flags: LogSettings,
  options: { quiet?: boolean; tap?: (entry: LogEntry) => void } = {},
): Promise<void> {
  const level = wholeNumber(flags.v, { flag: "v", min: 0, max: 10 });
  await setup({
    level: level >= DEBUG_FROM ? "debug" : options.quiet ? "warn" : "info",
    format: flags["logging-format"] === "json" ? "json" : "text",
    stacks: level >= DEBUG_FROM,
    write: printError,
    ...(options.tap === undefined ? {} : { tap: options.tap }),
  });
}

/** Whether each connection is logged at this `-v`. */
export function logsConnections(flags: Pick<LogSettings, "v">): boolean {
  return Number(flags.v) >= DEBUG_FROM;
}

/** Whether the raw arguments ask for stack traces; never throws. */
export function wantsStacks(args: readonly string[]): boolean {
  const joined = args.join(" ");
  const level = /(?:^|\s)--?v[= ]?(\d+)/.exec(joined)?.[1];
  return level !== undefined && Number(level) >= DEBUG_FROM;
}

/**
 * What `@std/log` is bound to in deno.json: a named logger with four levels,
 * over LogTape. The standard library removed its own log package in September
 * 2025 (denoland/std #6819).
 *
 * A message is a constant sentence; what varies goes into properties, so that
 * the same event always has the same text. Nothing is written before `setup`.
 *
 * @module
 */
import {
  configure,
  getLogger as getLogTapeLogger,
  jsonLinesFormatter,
  type LogRecord,
} from "@logtape/logtape";

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogProperties = Readonly<Record<string, unknown>>;

export interface Logger {
  debug(message: string, properties?: LogProperties): void;
  info(message: string, properties?: LogProperties): void;
  warn(message: string, properties?: LogProperties): void;
  error(message: string, properties?: LogProperties): void;
}

export interface LogSetup {
  /** The least severe level that is written. */
  level: LogLevel;
  /** `text`: one line for people. `json`: one JSON object a line. */
  format: "text" | "json";
  /** Error properties carry their stack trace: for `-v=4` and above. */
  stacks: boolean;
  /** Takes one line, its line feed included. */
  write: (line: string) => void;
  /** Takes every record from `info` on as data, whatever `level` says. */
  tap?: (entry: LogEntry) => void;
}

/** A record as data; what varies is text already. */
export interface LogEntry {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly level: LogLevel;
  readonly module: string;
  readonly message: string;
  readonly properties: Readonly<Record<string, string>>;
}

/** A logger for one module; `name` is its folder or file, as `watch`. */
export function getLogger(name: string): Logger {
  return getLogTapeLogger(["kube-portal", name]);
}

/** Says where records go. A second call replaces the first. */
export async function setup(options: LogSetup): Promise<void> {
  const format = options.format === "json" ? jsonLine : textLine;
  const { tap } = options;
  const written = LEVELS.indexOf(options.level);
  const level = tap === undefined || options.level === "debug"
    ? options.level
    : "info";
  await configure({
    reset: true,
    sinks: {
      out: (record) => {
        if (LEVELS.indexOf(levelOf(record)) < written) return;
        options.write(format(record, options.stacks));
      },
      tap: (record) => {
        if (levelOf(record) !== "debug") tap?.(entryOf(record));
      },
    },
    loggers: [
      {
        category: ["kube-portal"],
        sinks: ["out", "tap"],
        lowestLevel: level === "warn" ? "warning" : level,
      },
      { category: ["logtape", "meta"], sinks: ["out"], lowestLevel: "error" },
    ],
  });
}

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];

function levelOf({ level }: LogRecord): LogLevel {
  if (level === "warning") return "warn";
  if (level === "trace") return "debug";
  return level === "fatal" ? "error" : level;
}

function entryOf(record: LogRecord): LogEntry {
  return {
    time: record.timestamp,
    level: levelOf(record),
    module: record.category.slice(1).join("/"),
    message: oneLine(String(record.rawMessage)),
    properties: Object.fromEntries(
      Object.entries(record.properties).map(([name, value]) => [
        name,
        plainText(value),
      ]),
    ),
  };
}

function plainText(value: unknown): string {
  if (value instanceof Error) return oneLine(errorText(value));
  if (typeof value === "object" && value !== null) return escaped(value);
  return oneLine(String(value));
}

const LEVEL_TEXT: Readonly<Record<string, string>> = {
  debug: "DEBUG",
  info: "INFO ",
  warning: "WARN ",
  error: "ERROR",
  fatal: "ERROR",
};

function textLine(record: LogRecord, stacks: boolean): string {
  const time = new Date(record.timestamp).toISOString();
  const level = LEVEL_TEXT[record.level] ?? record.level;
  const module = record.category.slice(1).join("/");
  let line = `${time} ${level} ${module}: ${
    oneLine(String(record.rawMessage))
  }`;
  for (const [name, value] of Object.entries(record.properties)) {
    line += ` ${name}=${propertyText(value)}`;
    if (stacks && value instanceof Error && value.stack !== undefined) {
      // Its first lines are the message, which may be from outside.
      line += value.stack.split("\n").map((text) => `\n    ${oneLine(text)}`)
        .join("");
    }
  }
  return line + "\n";
}

const formatJson = jsonLinesFormatter;

function jsonLine(record: LogRecord, stacks: boolean): string {
  const properties: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(record.properties)) {
    properties[name] = value instanceof Error
      ? (stacks ? value.stack : errorText(value))
      : value;
  }
  return formatJson({ ...record, properties });
}

/**
 * Text from outside (a Service name, an error of the API server) can hold line
 * feeds and escape sequences; quoted as JSON it cannot forge a second line.
 */
function propertyText(value: unknown): string {
  if (value instanceof Error) return JSON.stringify(errorText(value));
  if (typeof value === "string") {
    return /^[\w.:/@+\-\[\]]+$/.test(value) ? value : escaped(value);
  }
  if (typeof value === "object" && value !== null) return escaped(value);
  return String(value);
}

function errorText(error: Error): string {
  const cause = error.cause;
  return cause instanceof Error && cause.message !== error.message
    ? `${error.message}: ${errorText(cause)}`
    : error.message;
}

function escaped(value: unknown): string {
  return oneLine(JSON.stringify(value));
}

/**
 * Control and format characters by their numbers: the first can start a line or
 * move the cursor, the second write from right to left.
 */
function oneLine(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\u2028\u2029]/gu,
    (character) => character.split("").map(escapedUnit).join(""),
  );
}

function escapedUnit(unit: string): string {
  return "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0");
}

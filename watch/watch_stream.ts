/**
 * Bytes of a watch's answer → lines → watch events. One event is one line of
 * JSON, whatever the chunks it arrives in: lines are cut in bytes, and only a
 * whole line is decoded, so a chunk border inside a multi-byte character does
 * no harm. Knows nothing of kinds, versions or of when to try again.
 *
 * @module
 */
import { decodeStatus } from "./decode.ts";
import type { Status } from "./types.ts";

/** One line of a watch; `object` is as it came, for the resource's decoder. */
export type WatchEvent =
  | {
    readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK";
    readonly object: unknown;
  }
  | { readonly type: "ERROR"; readonly status: Status };

/**
 * The stream holds something that is no watch event: not JSON, an unknown type,
 * or a line without end. What a proxy's error page in the middle looks like.
 */
export class WatchLineError extends Error {
  override readonly name = "WatchLineError";
}

/** etcd's own limit for an object is 1.5 MiB; this only bounds memory. */
export const LONGEST_LINE_BYTES = 64 * 1024 * 1024;

export interface ReadWatchEventsOptions {
  /** @default {LONGEST_LINE_BYTES} */
  readonly longestLineBytes?: number;
}

/**
 * Yields the events of a watch until the stream ends. The stream is cancelled
 * when the consumer stops early.
 *
 * @throws {WatchLineError} a line that is no watch event
 * @throws the stream's own error, when it is cut or aborted
 */
export async function* readWatchEvents(
  body: ReadableStream<Uint8Array>,
  options: ReadWatchEventsOptions = {},
): AsyncGenerator<WatchEvent, void> {
  const rest = yield* readEventLines(
    body,
    options.longestLineBytes ?? LONGEST_LINE_BYTES,
  );
  if (rest.trim() === "") return;
  // The last line feed may have been lost on the way, but an object is whole or
  // it is no JSON: nothing shorter can be mistaken for it.
  yield parseWatchEvent(rest);
}

/** Yields an event for each line that was ended; returns what follows the last. */
async function* readEventLines(
  body: ReadableStream<Uint8Array>,
  longestLineBytes: number,
): AsyncGenerator<WatchEvent, string> {
  const reader = body.getReader();
  let parts: Uint8Array[] = [];
  let bytes = 0;
  const keep = (part: Uint8Array) => {
    bytes += part.length;
    if (bytes > longestLineBytes) {
      throw new WatchLineError(
        `Cannot read watch stream: a line is longer than ${longestLineBytes} bytes`,
      );
    }
    parts.push(part);
  };
  const takeLine = () => {
    const line = decodeParts(parts, bytes);
    parts = [];
    bytes = 0;
    return line;
  };
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return takeLine();
      let start = 0;
      let end: number;
      while ((end = value.indexOf(LINE_FEED, start)) !== -1) {
        keep(value.subarray(start, end));
        start = end + 1;
        const line = takeLine();
        if (line.trim() !== "") yield parseWatchEvent(line);
      }
      if (start < value.length) keep(value.subarray(start));
    }
  } finally {
    // A stream that was cut rejects here with the error read() already threw.
    await reader.cancel().catch(() => {});
  }
}

const LINE_FEED = 0x0a;
// Not fatal: a wrong byte in one annotation must not hold back a Service, and
// the next relist would meet the same byte again.
const utf8 = new TextDecoder();

function decodeParts(parts: readonly Uint8Array[], bytes: number): string {
  if (parts.length === 1) return utf8.decode(parts[0]);
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return utf8.decode(whole);
}

/**
 * Reads one line.
 *
 * @throws {WatchLineError} it is no watch event
 */
export function parseWatchEvent(line: string): WatchEvent {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new WatchLineError(
      `Cannot read watch event: the line is not JSON: ${excerpt(line)}`,
      { cause },
    );
  }
  const { type, object } = (value ?? {}) as {
    type?: unknown;
    object?: unknown;
  };
  switch (type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED":
    case "BOOKMARK":
      return { type, object };
    case "ERROR":
      return { type, status: decodeStatus(object) };
    default:
      throw new WatchLineError(
        `Cannot read watch event: type is ${
          JSON.stringify(type) ?? "missing"
        },` +
          " want one of ADDED, MODIFIED, DELETED, BOOKMARK, ERROR",
      );
  }
}

function excerpt(line: string): string {
  return JSON.stringify(line.length > 80 ? line.slice(0, 80) + "…" : line);
}

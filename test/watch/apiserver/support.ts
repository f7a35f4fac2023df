/**
 * Requests to an embedded API server, and answers taken apart, for its tests.
 *
 * @module
 */
import type { ApiServer } from "../../../watch/apiserver/mod.ts";

/** A JSON value, where a test looks into it without ceremony. */
// deno-lint-ignore no-explicit-any
export type Json = any;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Json;
}

export interface Call {
  method?: string;
  body?: unknown;
  type?: string;
  headers?: Record<string, string>;
}

/** Sends a request without a socket; the body is JSON unless it is text. */
export async function call(
  server: ApiServer,
  path: string,
  options: Call = {},
): Promise<Answer> {
  const { method = "GET", body, type = "application/json" } = options;
  const request = new Request(`http://localhost${path}`, {
    method,
    headers: {
      ...(body === undefined ? {} : { "Content-Type": type }),
      ...options.headers,
    },
    ...(body === undefined
      ? {}
      : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
  const response = await server.fetch(request);
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json");
  return {
    status: response.status,
    headers: response.headers,
    body: isJson ? JSON.parse(text) : text,
  };
}

/** An open watch, read event by event. */
export class WatchReader implements AsyncDisposable {
  readonly status: number;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #buffer = "";

  constructor(response: Response) {
    this.status = response.status;
    this.#reader = response.body!.pipeThrough(new TextDecoderStream())
      .getReader();
  }

  /** The next event; `undefined` at the end of the stream. */
  async next(): Promise<Json | undefined> {
    while (!this.#buffer.includes("\n")) {
      const { value, done } = await this.#reader.read();
      if (done) return undefined;
      this.#buffer += value;
    }
    const end = this.#buffer.indexOf("\n");
    const line = this.#buffer.slice(0, end);
    this.#buffer = this.#buffer.slice(end + 1);
    return JSON.parse(line);
  }

  /** The next `count` events as `TYPE name`. */
  async names(count: number): Promise<string[]> {
    const names: string[] = [];
    while (names.length < count) {
      const event = await this.next();
      if (event === undefined) break;
      names.push(`${event.type} ${event.object.metadata.name ?? "-"}`);
    }
    return names;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader.cancel().catch(() => {});
  }
}

/** Opens a watch; the query begins after `watch=1&`. */
export async function watch(
  server: ApiServer,
  path: string,
  query = "",
  headers: Record<string, string> = {},
): Promise<WatchReader> {
  const url = `http://localhost${path}?watch=1&${query}`;
  return new WatchReader(await server.fetch(new Request(url, { headers })));
}

/** A Service, as a manifest has it. */
export function serviceManifest(
  name: string,
  spec: Record<string, unknown> = {},
  metadata: Record<string, unknown> = {},
) {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, ...metadata },
    spec: { ports: [{ port: 80 }], ...spec },
  };
}

/** The answer in a recording: its status and its body. */
export async function recording(name: string): Promise<Answer> {
  const url = new URL(`../../fixture/recordings/${name}.http`, import.meta.url);
  const text = (await Deno.readTextFile(url)).replaceAll("\r\n", "\n");
  const split = text.indexOf("\n\n");
  const [first = "", ...lines] = text.slice(0, split).split("\n");
  const headers = new Headers(lines.map((line) => {
    const [key = "", ...rest] = line.split(": ");
    return [key, rest.join(": ")];
  }));
  const body = text.slice(split + 2).trim();
  const isLines = name.startsWith("watch") || name.startsWith("streaming") ||
    name.startsWith("error-410-watch");
  return {
    status: Number(first.split(" ")[1]),
    headers,
    body: isLines
      ? body.split("\n").filter(Boolean).map((line) => JSON.parse(line))
      : body === ""
      ? undefined
      : JSON.parse(body),
  };
}

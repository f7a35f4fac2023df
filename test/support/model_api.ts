/**
 * An API server as a model: Services in memory, a log of what happened to them,
 * pages, compaction, and streams that can be cut, hung or garbled. It is the
 * `ApiClient` itself, so that a property can run hundreds of histories.
 *
 * @module
 */
import { type ApiClient, ApiError, type ApiRequest } from "../../watch/api.ts";
import {
  rawBookmark,
  type RawObject,
  rawService,
  rawServiceList,
} from "./raw_objects.ts";

interface Logged {
  readonly version: number;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: RawObject;
}

interface Stream {
  readonly controller: ReadableStreamDefaultController<Uint8Array>;
  /** Gets nothing any more, as if the connection were dead. */
  isHung: boolean;
}

export class ModelApi implements ApiClient {
  readonly server = "http://model";
  readonly services = new Map<string, RawObject>();
  /** Objects in a page; bytes in a chunk. */
  readonly pageObjects = 3;
  readonly chunkBytes: number;
  #version = 1;
  #compactedTo = 0;
  #log: Logged[] = [];
  readonly #streams = new Set<Stream>();
  /** Pages of lists that are under way, by token. */
  readonly #pages = new Map<string, { items: RawObject[]; version: number }>();
  /** What the next requests fail with. */
  readonly #failures: (() => Error)[] = [];

  constructor(options: { readonly chunkBytes: number }) {
    this.chunkBytes = options.chunkBytes;
  }

  apply(name: string): void {
    const version = ++this.#version;
    const before = this.services.get(name);
    const object = rawService(name, version, 1 + version % 60_000);
    if (before === undefined) {
      Object.assign(object.metadata, { uid: `uid-${name}-${version}` });
    } else {
      Object.assign(object.metadata, { uid: before.metadata.uid });
    }
    this.services.set(name, object);
    this.#happened(before === undefined ? "ADDED" : "MODIFIED", object);
  }

  delete(name: string): void {
    const before = this.services.get(name);
    if (before === undefined) return;
    const version = ++this.#version;
    this.services.delete(name);
    const metadata = { ...before.metadata, resourceVersion: String(version) };
    this.#happened("DELETED", { ...before, metadata });
  }

  /** Forgets history: older versions are gone (410). */
  compact(): void {
    this.#compactedTo = this.#version;
    this.#log = [];
  }

  bookmark(): void {
    this.#send(
      JSON.stringify({ type: "BOOKMARK", object: rawBookmark(this.#version) }) +
        "\n",
    );
  }

  /** Breaks every stream, after half a line if it is said so. */
  cut(halfLine: boolean): void {
    if (halfLine) this.#send('{"type":"ADDED","object":{"meta');
    for (const { controller } of this.#streams) {
      controller.error(new TypeError("error reading a body from connection"));
    }
    this.#streams.clear();
  }

  end(): void {
    for (const { controller } of this.#streams) controller.close();
    this.#streams.clear();
  }

  hang(): void {
    for (const stream of this.#streams) stream.isHung = true;
  }

  garble(): void {
    this.#send("<html>502</html>\n");
  }

  /** The next request fails. */
  fail(code: number): void {
    this.#failures.push(() =>
      code === 0
        ? new TypeError("connection refused")
        : apiError(code, { retryAfterSeconds: 1 })
    );
  }

  /** From now on it behaves. */
  heal(): void {
    this.#failures.length = 0;
  }

  // deno-lint-ignore require-await -- as a client, it rejects
  async request(_path: string, options: ApiRequest = {}): Promise<Response> {
    options.signal?.throwIfAborted();
    const failure = this.#failures.shift();
    if (failure !== undefined) throw failure();
    const query = options.query ?? {};
    return query.watch === undefined
      ? this.#list(query)
      : this.#watch(query, options.signal);
  }

  [Symbol.dispose](): void {
    this.end();
  }

  #list(query: Readonly<Record<string, string>>): Response {
    let page = { items: [...this.services.values()], version: this.#version };
    if (query.continue !== undefined) {
      const next = this.#pages.get(query.continue);
      if (next === undefined || next.version < this.#compactedTo) {
        throw apiError(410);
      }
      page = next;
    }
    const size = query.limit === undefined ? Infinity : this.pageObjects;
    const items = page.items.slice(0, size);
    const rest = page.items.slice(size);
    if (rest.length === 0) {
      return Response.json(rawServiceList(page.version, items));
    }
    const token = `${page.version}/${rest.length}`;
    this.#pages.set(token, { items: rest, version: page.version });
    return Response.json(rawServiceList(page.version, items, token));
  }

  #watch(
    query: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Response {
    const from = Number(query.resourceVersion);
    let stream: Stream | undefined;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        stream = { controller, isHung: false };
        if (from < this.#compactedTo) {
          const object = { kind: "Status", code: 410, reason: "Expired" };
          this.#sendTo(
            stream,
            JSON.stringify({ type: "ERROR", object }) + "\n",
          );
          return controller.close();
        }
        for (const entry of this.#log) {
          if (entry.version > from) this.#sendTo(stream, eventLine(entry));
        }
        // A glimpse of a probe: its second is over as soon as it has begun.
        if (query.timeoutSeconds === "1") return controller.close();
        this.#streams.add(stream);
      },
      cancel: () => {
        if (stream !== undefined) this.#streams.delete(stream);
      },
    });
    signal?.addEventListener("abort", () => {
      if (stream === undefined || !this.#streams.delete(stream)) return;
      stream.controller.error(signal.reason);
    }, { once: true });
    return new Response(body);
  }

  #happened(type: Logged["type"], object: RawObject): void {
    const version = Number(object.metadata.resourceVersion);
    const entry: Logged = { version, type, object };
    this.#log.push(entry);
    this.#send(eventLine(entry));
  }

  #send(text: string): void {
    for (const stream of this.#streams) this.#sendTo(stream, text);
  }

  #sendTo({ controller, isHung }: Stream, text: string): void {
    if (isHung) return;
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length; at += this.chunkBytes) {
      controller.enqueue(bytes.slice(at, at + this.chunkBytes));
    }
  }
}

function eventLine({ type, object }: Logged): string {
  return JSON.stringify({ type, object }) + "\n";
}

function apiError(
  code: number,
  more: { retryAfterSeconds?: number } = {},
): ApiError {
  const status = {
    kind: "Status",
    code,
    reason: "",
    message: "",
    ...more,
  } as const;
  return new ApiError(status, "Cannot ask the model");
}

/**
 * An API server that plays recorded objects: a list, a watch of events whose
 * bytes a test has damaged, and after that whatever it is asked, truthfully, as
 * a server would that is not to blame for what the way to it does.
 *
 * @module
 */
import { type ApiClient, ApiError, type ApiRequest } from "../../watch/api.ts";
import { decodeVersion } from "../../watch/decode.ts";
import type { RawObject } from "./raw_objects.ts";
import { readRecording } from "./recording.ts";

export interface RecordedEvent {
  readonly type: string;
  readonly object: RawObject;
}

export interface RecordedApiOptions {
  /** What the first list has, and the version it is at. */
  readonly items: readonly unknown[];
  readonly version: number;
  /** What lists have after the first watch has begun. */
  readonly laterItems: readonly unknown[];
  readonly laterVersion: number;
  /** The first watch's body. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Places at which its bytes are cut into chunks. */
  readonly cuts: readonly number[];
  /** How the first watch ends, once its bytes are out. */
  readonly end: "stays open" | "ends" | "is cut";
  /** Lines that a later watch from this version gets. */
  readonly replay: (version: number) => readonly string[];
}

export class RecordedApi implements ApiClient {
  readonly server = "http://recorded";
  readonly #options: RecordedApiOptions;
  readonly #open = new Set<ReadableStreamDefaultController<Uint8Array>>();
  #watched = false;

  constructor(options: RecordedApiOptions) {
    this.#options = options;
  }

  // deno-lint-ignore require-await -- as a client, it rejects
  async request(_path: string, options: ApiRequest = {}): Promise<Response> {
    options.signal?.throwIfAborted();
    const query = options.query ?? {};
    if (query.watch !== undefined) return this.#watch(query, options.signal);
    const { items, version, laterItems, laterVersion } = this.#options;
    return Response.json({
      metadata: {
        resourceVersion: String(this.#watched ? laterVersion : version),
      },
      items: this.#watched ? laterItems : items,
    });
  }

  #watch(
    { resourceVersion = "", timeoutSeconds }: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Response {
    const from = Number(resourceVersion);
    if (!/^\d+$/.test(resourceVersion)) throw refusal(500);
    const isFirst = !this.#watched;
    this.#watched = true;
    let mine: ReadableStreamDefaultController<Uint8Array> | undefined;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        mine = controller;
        if (isFirst) {
          for (const chunk of this.#chunks()) controller.enqueue(chunk);
          if (this.#options.end === "ends") return controller.close();
          if (this.#options.end === "is cut") {
            return controller.error(new TypeError("error reading a body"));
          }
        } else {
          const text = this.#options.replay(from).join("");
          if (text !== "") controller.enqueue(new TextEncoder().encode(text));
          if (timeoutSeconds === "1") return controller.close();
        }
        this.#open.add(controller);
      },
      cancel: () => void (mine && this.#open.delete(mine)),
    });
    signal?.addEventListener("abort", () => {
      if (mine !== undefined && this.#open.delete(mine)) {
        mine.error(signal.reason);
      }
    }, { once: true });
    return new Response(body);
  }

  #chunks(): Uint8Array[] {
    const { bytes, cuts } = this.#options;
    const places = [...new Set(cuts.map((at) => at % (bytes.length + 1)))]
      .sort((a, b) => a - b);
    const chunks: Uint8Array[] = [];
    let from = 0;
    for (const to of [...places, bytes.length]) {
      if (to > from) chunks.push(bytes.slice(from, to));
      from = Math.max(from, to);
    }
    return chunks;
  }

  [Symbol.dispose](): void {
    for (const controller of this.#open) controller.close();
    this.#open.clear();
  }
}

function refusal(code: number): ApiError {
  const status = { kind: "Status", code, reason: "", message: "" } as const;
  return new ApiError(status, "Cannot ask the recording");
}

/** The items of a recorded list, and its version. */
export async function recordedList(
  name: string,
): Promise<{ items: RawObject[]; version: number }> {
  const text = new TextDecoder().decode(await readRecording(name));
  const list = JSON.parse(text.slice(text.indexOf("\r\n\r\n")));
  return { items: list.items, version: Number(decodeVersion(list)) };
}

/**
 * One resource of one API server: the list (in pages), the watch, and the two
 * small questions that tell whether a silent watch has missed something. Each
 * is a request with a deadline; when to ask again is decided by the callers.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { type ApiClient, ApiError, isGone } from "./api.ts";
import { type Clock, systemClock } from "./clock.ts";
import { LinkedAbort, withDeadline } from "./deadline.ts";
import { decodeKey, decodeVersion } from "./decode.ts";
import { isFields } from "./field_reader.ts";
import { ObjectReader } from "./object_reader.ts";
import type { Resource } from "./resource.ts";
import type { ClusterObject, ObjectKey } from "./types.ts";
import { readWatchEvents, type WatchEvent } from "./watch_stream.ts";

/** Objects in a page; kubectl's and client-go's number. */
export const PAGE_OBJECTS = 500;
/** An API server gives up on a request of its own after this (`--request-timeout`). */
export const LIST_TIMEOUT_MS = 60_000;
/**
 * Until the header of a watch: an API server sends it before any event. Shorter
 * than the client's own limit, so that it is known what did not come.
 */
export const WATCH_START_TIMEOUT_MS = 25_000;

/** A complete list, at one version. */
export interface Listed<T extends ClusterObject> {
  readonly objects: ReadonlyMap<ObjectKey, T>;
  readonly unreadable: ReadonlySet<ObjectKey>;
  /** Where a watch goes on from. */
  readonly resourceVersion: string;
}

export interface ResourceClientOptions {
  /** @default {systemClock} */
  readonly clock?: Clock;
}

export interface WatchOptions {
  /** When the server is to end the stream. */
  readonly timeoutSeconds: number;
  readonly signal: AbortSignal;
  /** Uses no connection that was open before. */
  readonly freshConnection?: boolean;
  /** Called when the header is there. */
  readonly onStart?: () => void;
}

/** One page of a list, its items unread. */
interface Page {
  readonly items: readonly unknown[];
  readonly resourceVersion: string;
  /** Token of the next page; empty on the last one. */
  readonly next: string;
}

const logger = getLogger("watch");

export class ResourceClient<T extends ClusterObject> {
  readonly resource: Resource<T>;
  readonly reader: ObjectReader<T>;
  readonly #client: ApiClient;
  readonly #clock: Clock;
  #fieldSelector: string | undefined;

  constructor(
    client: ApiClient,
    resource: Resource<T>,
    options: ResourceClientOptions = {},
  ) {
    this.#client = client;
    this.#clock = options.clock ?? systemClock;
    this.resource = resource;
    this.reader = new ObjectReader(resource);
    this.#fieldSelector = resource.fieldSelector;
  }

  /** Where it talks to, for people. */
  get server(): string {
    return this.#client.server;
  }

  /**
   * Lists everything, as it is now (no `resourceVersion`: the answer is not
   * older than this question). If the pages' version is dropped half-way (410),
   * the list is read once more in one piece.
   *
   * @param known objects that need not be read again where they are unchanged
   * @throws {ApiError} the server refused
   * @throws {TypeError} the server cannot be reached, or its answer is no list
   */
  async list(
    signal: AbortSignal,
    known: ReadonlyMap<ObjectKey, T> = new Map(),
  ): Promise<Listed<T>> {
    try {
      return await this.#listPages(signal, known, PAGE_OBJECTS);
    } catch (error) {
      if (isGone(error)) return await this.#listPages(signal, known, 0);
      if (!this.#dropsFieldSelector(error)) throw error;
      return await this.#listPages(signal, known, PAGE_OBJECTS);
    }
  }

  /**
   * Starts a watch and yields its events until the stream ends.
   *
   * @throws {ApiError} the server refused the watch
   * @throws {WatchLineError} the stream holds something else than events
   * @throws {TypeError} the server cannot be reached, or the stream was cut
   * @throws {DeadlineError} it did not start in time
   */
  async *watch(
    resourceVersion: string,
    options: WatchOptions,
  ): AsyncGenerator<WatchEvent, void> {
    // Not the deadline's own signal: this one goes on to guard the body.
    using abort = new LinkedAbort(options.signal);
    const response = await withDeadline(
      () =>
        this.#request(
          {
            watch: "1",
            resourceVersion,
            allowWatchBookmarks: "true",
            timeoutSeconds: String(options.timeoutSeconds),
          },
          abort.signal,
          options.freshConnection ?? false,
        ),
      {
        clock: this.#clock,
        ms: WATCH_START_TIMEOUT_MS,
        signal: options.signal,
        what: `watch of ${this.resource.name} does not start`,
      },
    );
    options.onStart?.();
    if (response.body !== null) yield* readWatchEvents(response.body);
  }

  /**
   * The version the server is at: a list of one object, over a connection that
   * was not there before.
   *
   * @param ms until the answer
   * @throws as `list()`
   */
  currentVersion(signal: AbortSignal, ms: number): Promise<string> {
    return withDeadline(
      async (signal) => {
        const page = await this.#page({ limit: "1" }, signal, true);
        return page.resourceVersion;
      },
      {
        clock: this.#clock,
        ms,
        signal,
        what: `${this.#client.server} does not answer`,
      },
    );
  }

  async #listPages(
    signal: AbortSignal,
    known: ReadonlyMap<ObjectKey, T>,
    limit: number,
  ): Promise<Listed<T>> {
    const objects = new Map<ObjectKey, T>();
    const unreadable = new Set<ObjectKey>();
    const seen = new Set<string>();
    let next = "";
    while (true) {
      const query: Record<string, string> = limit > 0
        ? { limit: String(limit) }
        : {};
      if (next !== "") query.continue = next;
      const page = await withDeadline(
        (signal) => this.#page(query, signal, false),
        {
          clock: this.#clock,
          ms: LIST_TIMEOUT_MS,
          signal,
          what: `list of ${this.resource.name} does not end`,
        },
      );
      for (const item of page.items) {
        const read = this.reader.read(item, known.get(decodeKey(item) ?? ""));
        if (read.outcome === "object") objects.set(read.key, read.object);
        else if (read.outcome === "unreadable" && read.key !== undefined) {
          unreadable.add(read.key);
        }
      }
      if (page.next === "") {
        return { objects, unreadable, resourceVersion: page.resourceVersion };
      }
      if (seen.has(page.next)) {
        throw new TypeError(
          `Cannot list ${this.resource.name}: the server gives the same page again and again`,
        );
      }
      seen.add(page.next);
      next = page.next;
    }
  }

  async #page(
    query: Record<string, string>,
    signal: AbortSignal,
    freshConnection: boolean,
  ): Promise<Page> {
    const response = await this.#request(query, signal, freshConnection);
    const step = `Cannot list ${this.resource.name}`;
    const text = await response.text();
    let body: unknown;
    try {
      body = JSON.parse(text);
    } catch (cause) {
      throw new TypeError(`${step}: the answer is not JSON`, { cause });
    }
    const resourceVersion = decodeVersion(body);
    if (!isFields(body) || resourceVersion === "") {
      throw new TypeError(
        `${step}: the answer has no metadata.resourceVersion, so it is no list`,
      );
    }
    // Old servers say null where there are none; a list that does not speak of
    // items at all is no list, and must not empty what is served.
    const items = body.items === null ? [] : body.items;
    if (!Array.isArray(items)) {
      throw new TypeError(`${step}: items of the answer is no list`);
    }
    const token = (body.metadata as { continue?: unknown }).continue;
    const next = typeof token === "string" ? token : "";
    return { items, resourceVersion, next };
  }

  #request(
    query: Record<string, string>,
    signal: AbortSignal,
    freshConnection: boolean,
  ): Promise<Response> {
    const { path, labelSelector } = this.resource;
    const fieldSelector = this.#fieldSelector;
    return this.#client.request(path, {
      query: {
        ...query,
        ...(labelSelector === undefined ? {} : { labelSelector }),
        ...(fieldSelector === undefined ? {} : { fieldSelector }),
      },
      signal,
      freshConnection,
    });
  }

  /** Whether the server may answer if it is asked without the field selector. */
  #dropsFieldSelector(error: unknown): boolean {
    if (!(error instanceof ApiError) || error.code !== 400) return false;
    if (this.#fieldSelector === undefined) return false;
    if (this.resource.fieldSelectorOptional !== true) return false;
    logger.debug("The server does not know the field selector; going without", {
      resource: this.resource.name,
      fieldSelector: this.#fieldSelector,
      cause: error,
    });
    this.#fieldSelector = undefined;
    return true;
  }
}

/**
 * Watches: a stream of changes for each that is open, from the revision it
 * asked for, of the objects it asked for, in the form it asked for. Fed by the
 * store, and told by `faults.ts` when to misbehave.
 *
 * @module
 */
import { checkListOptions, revisionOf } from "./paging.ts";
import { oneOf, type Representation } from "./representation.ts";
import {
  apiVersion,
  type KubeObject,
  type ResourceDefinition,
} from "./resource.ts";
import { type Selector, selectorOf } from "./selectors.ts";
import { expired } from "./status.ts";
import { type Change, type Store, withRevision } from "./store.ts";

export interface WatchRequest {
  /** Empty: all namespaces. */
  readonly namespace: string;
  readonly query: URLSearchParams;
  readonly form: Representation;
}

export interface WatchesOptions {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Milliseconds between two bookmarks of a watch that takes them. */
  readonly bookmarkIntervalMs: number;
}

/** As the real server's: it draws a length between 30 and 60 minutes. */
const MIN_TIMEOUT_SECONDS = 1800;
/** How long before its end a watch gets a last bookmark. */
const LAST_BOOKMARK_MS = 2000;
/** A reader this far behind is cut off, and has to list again. */
const MAX_BACKLOG_BYTES = 64 * 1024 * 1024;
const MAX_TIMER_MS = 2 ** 31 - 1;
const INITIAL_EVENTS_END = "k8s.io/initial-events-end";

/** All open watches of one server. */
export class Watches {
  readonly #open = new Set<Watch>();
  #silent = false;

  constructor(readonly store: Store, readonly options: WatchesOptions) {}

  /** How many are open. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * Begins a watch. It ends at its `timeoutSeconds`, when the reader cancels,
   * or with one ERROR event if it begins before what is kept.
   *
   * @throws {StatusError} 400, 422 or 500: the query makes no sense
   */
  open(
    definition: ResourceDefinition,
    request: WatchRequest,
  ): ReadableStream<Uint8Array> {
    checkListOptions(request.query, "watch");
    revisionOf(request.query);
    const { namespace } = request;
    const selector = selectorOf(request.query, definition);
    const isAsked: Selector = (object) =>
      (namespace === "" || object.metadata.namespace === namespace) &&
      (selector === undefined || selector(object));
    const watch = new Watch(this, definition, request, isAsked, (closed) => {
      this.#open.delete(closed);
    });
    this.#open.add(watch);
    if (this.#silent) watch.silent = true;
    return watch.stream;
  }

  /** Cuts every open stream in the middle, as a dying server does. */
  break(): void {
    const reason = new Error("The watch was cut");
    for (const watch of [...this.#open]) watch.break(reason);
  }

  /** Ends every open stream properly, as a server that stops does. */
  end(): void {
    for (const watch of [...this.#open]) watch.end();
  }

  /** Sends a bookmark now, where bookmarks are taken. */
  bookmark(): void {
    for (const watch of this.#open) watch.bookmark();
  }

  /** Nothing more is sent on any watch, and none ends by itself. */
  silence(): void {
    this.#silent = true;
    for (const watch of this.#open) watch.silent = true;
  }

  /** What was held back is sent. */
  resume(): void {
    this.#silent = false;
    for (const watch of [...this.#open]) watch.silent = false;
  }
}

class Watch {
  readonly stream: ReadableStream<Uint8Array>;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  readonly #watches: Watches;
  readonly #definition: ResourceDefinition;
  readonly #form: Representation;
  readonly #query: URLSearchParams;
  readonly #isAsked: Selector;
  readonly #closed: (watch: Watch) => void;
  readonly #timers: ReturnType<typeof setTimeout>[] = [];
  readonly #encoder = new TextEncoder();
  #listener: Disposable | undefined;
  #isClosed = false;
  #hasColumns = false;
  /** Held back while silent; `undefined`: nothing is held back. */
  #held: (() => void)[] | undefined;

  constructor(
    watches: Watches,
    definition: ResourceDefinition,
    request: WatchRequest,
    isAsked: Selector,
    closed: (watch: Watch) => void,
  ) {
    this.#watches = watches;
    this.#definition = definition;
    this.#form = request.form;
    this.#query = request.query;
    this.#isAsked = isAsked;
    this.#closed = closed;
    this.stream = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
        this.#begin();
      },
      cancel: () => this.#close(),
    }, new ByteLengthQueuingStrategy({ highWaterMark: 64 * 1024 }));
  }

  set silent(silent: boolean) {
    if (silent) {
      this.#held ??= [];
      return;
    }
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const send of held) send();
  }

  break(reason: Error): void {
    if (this.#isClosed) return;
    this.#close();
    this.#controller.error(reason);
  }

  end(): void {
    if (this.#isClosed) return;
    this.#close();
    this.#controller.close();
  }

  bookmark(annotations?: Readonly<Record<string, string>>): void {
    if (!isTrue(this.#query.get("allowWatchBookmarks"))) return;
    const object: KubeObject = {
      kind: this.#definition.kind,
      apiVersion: apiVersion(this.#definition),
      metadata: {
        resourceVersion: String(this.#watches.store.revision),
        ...(annotations === undefined ? {} : { annotations }),
      } as KubeObject["metadata"],
      ...this.#definition.emptyFields,
    };
    this.#send("BOOKMARK", object);
  }

  /** In one go, so that no change falls between the past and what is to come. */
  #begin(): void {
    const { store } = this.#watches;
    const { plural } = this.#definition;
    const revision = revisionOf(this.#query);
    const initial = this.#query.get("sendInitialEvents") ?? "";
    const fromNow = isTrue(initial) || revision === 0 && initial === "";
    if (fromNow) {
      for (const object of store.list(plural)) {
        if (this.#isAsked(object)) this.#send("ADDED", object);
      }
      if (isTrue(initial)) this.bookmark({ [INITIAL_EVENTS_END]: "true" });
    } else if (revision > 0) {
      const changes = store.changesSince(revision);
      if (changes === undefined) return this.#tooOld(revision);
      for (const change of changes) this.#show(change);
    }
    this.#listener = store.listen((change) => {
      // From the future: what comes before is not for this watch.
      if (change.revision > revision) this.#show(change);
    });
    this.#startTimers();
  }

  #tooOld(revision: number): void {
    const { body } = expired(
      `too old resource version: ${revision} (${this.#watches.store.revision})`,
    );
    this.#write({ type: "ERROR", object: body });
    // Not at once: who opens it still has to enter it.
    queueMicrotask(() => this.#hold(() => this.end()));
  }

  #startTimers(): void {
    const seconds = Number(this.#query.get("timeoutSeconds") ?? 0) ||
      MIN_TIMEOUT_SECONDS * (1 + Math.random());
    const timeout = Math.min(seconds * 1000, MAX_TIMER_MS);
    const { bookmarkIntervalMs } = this.#watches.options;
    this.#timers.push(
      setTimeout(() => this.#hold(() => this.end()), timeout),
      setInterval(() => this.bookmark(), bookmarkIntervalMs),
    );
    const last = Math.max(timeout - LAST_BOOKMARK_MS, timeout / 2);
    this.#timers.push(setTimeout(() => this.bookmark(), last));
  }

  #show(change: Change): void {
    if (change.resource !== this.#definition.plural) return;
    const { previous, next } = change;
    const before = previous !== undefined && this.#isAsked(previous);
    const after = next !== undefined && this.#isAsked(next);
    if (after) this.#send(before ? "MODIFIED" : "ADDED", next);
    else if (before) {
      // It left the selector, or is deleted: its last state that was asked for.
      this.#send("DELETED", withRevision(previous, change.revision));
    }
  }

  #send(type: string, object: KubeObject): void {
    const { options } = this.#watches;
    let shown = oneOf(object, this.#definition, this.#form, options.now());
    if (this.#form.as === "Table") {
      const table = shown as Record<string, unknown>;
      // Only the first says what the columns are.
      if (this.#hasColumns) table.columnDefinitions = null;
      if (type === "BOOKMARK") table.rows = [];
      this.#hasColumns = true;
      shown = table;
    }
    this.#write({ type, object: shown });
  }

  #write(event: unknown): void {
    const line = this.#encoder.encode(JSON.stringify(event) + "\n");
    this.#hold(() => {
      if (this.#isClosed) return;
      this.#controller.enqueue(line);
      if ((this.#controller.desiredSize ?? 0) < -MAX_BACKLOG_BYTES) {
        this.break(new Error("The reader is too far behind"));
      }
    });
  }

  /** Does it now, or when the silence ends. */
  #hold(action: () => void): void {
    if (this.#held === undefined) action();
    else this.#held.push(action);
  }

  #close(): void {
    this.#isClosed = true;
    this.#held = undefined;
    this.#listener?.[Symbol.dispose]();
    for (const timer of this.#timers) clearTimeout(timer);
    this.#closed(this);
  }
}

function isTrue(text: string | null): boolean {
  return text !== null && ["1", "t", "true"].includes(text.toLowerCase());
}

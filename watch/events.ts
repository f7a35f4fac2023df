/**
 * Kubernetes Events (core/v1), the one thing this program writes: what an
 * object's owner must know, where `kubectl describe` shows it. In: events, at
 * any rate. Out: requests, at a bounded one. Knows nothing of what happened.
 *
 * Contract:
 * 1. `record` never waits, never throws, and keeps a bounded amount of memory.
 * 2. What was said before is counted in the Event that says it, as client-go
 *    does, instead of being written again.
 * 3. An object gets 25 Events at once and one in five minutes after that, as
 *    client-go has it; all of them together five a second. What is more is
 *    dropped.
 * 4. An API server that is away or busy is tried again every 10 s; an Event it
 *    refuses is dropped, and the refusal logged once.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { type ApiClient, ApiError } from "./api.ts";
import type { Clock } from "./clock.ts";
import { TroubleLog } from "./trouble_log.ts";
import { isUnreachable } from "./unreachable.ts";

const logger = getLogger("watch");

/** What an Event is about. */
export interface EventSubject {
  readonly apiVersion: string;
  readonly kind: string;
  /** Empty for objects without one: their Events are in `default`. */
  readonly namespace: string;
  readonly name: string;
  /** `kubectl describe` looks for it. */
  readonly uid: string;
}

export interface ClusterEvent {
  readonly subject: EventSubject;
  readonly type: "Normal" | "Warning";
  /** UpperCamelCase: `FailedToStartServiceHealthcheck`. */
  readonly reason: string;
  /** What was tried, in UpperCamelCase: `Listen`. */
  readonly action: string;
  /** One sentence. */
  readonly note: string;
}

export interface EventRecorderOptions {
  readonly client: ApiClient;
  readonly clock: Clock;
  /** Who says so: `kube-portal`. */
  readonly component: string;
  /** The node it says so from. */
  readonly nodeName: string;
}

/** client-go's numbers for one object. */
const OBJECT_BURST = 25;
const OBJECT_REFILL_MS = 300_000;
/** Between two requests. */
const PACE_MS = 200;
const RETRY_MS = 10_000;
const ANSWER_TIMEOUT_MS = 10_000;
const MAX_QUEUED = 1_000;
/** Events and objects that are remembered, the latest. */
const MAX_REMEMBERED = 4_096;
/** The API's limit is 1,024 bytes. */
const MAX_NOTE_LENGTH = 1_000;

interface Queued {
  readonly key: string;
  readonly event: ClusterEvent;
  readonly firstMs: number;
  lastMs: number;
  count: number;
}

/** An Event that is at the API server. */
interface Written {
  readonly path: string;
  count: number;
}

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #queue = new Map<string, Queued>();
  readonly #written = new Map<string, Written>();
  /** Subject → when it will have all of its allowance again. */
  readonly #allowances = new Map<string, number>();
  readonly #trouble = new TroubleLog(logger, {});
  #wake = Promise.withResolvers<void>();

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  /** Takes an event, to be written by `run`. */
  record(event: ClusterEvent): void {
    const now = this.#options.clock.now();
    const { subject, type, reason, note } = event;
    const of = [subject.kind, subject.namespace, subject.name, subject.uid]
      .join("/");
    const key = [of, type, reason, note].join("/");
    const queued = this.#queue.get(key);
    if (queued !== undefined) {
      queued.count++;
      queued.lastMs = now;
      return;
    }
    if (this.#queue.size >= MAX_QUEUED || !this.#isAllowed(of, now)) {
      logger.debug("Dropped an Event: too many", { subject: of, reason });
      return;
    }
    this.#queue.set(key, { key, event, firstMs: now, lastMs: now, count: 1 });
    this.#wake.resolve();
  }

  /** Writes what is recorded, until the signal. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const stopped = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    while (!signal.aborted) {
      const [next] = this.#queue.values();
      if (next === undefined) {
        await Promise.race([this.#wake.promise, stopped]);
        this.#wake = Promise.withResolvers();
        continue;
      }
      this.#queue.delete(next.key);
      const isDone = await this.#write(next, signal);
      if (!isDone) this.#putBack(next);
      await clock.delay(isDone ? PACE_MS : RETRY_MS, signal).catch(() => {});
    }
  }

  /** A bucket of tokens, told by the time at which it is full again. */
  #isAllowed(subject: string, now: number): boolean {
    const fullAt = Math.max(this.#allowances.get(subject) ?? 0, now) +
      OBJECT_REFILL_MS;
    if (fullAt > now + OBJECT_BURST * OBJECT_REFILL_MS) return false;
    remember(this.#allowances, subject, fullAt);
    return true;
  }

  #putBack(failed: Queued): void {
    const since = this.#queue.get(failed.key);
    if (since !== undefined) {
      failed.count += since.count;
      failed.lastMs = since.lastMs;
    }
    this.#queue.set(failed.key, failed);
  }

  /** @returns false if it is worth another try */
  async #write(queued: Queued, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#send(queued, signal);
      this.#trouble.recovered("Events are written again");
      return true;
    } catch (error) {
      if (signal.aborted) return true;
      // That there is no server, the watches say already.
      if (isUnreachable(error)) return false;
      this.#trouble.failed("Cannot write Events", error);
      const isRefused = error instanceof ApiError && error.code < 500 &&
        error.code !== 429;
      return isRefused;
    }
  }

  async #send(queued: Queued, signal: AbortSignal): Promise<void> {
    const written = this.#written.get(queued.key);
    if (written !== undefined) {
      try {
        await this.#request("PATCH", written.path, {
          count: written.count + queued.count,
          lastTimestamp: timestamp(queued.lastMs),
        }, signal);
        written.count += queued.count;
        remember(this.#written, queued.key, written);
        return;
      } catch (error) {
        // An Event lasts an hour; then it is said anew.
        const isGone = error instanceof ApiError && error.code === 404;
        if (!isGone) throw error;
        this.#written.delete(queued.key);
      }
    }
    const { namespace } = queued.event.subject;
    const path = `/api/v1/namespaces/${namespace || "default"}/events`;
    const name = eventName(queued);
    await this.#request("POST", path, this.#object(queued, name), signal);
    remember(this.#written, queued.key, {
      path: `${path}/${name}`,
      count: queued.count,
    });
  }

  async #request(
    method: "POST" | "PATCH",
    path: string,
    body: unknown,
    signal: AbortSignal,
  ): Promise<void> {
    const response = await this.#options.client.request(path, {
      method,
      body,
      signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]),
    });
    await response.body?.cancel();
  }

  #object({ event, firstMs, lastMs, count }: Queued, name: string): unknown {
    const { component, nodeName } = this.#options;
    const { subject, type, reason, action, note } = event;
    return {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name, namespace: subject.namespace || "default" },
      involvedObject: {
        apiVersion: subject.apiVersion,
        kind: subject.kind,
        ...(subject.namespace !== "" && { namespace: subject.namespace }),
        name: subject.name,
        uid: subject.uid,
      },
      type,
      reason,
      action,
      message: note.slice(0, MAX_NOTE_LENGTH),
      source: { component, host: nodeName },
      reportingComponent: component,
      reportingInstance: nodeName,
      firstTimestamp: timestamp(firstMs),
      lastTimestamp: timestamp(lastMs),
      count,
    };
  }
}

/** As client-go's: the object's name and a number nobody else will have. */
function eventName({ event, firstMs }: Queued): string {
  const random = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  return `${event.subject.name}.${firstMs.toString(16)}${
    random.toString(16).padStart(8, "0")
  }`;
}

function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

/** Makes it the latest, and forgets the oldest where there are too many. */
function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= MAX_REMEMBERED) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}

/**
 * The reflector's events from nothing but repeated lists: for proxies and API
 * servers that buffer or refuse watches. Costs a list each interval; an item
 * whose uid and resourceVersion did not change is not even looked into, and a
 * list that brought nothing new is not passed on.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { ApiError } from "./api.ts";
import { Backoff } from "./backoff.ts";
import { type Clock, systemClock } from "./clock.ts";
import { Reachability } from "./reachability.ts";
import { ABSENT_RETRY_MS } from "./reflector_state.ts";
import type { Listed, ResourceClient } from "./resource_client.ts";
import { TroubleLog } from "./trouble_log.ts";
import type { ClusterObject, SourceEvent } from "./types.ts";

export interface PollOptions {
  /** Milliseconds between the end of a list and the next one. */
  readonly intervalMs: number;
  readonly signal: AbortSignal;
  /** Returns after the first list that is later than this. @default {Infinity} */
  readonly forMs?: number;
  /** @default {systemClock} */
  readonly clock?: Clock;
  /** @default {Math.random} */
  readonly random?: () => number;
  /** Shared by all that follow the same server. @default {its own} */
  readonly reachability?: Reachability;
}

const logger = getLogger("watch");

/**
 * Lists again and again until `signal` is aborted or `forMs` are over; then it
 * returns. A failed list changes nothing but the state.
 */
export async function* poll<T extends ClusterObject>(
  client: ResourceClient<T>,
  options: PollOptions,
): AsyncGenerator<SourceEvent<T>, void> {
  const { signal } = options;
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const backoff = new Backoff({ clock, random });
  const { name, optional } = client.resource;
  const about = { resource: name, server: client.server };
  const trouble = new TroubleLog(logger, about);
  const reachability = options.reachability ?? new Reachability(clock);
  const until = clock.now() + (options.forMs ?? Infinity);
  let known: Listed<T> | undefined;
  let waiting = true;
  try {
    while (!signal.aborted && clock.now() < until) {
      let pauseMs = options.intervalMs;
      try {
        const listed = await client.list(signal, known?.objects);
        reachability.answered(client.server);
        trouble.recovered("Listing works again");
        if (waiting) yield { type: "state", state: { phase: "polling" } };
        waiting = false;
        if (known === undefined || differs(known, listed)) {
          yield replaced(listed);
        }
        known = listed;
      } catch (error) {
        signal.throwIfAborted();
        const code = error instanceof ApiError ? error.code : 0;
        if (optional && code === 404) {
          if (known?.objects.size !== 0) yield replaced(known = nothing());
          pauseMs = Math.max(pauseMs, ABSENT_RETRY_MS);
        } else {
          if (!reachability.lost(name, error)) {
            trouble.failed("Cannot list; what is known stays served", error);
          }
          const retryAfter = error instanceof ApiError
            ? error.status.retryAfterSeconds
            : 0;
          pauseMs = Math.max(pauseMs, backoff.nextMs(retryAfter));
        }
        waiting = true;
        const reason = error instanceof Error ? error.message : String(error);
        yield { type: "state", state: { phase: "waiting", reason } };
      }
      await clock.delay(pauseMs, signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

function replaced<T extends ClusterObject>(listed: Listed<T>): SourceEvent<T> {
  return {
    type: "replaced",
    objects: [...listed.objects.values()],
    unreadable: listed.unreadable,
  };
}

function nothing<T extends ClusterObject>(): Listed<T> {
  return { objects: new Map(), unreadable: new Set(), resourceVersion: "" };
}

/** By identity: an item in an unchanged state is the very object it was. */
function differs<T extends ClusterObject>(
  before: Listed<T>,
  after: Listed<T>,
): boolean {
  if (before.objects.size !== after.objects.size) return true;
  if (before.unreadable.size !== after.unreadable.size) return true;
  for (const [key, object] of after.objects) {
    if (before.objects.get(key) !== object) return true;
  }
  for (const key of after.unreadable) {
    if (!before.unreadable.has(key)) return true;
  }
  return false;
}

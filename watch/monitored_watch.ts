/**
 * One watch request, from its header to its end, with an eye on silence. It
 * yields the events that carry objects and returns why there are no more; what
 * to do about that is the reflector's.
 *
 * A stream is given up on when it outlives its own `timeoutSeconds` in silence,
 * when the server says that it is missing something (silence.ts), and when
 * another resource found the server set back.
 *
 * @module
 */
import { ApiError } from "./api.ts";
import type { Clock } from "./clock.ts";
import { DeadlineError, LinkedAbort } from "./deadline.ts";
import { decodeVersion } from "./decode.ts";
import type { ProbeVerdict } from "./probe.ts";
import type { ResourceClient } from "./resource_client.ts";
import type { ServerHistory } from "./server_history.ts";
import { Silence } from "./silence.ts";
import type { ClusterObject } from "./types.ts";
import { compareVersions } from "./version.ts";
import { type WatchEvent, WatchLineError } from "./watch_stream.ts";

/** How long a stream may outlive its `timeoutSeconds`. */
export const OVERTIME_MS = 10_000;
/** client-go's `defaultMinWatchTimeout`; the longest is twice that. */
export const SHORTEST_WATCH_SECONDS = 300;
/**
 * So many probes in a row may find the server ahead and nothing missed. An API
 * server sends a bookmark every minute or so: a stream without any is odd, and
 * whatever swallows its events may swallow a glimpse's too.
 */
export const MOST_DOUBTS = 4;

/** Why a watch has no more events. */
export type WatchEnd =
  /** The server ended it: after `timeoutSeconds`, or earlier. */
  | { readonly why: "ended"; readonly isEarly: boolean }
  /** Answered with an error, as HTTP status or as an ERROR event. */
  | { readonly why: "refused"; readonly error: ApiError }
  /** Something else than events came. */
  | { readonly why: "garbled"; readonly error: WatchLineError }
  /** No connection. */
  | { readonly why: "unreachable"; readonly error: unknown }
  /** The connection broke. */
  | { readonly why: "cut"; readonly error: unknown }
  /** Nothing came for so long that it must be dead. */
  | { readonly why: "dead"; readonly error: unknown }
  /** The server had events, and they did not come. */
  | { readonly why: "stalled"; readonly error: unknown }
  /** Lists are answered, watches are kept open and say nothing. */
  | { readonly why: "mute"; readonly error: unknown }
  /** It went back to an older version: it repeats itself, or lies. */
  | { readonly why: "disordered"; readonly error: unknown }
  /** The server's data is older than this watch. */
  | { readonly why: "behind"; readonly error: unknown }
  /** For minutes the server's version has moved, and nothing came. */
  | { readonly why: "doubtful"; readonly error: unknown };

/** Any event but ERROR, which ends a watch. */
export type ObjectEvent = Exclude<WatchEvent, { type: "ERROR" }>;

export interface MonitorOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly signal: AbortSignal;
  readonly freshConnection: boolean;
  /** The server is as it was when a stream of it last delivered. */
  readonly proven: boolean;
  /** It goes on from an earlier watch, at a server that may be another by now. */
  readonly resumed: boolean;
  readonly history: ServerHistory;
  /** In which the version was given out. */
  readonly epoch: number;
}

/**
 * Watches from `resourceVersion` on, until the watch ends one way or another.
 *
 * @throws the signal's reason, and nothing else
 */
export async function* monitorWatch<T extends ClusterObject>(
  client: ResourceClient<T>,
  resourceVersion: string,
  options: MonitorOptions,
): AsyncGenerator<ObjectEvent, WatchEnd> {
  const { clock, signal, history, epoch } = options;
  const timeoutSeconds = SHORTEST_WATCH_SECONDS +
    Math.floor(options.random() * (SHORTEST_WATCH_SECONDS + 1));
  const endsAt = clock.now() + timeoutSeconds * 1000;
  using abort = new LinkedAbort(signal);
  using _ = history.listen(() => abort.abort());
  if (history.epoch !== epoch) return behind(client);
  const silence = new Silence(client, {
    ...options,
    signal: abort.signal,
    resumedAt: options.resumed ? resourceVersion : undefined,
  });
  let started = false;
  const events = client.watch(resourceVersion, {
    timeoutSeconds,
    signal: abort.signal,
    freshConnection: options.freshConnection,
    onStart: () => {
      started = true;
      silence.begun();
    },
  });
  let version = resourceVersion;
  let next = take(events);
  try {
    while (true) {
      const first = await Promise.race([next, silence.notice(version)]);
      signal.throwIfAborted();
      if (history.epoch !== epoch) return behind(client);
      switch (first.kind) {
        case "event": {
          silence.broken();
          if (first.event.type === "ERROR") {
            return refused(client, first.event.status);
          }
          const reached = decodeVersion(first.event.object);
          if ((compareVersions(reached, version) ?? 0) < 0) {
            return disordered(client, { from: version, to: reached });
          }
          version = reached || version;
          // Before yielding: what came meanwhile must be seen before a probe.
          next = take(events);
          yield first.event;
          break;
        }
        case "end":
          return { why: "ended", isEarly: clock.now() < endsAt };
        case "error":
          return asEnd(first.error, started);
        case "look":
          if (clock.now() > endsAt + OVERTIME_MS && silence.ms > OVERTIME_MS) {
            const error = new DeadlineError(
              `Watch of ${client.resource.name} did not end after its ${timeoutSeconds} s`,
            );
            return { why: "dead", error };
          }
          break;
        case "verdict": {
          const end = endBy(first.verdict, { client, doubts: silence.doubts });
          if (end !== undefined) return end;
          break;
        }
      }
    }
  } finally {
    abort.abort();
    await events.return();
    await next;
  }
}

type Taken =
  | { readonly kind: "event"; readonly event: WatchEvent }
  | { readonly kind: "end" }
  | { readonly kind: "error"; readonly error: unknown };

/** The next event as a value: an error that nobody awaits yet is no crash. */
async function take(events: AsyncGenerator<WatchEvent, void>): Promise<Taken> {
  try {
    const { done, value } = await events.next();
    return done ? { kind: "end" } : { kind: "event", event: value };
  } catch (error) {
    return { kind: "error", error };
  }
}

function refused<T extends ClusterObject>(
  client: ResourceClient<T>,
  status: ApiError["status"],
): WatchEnd {
  const step = `Cannot watch ${client.resource.name}`;
  return { why: "refused", error: new ApiError(status, step) };
}

/**
 * Versions of one resource only grow. Where they do not, either this event is
 * an old one or the one before was wrong, and only a list can tell.
 */
function disordered<T extends ClusterObject>(
  client: ResourceClient<T>,
  { from, to }: { readonly from: string; readonly to: string },
): WatchEnd {
  const error = new Error(
    `Watch of ${client.resource.name} went back from version ${from} to ${to}`,
  );
  return { why: "disordered", error };
}

/** Found out by this watch, or by whoever follows the same server. */
function behind<T extends ClusterObject>(client: ResourceClient<T>): WatchEnd {
  const error = new Error(
    `Watch of ${client.resource.name} is at a version that the server has lost`,
  );
  return { why: "behind", error };
}

function asEnd(error: unknown, started: boolean): WatchEnd {
  if (error instanceof ApiError) return { why: "refused", error };
  if (error instanceof WatchLineError) return { why: "garbled", error };
  // A proxy that holds back even the header holds back all the rest too.
  if (error instanceof DeadlineError) return { why: "stalled", error };
  return { why: started ? "cut" : "unreachable", error };
}

function endBy<T extends ClusterObject>(
  verdict: ProbeVerdict,
  { client, doubts }: { client: ResourceClient<T>; doubts: number },
): WatchEnd | undefined {
  const watch = `Watch of ${client.resource.name}`;
  switch (verdict.verdict) {
    case "fine":
      return undefined;
    case "newer":
      return doubts < MOST_DOUBTS ? undefined : {
        why: "doubtful",
        error: new Error(`${watch} is silent for too long`),
      };
    case "gone":
      return { why: "refused", error: verdict.error };
    case "unreachable":
      return { why: "dead", error: verdict.error };
    case "mute":
      return { why: "mute", error: verdict.error };
    case "missed":
      return {
        why: "stalled",
        error: new Error(
          `${watch} is silent while ${client.resource.name} change`,
        ),
      };
    case "behind":
      return behind(client);
  }
}

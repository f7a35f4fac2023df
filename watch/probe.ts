/**
 * Has a silent watch missed something? Silence alone says nothing: most
 * clusters are quiet most of the time, and a connection whose other end is gone
 * (a laptop slept, a NAT entry was dropped, a proxy buffers) is just as quiet.
 *
 * Two small questions over fresh connections settle it. What version is the
 * server at: if it is the stream's own, nothing was missed. If it is a newer
 * one, that may be any other kind of object, since one counter serves all; so a
 * watch of one second, from the stream's version, shows exactly what the stream
 * ought to have delivered.
 *
 * @module
 */
import { ApiError, isGone } from "./api.ts";
import type { Clock } from "./clock.ts";
import { DeadlineError, withDeadline } from "./deadline.ts";
import type { ResourceClient } from "./resource_client.ts";
import type { ClusterObject } from "./types.ts";
import { compareVersions } from "./version.ts";

/** For each of the two answers; an API server in trouble needs longer, but answers. */
export const PROBE_TIMEOUT_MS = 5_000;
/** An event that was just made is on its way to the stream as well. */
export const PROBE_GRACE_MS = 1_000;
const GLIMPSE_SECONDS = 1;

export type ProbeVerdict =
  /** Nothing was missed, or the server would not tell. */
  | { readonly verdict: "fine" }
  /** The server's version is newer, and a glimpse showed nothing of ours. */
  | { readonly verdict: "newer" }
  /** It lists, and does not even answer a watch of one second. */
  | { readonly verdict: "mute"; readonly error: unknown }
  /** The server has events that the stream did not deliver. */
  | { readonly verdict: "missed" }
  /** The stream's version is newer than the server's: it was set back. */
  | { readonly verdict: "behind" }
  /** The stream's version is no longer kept. */
  | { readonly verdict: "gone"; readonly error: ApiError }
  | { readonly verdict: "unreachable"; readonly error: unknown };

export interface ProbeOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * The first of the two questions alone: was the server set back? An answer that
 * does not come says nothing here.
 *
 * @throws the signal's reason, and nothing else
 */
export async function askVersion<T extends ClusterObject>(
  client: ResourceClient<T>,
  resourceVersion: string,
  { signal }: ProbeOptions,
): Promise<ProbeVerdict> {
  try {
    const current = await client.currentVersion(signal, PROBE_TIMEOUT_MS);
    const order = compareVersions(current, resourceVersion) ?? 0;
    return { verdict: order < 0 ? "behind" : "fine" };
  } catch {
    signal.throwIfAborted();
    return { verdict: "fine" };
  }
}

/**
 * Asks the server what a stream that has reached `resourceVersion` missed.
 *
 * @throws the signal's reason, and nothing else
 */
export async function probe<T extends ClusterObject>(
  client: ResourceClient<T>,
  resourceVersion: string,
  options: ProbeOptions,
): Promise<ProbeVerdict> {
  try {
    const current = await client.currentVersion(
      options.signal,
      PROBE_TIMEOUT_MS,
    );
    const order = compareVersions(current, resourceVersion);
    if (order === 0) return { verdict: "fine" };
    if (order !== undefined && order < 0) return { verdict: "behind" };
    const verdict = await glimpseInTime(client, resourceVersion, options);
    if (verdict.verdict === "missed") {
      await options.clock.delay(PROBE_GRACE_MS, options.signal);
    }
    return verdict;
  } catch (error) {
    options.signal.throwIfAborted();
    if (isGone(error)) return { verdict: "gone", error: error as ApiError };
    // A refusal is an answer: the server is there, and may be well again soon.
    if (error instanceof ApiError) return { verdict: "fine" };
    return { verdict: "unreachable", error };
  }
}

/** As `glimpse()`; a server that has just listed, but keeps this open, is mute. */
async function glimpseInTime<T extends ClusterObject>(
  client: ResourceClient<T>,
  resourceVersion: string,
  options: ProbeOptions,
): Promise<ProbeVerdict> {
  try {
    return await withDeadline(
      (signal) => glimpse(client, resourceVersion, signal),
      {
        clock: options.clock,
        ms: PROBE_TIMEOUT_MS,
        signal: options.signal,
        what: `${client.server} does not end a watch of ${GLIMPSE_SECONDS} s`,
      },
    );
  } catch (error) {
    if (!(error instanceof DeadlineError)) throw error;
    return { verdict: "mute", error };
  }
}

/** The first event after a version, if there is one by now. */
async function glimpse<T extends ClusterObject>(
  client: ResourceClient<T>,
  resourceVersion: string,
  signal: AbortSignal,
): Promise<ProbeVerdict> {
  const events = client.watch(resourceVersion, {
    timeoutSeconds: GLIMPSE_SECONDS,
    freshConnection: true,
    signal,
  });
  for await (const event of events) {
    if (event.type === "BOOKMARK") continue;
    if (event.type !== "ERROR") return { verdict: "missed" };
    throw new ApiError(event.status, `Cannot watch ${client.resource.name}`);
  }
  return { verdict: "newer" };
}

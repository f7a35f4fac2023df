/**
 * What a reflector can be doing, as data: its states, the small facts that
 * lead from one to the next, and how it is told what to do. The ways themselves
 * are reflector.ts.
 *
 * @module
 */
import { ApiError } from "./api.ts";
import type { Clock } from "./clock.ts";
import type { Reachability } from "./reachability.ts";
import type { ServerHistory } from "./server_history.ts";

/** Two steps without a wait between them are at least this far apart. */
export const PROMPT_MS = 10_000;
/** How often a resource is asked for that the server does not have. */
export const ABSENT_RETRY_MS = 300_000;
/** Refusals at one version until it is given up for a new list. */
export const MOST_STRIKES = 3;
/** The same for garbled streams: the second one is no accident. */
export const MOST_GARBLED_STRIKES = 2;

export interface ReflectOptions {
  readonly signal: AbortSignal;
  /** @default {systemClock} */
  readonly clock?: Clock;
  /** @default {Math.random} */
  readonly random?: () => number;
  /** Shared by all that follow the same server. @default {its own} */
  readonly reachability?: Reachability;
  /** Shared likewise. @default {its own} */
  readonly history?: ServerHistory;
  /** Return, instead of trying for ever, where lists work and watches do not. */
  readonly mayGiveUp?: boolean;
}

/** Watching does not work on the way to this server; the reason, one sentence. */
export interface Unwatchable {
  readonly reason: string;
}

/** What one watch begins with. */
export interface Watching {
  readonly name: "watching";
  readonly resourceVersion: string;
  /** Uses no connection that was open before: the old one may be dead. */
  readonly freshConnection: boolean;
  /** After a watch that ended before its time: the server may have, too. */
  readonly resumed: boolean;
}

export type State =
  | { readonly name: "listing" }
  | Watching
  | {
    readonly name: "waiting";
    readonly ms: number;
    readonly reason: string;
    readonly next: State;
  }
  | { readonly name: "unwatchable"; readonly reason: string };

export const LISTING: State = { name: "listing" };

/** @param how `resumed`: after a failure, at a server that may be another */
export function watching(
  resourceVersion: string,
  how: { readonly freshConnection?: boolean; readonly resumed?: boolean } = {},
): State {
  const { freshConnection = false, resumed = false } = how;
  return { name: "watching", resourceVersion, freshConnection, resumed };
}

/** Answers that will not change by asking again. */
export function neverWatches(error: ApiError): boolean {
  return error.code === 405 || error.code === 501;
}

export function hasCode(error: unknown, code: number): boolean {
  return error instanceof ApiError && error.code === code;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

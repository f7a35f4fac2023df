/**
 * List, then watch: what an API server says about one resource, as a stream of
 * source events that never gives up. Here are the states and every way from one
 * to the next (drawn in README.md); the requests are resource_client.ts, one
 * watch's life is monitored_watch.ts, keeping the objects is informer.ts.
 *
 * 1. Nothing is said to be gone because the server is away.
 * 2. A relist is one event: there is no moment with half a list.
 * 3. After any failure it goes on from the last version it has seen; it lists
 *    again where that version is gone (410), refused three times, garbled
 *    twice, newer than the server's, or followed by an older one.
 * 4. Failures are followed by a wait (backoff.ts) or, if the last ten seconds
 *    were good, by the next step at once.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { ApiError, isGone } from "./api.ts";
import { Backoff } from "./backoff.ts";
import { type Clock, systemClock } from "./clock.ts";
import { decodeKey, decodeVersion } from "./decode.ts";
import {
  monitorWatch,
  type ObjectEvent,
  type WatchEnd,
} from "./monitored_watch.ts";
import type { ResourceClient } from "./resource_client.ts";
import { Reachability } from "./reachability.ts";
import {
  ABSENT_RETRY_MS,
  hasCode,
  LISTING,
  messageOf,
  MOST_GARBLED_STRIKES,
  MOST_STRIKES,
  neverWatches,
  PROMPT_MS,
  type ReflectOptions,
  type State,
  type Unwatchable,
  type Watching,
  watching,
} from "./reflector_state.ts";
import { ServerHistory } from "./server_history.ts";
import { TroubleLog } from "./trouble_log.ts";
import type { ClusterObject, SourceEvent } from "./types.ts";
import { compareVersions } from "./version.ts";

const logger = getLogger("watch");

/**
 * Follows one resource until `signal` is aborted; then it returns.
 *
 * @returns why, where it gave up on watching (`mayGiveUp`)
 */
export async function* reflect<T extends ClusterObject>(
  client: ResourceClient<T>,
  options: ReflectOptions,
): AsyncGenerator<SourceEvent<T>, Unwatchable | undefined> {
  try {
    return yield* new Reflection(client, options).run();
  } catch (error) {
    if (options.signal.aborted) return undefined;
    throw error;
  }
}

class Reflection<T extends ClusterObject> {
  readonly #client: ResourceClient<T>;
  readonly #signal: AbortSignal;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #mayGiveUp: boolean;
  readonly #backoff: Backoff;
  readonly #reachability: Reachability;
  readonly #history: ServerHistory;
  readonly #listTrouble: TroubleLog;
  readonly #watchTrouble: TroubleLog;
  /** Watches in a row that failed without bringing anything. */
  #strikes = 0;
  /** Of those, the ones that were silent while the resource changed. */
  #stalls = 0;
  /** A stream has brought something, ever. */
  #proven = false;
  #lastPromptAt = -Infinity;
  /** The newest version seen, and the epoch of the server that it is of. */
  #reached = "";
  #epoch = 0;

  constructor(client: ResourceClient<T>, options: ReflectOptions) {
    this.#client = client;
    this.#signal = options.signal;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#mayGiveUp = options.mayGiveUp ?? false;
    this.#backoff = new Backoff({ clock: this.#clock, random: this.#random });
    this.#reachability = options.reachability ?? new Reachability(this.#clock);
    this.#history = options.history ?? new ServerHistory();
    const about = { resource: client.resource.name, server: client.server };
    this.#listTrouble = new TroubleLog(logger, about);
    this.#watchTrouble = new TroubleLog(logger, about);
  }

  async *run(): AsyncGenerator<SourceEvent<T>, Unwatchable | undefined> {
    let state: State = LISTING;
    while (!this.#signal.aborted) {
      switch (state.name) {
        case "listing":
          yield { type: "state", state: { phase: "listing" } };
          state = yield* this.#list();
          break;
        case "watching":
          yield { type: "state", state: { phase: "watching" } };
          state = yield* this.#watch(state);
          break;
        case "waiting":
          yield {
            type: "state",
            state: { phase: "waiting", reason: state.reason },
          };
          await this.#clock.delay(state.ms, this.#signal);
          state = state.next;
          break;
        case "unwatchable":
          return { reason: state.reason };
      }
    }
    return undefined;
  }

  async *#list(): AsyncGenerator<SourceEvent<T>, State> {
    const epoch = this.#history.epoch;
    try {
      const listed = await this.#client.list(this.#signal);
      this.#answered();
      this.#advance(listed.resourceVersion, epoch);
      this.#listTrouble.recovered("Listing works again");
      yield {
        type: "replaced",
        objects: [...listed.objects.values()],
        unreadable: listed.unreadable,
      };
      return watching(listed.resourceVersion);
    } catch (error) {
      this.#signal.throwIfAborted();
      // Refused watches say nothing about watching while lists fail as well.
      this.#strikes = 0;
      if (this.#client.resource.optional && hasCode(error, 404)) {
        yield { type: "replaced", objects: [], unreadable: new Set() };
        const reason = `The server has no ${this.#client.resource.name}`;
        return { name: "waiting", ms: ABSENT_RETRY_MS, reason, next: LISTING };
      }
      const message = "Cannot list; what is known stays served";
      if (!this.#lost(error)) this.#listTrouble.failed(message, error);
      return this.#waitThen(LISTING, error);
    }
  }

  /** To what was listed, by a request that was made in `epoch`. */
  #advance(version: string, epoch: number): void {
    const wentBack = (compareVersions(version, this.#reached) ?? 0) < 0;
    // In a later epoch than the last list's, that is no news.
    const isNews = wentBack && epoch === this.#epoch;
    this.#epoch = isNews ? this.#history.endOf(epoch) : epoch;
    this.#reached = version;
  }

  #lost(error: unknown): boolean {
    return this.#reachability.lost(this.#client.resource.name, error);
  }

  #answered(): void {
    this.#reachability.answered(this.#client.server);
  }

  async *#watch(
    { resourceVersion, freshConnection, resumed }: Watching,
  ): AsyncGenerator<SourceEvent<T>, State> {
    const startedAt = this.#clock.now();
    const events = monitorWatch(this.#client, resourceVersion, {
      clock: this.#clock,
      random: this.#random,
      signal: this.#signal,
      freshConnection,
      // After a failure the server may be another one than before.
      proven: this.#proven && !resumed,
      resumed,
      history: this.#history,
      epoch: this.#epoch,
    });
    let version = resourceVersion;
    try {
      while (true) {
        const { done, value } = await events.next();
        if (done) {
          const livedMs = this.#clock.now() - startedAt;
          return this.#afterWatch(value, { version, livedMs });
        }
        const reached = decodeVersion(value.object);
        if (reached !== "" && reached !== version) {
          version = this.#reached = reached;
          this.#progressed();
        }
        const event = this.#toSourceEvent(value);
        if (event !== undefined) yield event;
      }
    } finally {
      await events.return({ why: "ended", isEarly: true });
    }
  }

  #progressed(): void {
    this.#strikes = 0;
    this.#stalls = 0;
    this.#proven = true;
    this.#answered();
    this.#watchTrouble.recovered("Watching works again");
  }

  #toSourceEvent(event: ObjectEvent): SourceEvent<T> | undefined {
    switch (event.type) {
      case "BOOKMARK":
        return undefined;
      case "DELETED": {
        const key = decodeKey(event.object);
        if (key === undefined) return undefined;
        this.#client.reader.forget(key);
        return { type: "deleted", key };
      }
      case "ADDED":
      case "MODIFIED": {
        const read = this.#client.reader.read(event.object);
        switch (read.outcome) {
          case "object":
            return { type: "applied", object: read.object };
          case "unselected":
            return { type: "deleted", key: read.key };
          case "unreadable":
            return undefined;
        }
      }
    }
  }

  /** Every way on from a watch that has ended. */
  #afterWatch(
    end: WatchEnd,
    watch: { readonly version: string; readonly livedMs: number },
  ): State {
    const resumed = end.why !== "ended" || end.isEarly;
    const same = watching(watch.version, { resumed });
    const fresh = watching(watch.version, { resumed, freshConnection: true });
    const lasted = watch.livedMs >= PROMPT_MS;
    switch (end.why) {
      case "ended":
        this.#answered();
        if (lasted) return same;
        this.#strikes++;
        return this.#giveUp("Watches end as soon as they begin") ??
          this.#waitThen(same, new Error("The watch ended early"));
      case "refused":
        this.#answered();
        if (isGone(end.error)) {
          logger.info("The version is no longer kept; listing again", {
            resource: this.#client.resource.name,
            resourceVersion: watch.version,
          });
          return this.#promptly(LISTING, end.error);
        }
        this.#watchTrouble.failed(
          "The server refused the watch; trying again",
          end.error,
        );
        // "Too many requests" is no word against watching.
        if (end.error.code !== 429) this.#strikes++;
        return this.#giveUp(end.error.message, neverWatches(end.error)) ??
          this.#waitThen(
            this.#strikes >= MOST_STRIKES ? LISTING : same,
            end.error,
          );
      case "garbled":
        this.#strikes++;
        this.#watchTrouble.failed(
          "The watch brought something else than events; trying again",
          end.error,
        );
        return this.#giveUp(end.error.message) ??
          this.#waitThen(
            this.#strikes >= MOST_GARBLED_STRIKES ? LISTING : fresh,
            end.error,
          );
      case "unreachable":
        if (!this.#lost(end.error)) {
          this.#watchTrouble.failed("Cannot begin the watch", end.error);
        }
        return this.#waitThen(fresh, end.error);
      case "cut":
        if (lasted) return this.#promptly(fresh, end.error);
        this.#strikes++;
        // Once is how a server, or a load balancer before it, goes away.
        if (this.#strikes > 1) {
          this.#watchTrouble.failed(
            "The watch was cut; going on from the last version",
            end.error,
          );
        }
        return this.#giveUp(messageOf(end.error)) ??
          this.#waitThen(
            this.#strikes >= MOST_STRIKES ? LISTING : fresh,
            end.error,
          );
      case "dead":
        this.#watchTrouble.failed(
          "The watch is dead; going on from the last version",
          end.error,
        );
        return this.#promptly(fresh, end.error);
      case "stalled":
      case "mute": {
        this.#stalls++;
        this.#watchTrouble.failed(
          "The watch does not deliver; trying again",
          end.error,
        );
        const again = this.#stalls > 1;
        // Where a watch of one second is not answered, a new one would not be.
        const next = again || end.why === "mute" ? LISTING : fresh;
        return this.#giveUp(messageOf(end.error), !this.#proven || again) ??
          this.#promptly(next, end.error);
      }
      case "disordered":
        this.#watchTrouble.failed(
          "The watch repeats older events; listing again",
          end.error,
        );
        return this.#promptly(LISTING, end.error);
      case "behind":
        this.#history.endOf(this.#epoch);
        this.#watchTrouble.failed(
          "The server was set back; listing again",
          end.error,
        );
        return this.#promptly(LISTING, end.error);
      case "doubtful":
        logger.debug("The watch is oddly silent; listing again", {
          resource: this.#client.resource.name,
        });
        return this.#promptly(LISTING, end.error);
    }
  }

  /** The end of watching, if that is allowed and clear enough. */
  #giveUp(reason: string, certain = false): State | undefined {
    const clear = certain || this.#strikes > MOST_STRIKES;
    return this.#mayGiveUp && clear
      ? { name: "unwatchable", reason }
      : undefined;
  }

  /** At once, but never twice in ten seconds: then it waits as after a failure. */
  #promptly(next: State, cause: unknown): State {
    const now = this.#clock.now();
    if (now - this.#lastPromptAt < PROMPT_MS) {
      return this.#waitThen(next, cause);
    }
    this.#lastPromptAt = now;
    return next;
  }

  #waitThen(next: State, cause: unknown): State {
    const retryAfter = cause instanceof ApiError
      ? cause.status.retryAfterSeconds
      : 0;
    const ms = this.#backoff.nextMs(retryAfter);
    return { name: "waiting", ms, reason: messageOf(cause), next };
  }
}

/**
 * When the desired state is made so: soon after a change, all changes of one
 * turn of the event loop together, one sync at a time, and again after a
 * failure or a while.
 *
 * Contract:
 * 1. A sync starts after every `request()`, in a later turn of the event loop;
 *    requests that come before it starts are served by the same one.
 * 2. Two syncs never run at the same time.
 * 3. A sync that threw, or that left something undone, is repeated: 1 s later at
 *    first, 30 s at most. Only one that threw, or that does not end, keeps
 *    `queuedAt`, which is what makes the proxy unhealthy: one listener that
 *    cannot be opened must not.
 * 4. Without any request there is one every `periodMs`, and when whoever syncs
 *    says that one is due.
 * 5. Between the end of one and the start of the next there are `minPauseMs`,
 *    none by default: listeners cost nothing to change.
 *
 * Upstream's counterpart is `BoundedFrequencyRunner`; its least interval
 * protects the kernel from rewrites. Where listeners wait for nothing, it belongs
 * to whoever writes rules (`write_pace.ts`).
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { getLogger } from "@std/log";
import type { Clock } from "../watch/clock.ts";

const logger = getLogger("proxy");

/** Milliseconds since 1970. */
export interface SyncTimes {
  /** The first request since the last success; missing if there is none. */
  readonly queuedAt?: number;
  /** The last success, or the start. */
  readonly updatedAt: number;
  /** The last request of all; missing before the first. */
  readonly requestedAt?: number;
}

export interface SyncRunnerOptions {
  readonly clock: Clock;
  /** How long without a sync until one is made anyway. */
  readonly periodMs: number;
  /** The least time between two; 0 by default. */
  readonly minPauseMs?: number;
  /** `again`: part of it could not be made so, try again soon. */
  readonly sync: () => Promise<"done" | "again">;
  /** When a sync is due without a request, milliseconds since 1970. */
  readonly dueAt?: () => number | undefined;
  /** Told how long a sync took that did not throw; milliseconds. */
  readonly synced?: (ms: number) => void;
}

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 30_000;

export class SyncRunner {
  readonly #options: SyncRunnerOptions;
  #wake = Promise.withResolvers<void>();
  /** The first request that no sync has taken up. */
  #queuedAt: number | undefined;
  /** The first request that the running sync, or a failed one, is for. */
  #servingSince: number | undefined;
  #updatedAt: number;
  #requestedAt: number | undefined;
  #failures = 0;
  #endedAt = -Infinity;

  constructor(options: SyncRunnerOptions) {
    this.#options = options;
    this.#updatedAt = options.clock.now();
  }

  get times(): SyncTimes {
    // Kept while a sync runs: one that hangs is as bad as one that fails.
    const queuedAt = this.#servingSince ?? this.#queuedAt;
    return {
      ...(queuedAt === undefined ? {} : { queuedAt }),
      updatedAt: this.#updatedAt,
      ...(this.#requestedAt === undefined
        ? {}
        : { requestedAt: this.#requestedAt }),
    };
  }

  request(): void {
    this.#requestedAt = this.#options.clock.now();
    this.#queuedAt ??= this.#requestedAt;
    this.#wake.resolve();
  }

  /** Syncs as requested until `signal` is aborted; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    // Not a promise of its own: every race would leave a reaction on it, and
    // the process lives for months.
    const abort = () => this.#wake.resolve();
    signal.addEventListener("abort", abort, { once: true });
    try {
      while (!signal.aborted) {
        await this.#untilDue();
        if (!signal.aborted) await this.#rest(signal);
        if (signal.aborted) return;
        await this.#syncOnce();
      }
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  async #untilDue(): Promise<void> {
    const timer = new AbortController();
    const due = this.#options.clock.delay(this.#pauseMs(), timer.signal).catch(
      // Only our own abort below ends the delay early.
      () => {},
    );
    await Promise.race([this.#wake.promise, due]);
    timer.abort();
    // Let what else arrived in this turn of the event loop join in.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }

  /** Requests that come meanwhile are served by the same sync. */
  async #rest(signal: AbortSignal): Promise<void> {
    const { minPauseMs = 0, clock } = this.#options;
    const left = this.#endedAt + minPauseMs - clock.now();
    // A clock that was set back makes nobody wait for longer than that.
    if (left > 0 && left <= minPauseMs) {
      await clock.delay(left, signal).catch(() => {});
    }
  }

  #pauseMs(): number {
    const { clock, dueAt } = this.#options;
    const due = dueAt?.();
    const untilDueMs = due === undefined
      ? Infinity
      : Math.max(0, due - clock.now());
    return Math.min(untilDueMs, this.#retryMs());
  }

  #retryMs(): number {
    if (this.#failures === 0) return this.#options.periodMs;
    return Math.min(
      FIRST_RETRY_MS * 2 ** (this.#failures - 1),
      LONGEST_RETRY_MS,
      this.#options.periodMs,
    );
  }

  async #syncOnce(): Promise<void> {
    this.#servingSince ??= this.#queuedAt ?? this.#options.clock.now();
    this.#queuedAt = undefined;
    this.#wake = Promise.withResolvers<void>();
    const startedAt = performance.now();
    try {
      const result = await this.#options.sync();
      this.#failures = result === "done" ? 0 : this.#failures + 1;
      this.#updatedAt = this.#options.clock.now();
      this.#servingSince = undefined;
      this.#options.synced?.(performance.now() - startedAt);
    } catch (error) {
      this.#failures++;
      logger.error("Cannot sync; trying again", { cause: error });
    } finally {
      this.#endedAt = this.#options.clock.now();
    }
  }
}

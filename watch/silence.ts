/**
 * How long one watch has been silent, and what the server says about it when
 * that is long. In: each line that came, by `broken()`. Out: notices, for
 * monitored_watch.ts to act upon.
 *
 * Time is looked at every few seconds instead of being slept through, because
 * the timers of a machine that was asleep are late by that sleep, and its clock
 * is not.
 *
 * @module
 */
import type { Clock } from "./clock.ts";
import { LinkedAbort } from "./deadline.ts";
import { askVersion, probe, type ProbeVerdict } from "./probe.ts";
import type { ResourceClient } from "./resource_client.ts";
import type { ClusterObject } from "./types.ts";

/** Silence after which the server is asked. */
export const SILENCE_MS = 30_000;
/** The same, for a stream of which nobody knows yet whether it delivers. */
export const UNPROVEN_SILENCE_MS = 5_000;
/**
 * After a watch that goes on from an earlier one's version has begun, the server
 * is asked whether it still has that version: between once and twice this long,
 * since all its clients begin again when a server does.
 */
export const RESUMED_ASK_MS = 1_000;
const LOOK_MS = 5_000;

export interface SilenceOptions {
  readonly clock: Clock;
  readonly random: () => number;
  /** The end of the watch. */
  readonly signal: AbortSignal;
  /** The server is as it was when a stream of it last delivered. */
  readonly proven: boolean;
  /** Undefined: what it begins at is no older than the last list. */
  readonly resumedAt: string | undefined;
}

export type Notice =
  | { readonly kind: "look" }
  | { readonly kind: "verdict"; readonly verdict: ProbeVerdict };

/** Measures how long a stream is silent, and probes when that is long. */
export class Silence<T extends ClusterObject> {
  readonly #client: ResourceClient<T>;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  #since: number;
  #patienceMs: number;
  #probeAt: number;
  #doubts = 0;
  #probe:
    | { readonly abort: LinkedAbort; readonly notice: Promise<Notice> }
    | undefined;
  #look: Promise<Notice> | undefined;
  readonly #begun = Promise.withResolvers<void>();
  readonly #first: LinkedAbort;
  #firstAnswer: Promise<Notice> | undefined;

  constructor(client: ResourceClient<T>, options: SilenceOptions) {
    this.#client = client;
    this.#clock = options.clock;
    this.#signal = options.signal;
    this.#first = new LinkedAbort(options.signal);
    if (options.resumedAt !== undefined) {
      const ms = RESUMED_ASK_MS * (1 + options.random());
      this.#firstAnswer = this.#askFirst(options.resumedAt, ms)
        .catch(never);
    }
    this.#since = this.#clock.now();
    this.#patienceMs = options.proven ? SILENCE_MS : UNPROVEN_SILENCE_MS;
    this.#probeAt = this.#since + this.#patienceMs;
  }

  get ms(): number {
    return this.#clock.now() - this.#since;
  }

  /** Probes in a row that found the server ahead and nothing missed. */
  get doubts(): number {
    return this.#doubts;
  }

  /** The header of the watch is there. */
  begun(): void {
    this.#begun.resolve();
  }

  /** A line came: whatever a probe would say is out of date. */
  broken(): void {
    this.#first[Symbol.dispose]();
    this.#firstAnswer = undefined;
    this.#since = this.#clock.now();
    this.#patienceMs = SILENCE_MS;
    this.#probeAt = this.#since + SILENCE_MS;
    this.#doubts = 0;
    this.#probe?.abort[Symbol.dispose]();
    this.#probe = undefined;
  }

  /** The next thing that silence has to say; never rejects. */
  notice(version: string): Promise<Notice> {
    const now = this.#clock.now();
    // A clock that was set back must not put the next probe off for hours.
    if (now < this.#since) this.#since = this.#probeAt = now;
    if (this.#probe === undefined && now >= this.#probeAt) {
      this.#startProbe(version);
    }
    this.#look ??= this.#clock.delay(LOOK_MS, this.#signal).then(
      () => this.#looked(),
      never,
    );
    const pending = [this.#firstAnswer, this.#probe?.notice, this.#look];
    return Promise.race(pending.filter((notice) => notice !== undefined));
  }

  #looked(): Notice {
    this.#look = undefined;
    return { kind: "look" };
  }

  async #askFirst(version: string, ms: number): Promise<Notice> {
    const { signal } = this.#first;
    await this.#begun.promise;
    await this.#clock.delay(ms, signal);
    const verdict = await askVersion(this.#client, version, {
      clock: this.#clock,
      signal,
    });
    this.#firstAnswer = undefined;
    return { kind: "verdict", verdict };
  }

  #startProbe(version: string): void {
    const abort = new LinkedAbort(this.#signal);
    const options = { clock: this.#clock, signal: abort.signal };
    const notice = probe(this.#client, version, options).then(
      (verdict): Notice => {
        this.#probe?.abort[Symbol.dispose]();
        this.#probe = undefined;
        this.#patienceMs = Math.min(this.#patienceMs * 2, SILENCE_MS);
        this.#probeAt = this.#clock.now() + this.#patienceMs;
        this.#doubts = verdict.verdict === "newer" ? this.#doubts + 1 : 0;
        return { kind: "verdict", verdict };
      },
      never,
    );
    this.#probe = { abort, notice };
  }
}

/** What an aborted wait leads to: the stream's own end comes first. */
function never(): Promise<never> {
  return new Promise(() => {});
}

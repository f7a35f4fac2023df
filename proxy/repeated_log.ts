/**
 * Log lines for what may happen thousands of times a second: the first of a
 * kind is written at once, those that follow are counted, and the count is
 * written at the end of the interval. In: reports. Out: lines, at a bounded
 * rate. Knows nothing of what is reported.
 *
 * @module
 */
import type { LogProperties } from "@std/log";
import type { Clock } from "../watch/clock.ts";

/** The shortest time between two lines of one kind, in milliseconds. */
export const REPEAT_INTERVAL_MS = 30_000;

export interface RepeatedLogOptions {
  readonly clock: Clock;
  /** Milliseconds; {@linkcode REPEAT_INTERVAL_MS} if not given. */
  readonly intervalMs?: number;
  /** Takes a line, as `logger.warn` does. */
  readonly write: (message: string, properties: LogProperties) => void;
}

interface Kind {
  message: string;
  properties: LogProperties;
  /** Reports that no line has told of yet. */
  count: number;
  /** Before this time no line of this kind is written. */
  quietUntil: number;
}

/**
 * 1. The first report of a kind is written at once, with `count: 1` (or its own).
 * 2. At most one line of a kind is written in an interval; it has the number
 *    of reports since the last one as `count`, and the newest properties.
 * 3. Another kind has its own interval, so that a change shows at once.
 * 4. No report is lost: disposing writes what is not yet told.
 *
 * It waits (a timer of the clock) only while there is something to tell.
 */
export class RepeatedLog implements Disposable {
  readonly #clock: Clock;
  readonly #intervalMs: number;
  readonly #write: RepeatedLogOptions["write"];
  readonly #kinds = new Map<string, Kind>();
  #timer: AbortController | undefined;
  #disposed = false;

  constructor(options: RepeatedLogOptions) {
    this.#clock = options.clock;
    this.#intervalMs = options.intervalMs ?? REPEAT_INTERVAL_MS;
    this.#write = options.write;
  }

  /**
   * @param kind what makes two reports the same; from a small set, since each
   *   is remembered for an interval
   * @param count how often it happened, if somebody else has counted before
   */
  report(
    kind: string,
    message: string,
    properties: LogProperties = {},
    count = 1,
  ): void {
    const now = this.#clock.now();
    const known = this.#kinds.get(kind);
    if (
      known === undefined || (known.count === 0 && now >= known.quietUntil)
    ) {
      this.#forgetQuietKinds(now);
      this.#kinds.set(kind, {
        message,
        properties,
        count: 0,
        quietUntil: now + this.#intervalMs,
      });
      this.#write(message, { ...properties, count });
      return;
    }
    known.message = message;
    known.properties = properties;
    known.count += count;
    if (this.#disposed) this.#tell(known, now);
    else if (this.#timer === undefined) this.#startTimer(now);
  }

  /** Writes what was counted and not yet told, and stops waiting. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#timer?.abort();
    this.#timer = undefined;
    const now = this.#clock.now();
    for (const kind of this.#kinds.values()) this.#tell(kind, now);
  }

  #tell(kind: Kind, now: number): void {
    if (kind.count === 0) return;
    this.#write(kind.message, { ...kind.properties, count: kind.count });
    kind.count = 0;
    kind.quietUntil = now + this.#intervalMs;
  }

  #forgetQuietKinds(now: number): void {
    for (const [name, kind] of this.#kinds) {
      if (kind.count === 0 && now >= kind.quietUntil) this.#kinds.delete(name);
    }
  }

  #startTimer(now: number): void {
    let until = Infinity;
    for (const kind of this.#kinds.values()) {
      if (kind.count > 0) until = Math.min(until, kind.quietUntil);
    }
    if (until === Infinity) return;
    const timer = new AbortController();
    this.#timer = timer;
    this.#clock.delay(Math.max(0, until - now), timer.signal).then(
      () => this.#tellDue(timer),
      () => {}, // disposed, which has told everything itself
    );
  }

  #tellDue(timer: AbortController): void {
    if (this.#timer !== timer) return;
    this.#timer = undefined;
    const now = this.#clock.now();
    for (const kind of this.#kinds.values()) {
      if (now >= kind.quietUntil) this.#tell(kind, now);
    }
    this.#startTimer(now);
  }
}

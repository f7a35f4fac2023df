/**
 * What a data thread has to say to people, collected so that thousands of
 * failures a second are one message. In: events. Out: counted ones, at most
 * every {@linkcode REPORT_INTERVAL_MS}.
 *
 * @module
 */
import type { CountedEvent } from "./messages.ts";
import { Timer, type Timers } from "./timers.ts";

/** The shortest time between two messages, in milliseconds. */
const REPORT_INTERVAL_MS = 100;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class EventLog {
  readonly #post: (events: readonly CountedEvent[]) => void;
  readonly #timers: Timers;
  readonly #timer = new Timer(() => this.#flush(this.#timer.dueAt));
  #events = new Map<string, Mutable<CountedEvent>>();
  #quietUntil = 0;

  constructor(
    timers: Timers,
    post: (events: readonly CountedEvent[]) => void,
  ) {
    this.#timers = timers;
    this.#post = post;
  }

  /** @param now milliseconds, the loop's */
  add(event: Omit<CountedEvent, "count">, now: number): void {
    const id = `${event.port} ${event.kind}`;
    const known = this.#events.get(id);
    if (known !== undefined) {
      known.properties = event.properties;
      known.count++;
      return;
    }
    this.#events.set(id, { ...event, count: 1 });
    if (this.#events.size > 1) return;
    if (now >= this.#quietUntil) this.#flush(now);
    else {
      const delayMs = REPORT_INTERVAL_MS;
      this.#timers.set(this.#timer, { now, delayMs });
    }
  }

  #flush(now: number): void {
    const events = [...this.#events.values()];
    this.#events = new Map();
    this.#quietUntil = now + REPORT_INTERVAL_MS;
    this.#post(events);
  }
}

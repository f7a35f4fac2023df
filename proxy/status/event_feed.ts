/**
 * The last things that were worth a line in the log, for those who look later
 * or from elsewhere. In: log records. Out: the latest, and those after a number.
 *
 * @module
 */
import type { LogEntry } from "@std/log";

/** Entries that are kept. */
export const FEED_MAX = 300;

export interface FeedEntry {
  /** Counts up by one with every entry. */
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly level: LogEntry["level"];
  readonly module: string;
  readonly message: string;
  readonly properties: Readonly<Record<string, string>>;
}

export class EventFeed {
  readonly #entries: FeedEntry[] = [];
  #last = 0;

  /** The number of the latest; 0 before the first. */
  get last(): number {
    return this.#last;
  }

  add({ time, level, module, message, properties }: LogEntry): void {
    const number = ++this.#last;
    this.#entries.push({ number, time, level, module, message, properties });
    if (this.#entries.length > FEED_MAX) this.#entries.shift();
  }

  /** Those after `number`, oldest first; older ones may be gone. */
  since(number: number): FeedEntry[] {
    const first = this.#entries[0]?.number ?? 0;
    return this.#entries.slice(Math.max(0, number + 1 - first));
  }
}

/**
 * The open connections of one ServicePort in one thread. In: pairs of sockets,
 * and what shall happen to all of them. Out: word of each that has ended.
 *
 * @module
 */
import type { Traffic } from "../counters.ts";
import { Connection, type ConnectionTools } from "./connection.ts";
import type { WatchedSocket } from "./search.ts";
import { Timer } from "./timers.ts";

/** At rest is who has been silent for a tenth of the age, at most a second. */
const REST_SHARE = 1 / 10;
const REST_MAX_MS = 1_000;

/**
 * Ages are spread by a tenth, as gRPC servers do (`MaxConnectionAge`), in a few
 * steps: timers of the same delay share a queue.
 */
const JITTER = 1 / 10;
const JITTER_STEPS = 8;

/** At this many times its age a connection is ended, at rest or not. */
const PATIENCE = 2;

interface Entry {
  readonly openedAt: number;
  /** 0.9 to 1.1: its own age is this times the limit. */
  readonly factor: number;
  readonly timer: Timer;
}

export class Connections {
  readonly #tools: ConnectionTools;
  readonly #traffic: Traffic;
  readonly #open = new Map<Connection, Entry>();
  /** Milliseconds; 0: none. */
  #ageLimitMs = 0;
  #isCutting = false;

  constructor(tools: ConnectionTools, traffic: Traffic) {
    this.#tools = tools;
    this.#traffic = traffic;
  }

  /** Owns both sockets, which the poller watches, until it calls `ended`. */
  add(
    client: WatchedSocket,
    endpoint: WatchedSocket,
    ended: () => void,
  ): void {
    const connection: Connection = new Connection({
      tools: this.#tools,
      client,
      endpoint,
      traffic: this.#traffic,
      ended: () => {
        this.#tools.timers.clear(entry.timer);
        this.#open.delete(connection);
        ended();
      },
    });
    const step = Math.floor(Math.random() * (JITTER_STEPS + 1));
    const entry: Entry = {
      openedAt: this.#tools.now,
      factor: 1 - JITTER + 2 * JITTER * step / JITTER_STEPS,
      timer: new Timer(() => this.#look(connection, entry)),
    };
    this.#open.set(connection, entry);
    if (this.#isCutting) return connection.cut();
    this.#startAgeing(entry);
    connection.start();
  }

  /** Cuts all, and those that come from now on. */
  cut(): void {
    this.#isCutting = true;
    for (const connection of [...this.#open.keys()]) connection.cut();
  }

  /**
   * The oldest that a connection may become; for open ones, too. It is ended
   * when it is older and at rest, or twice as old: the rules of
   * `../portable/connection_age.ts`.
   */
  limitAge(limitMs: number): void {
    if (limitMs === this.#ageLimitMs) return;
    this.#ageLimitMs = limitMs;
    for (const entry of this.#open.values()) this.#startAgeing(entry);
  }

  #startAgeing(entry: Entry): void {
    const { timers, now } = this.#tools;
    if (this.#ageLimitMs === 0) return timers.clear(entry.timer);
    const delayMs = this.#ageLimitMs * entry.factor;
    const age = now - entry.openedAt;
    timers.set(entry.timer, { now, delayMs: Math.max(1, delayMs - age) });
  }

  #look(connection: Connection, { openedAt, factor, timer }: Entry): void {
    const { timers, now } = this.#tools;
    const restMs = Math.min(REST_MAX_MS, this.#ageLimitMs * REST_SHARE);
    const patienceMs = this.#ageLimitMs * factor * PATIENCE;
    const isResting = connection.isAtRest && connection.silentMs >= restMs;
    if (isResting || now - openedAt >= patienceMs) return connection.cut();
    timers.set(timer, { now, delayMs: Math.max(1, restMs / 2) });
  }
}

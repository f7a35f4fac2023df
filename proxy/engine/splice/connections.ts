/**
 * The open connections of one ServicePort in one thread. In: pairs of sockets,
 * and what shall happen to all of them. Out: word of each that has ended.
 *
 * @module
 */
import type { Traffic } from "../counters.ts";
import {
  Connection,
  type ConnectionOwner,
  type ConnectionTools,
} from "./connection.ts";
import { Roster } from "./roster.ts";
import type { Pair } from "./search.ts";
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

/** The age limit of one connection. */
interface Ageing {
  /** The limit, give or take. */
  readonly ageMs: number;
  readonly timer: Timer;
}

export class Connections implements ConnectionOwner {
  readonly traffic: Traffic;
  readonly #tools: ConnectionTools;
  readonly #open = new Roster<Connection>();
  /** Milliseconds; 0: none. */
  #ageLimitMs = 0;
  /** Empty as long as there is no limit: most Services have none. */
  readonly #ageing = new Map<Connection, Ageing>();
  #isCutting = false;

  constructor(tools: ConnectionTools, traffic: Traffic) {
    this.#tools = tools;
    this.traffic = traffic;
  }

  /** Owns both sockets, which the poller watches, until it calls `whenEnded`. */
  add(pair: Pair, whenEnded: () => void): void {
    const connection = new Connection(pair, {
      tools: this.#tools,
      owner: this,
      whenEnded,
    });
    this.#open.add(connection);
    this.#tools.openConnections++;
    if (this.#isCutting) return connection.cut();
    if (this.#ageLimitMs > 0) this.#startAgeing(connection);
    connection.start();
  }

  ended(connection: Connection): void {
    this.#open.delete(connection);
    this.#tools.openConnections--;
    this.#stopAgeing(connection);
    connection.whenEnded();
  }

  /** Cuts all, and those that come from now on. */
  cut(): void {
    this.#isCutting = true;
    for (const connection of this.#open.all()) connection.cut();
  }

  /**
   * The oldest that a connection may become; for open ones, too. It is ended
   * when it is older and at rest, or twice as old: the rules of
   * `../portable/connection_age.ts`.
   */
  limitAge(limitMs: number): void {
    this.#ageLimitMs = limitMs;
    for (const connection of this.#open.all()) {
      this.#stopAgeing(connection);
      if (limitMs > 0) this.#startAgeing(connection);
    }
  }

  #startAgeing(connection: Connection): void {
    const { timers, now } = this.#tools;
    const step = Math.floor(Math.random() * (JITTER_STEPS + 1));
    const factor = 1 - JITTER + 2 * JITTER * step / JITTER_STEPS;
    const ageing: Ageing = {
      ageMs: this.#ageLimitMs * factor,
      timer: new Timer(() => this.#look(connection, ageing)),
    };
    this.#ageing.set(connection, ageing);
    const delayMs = ageing.ageMs - (now - connection.openedAt);
    timers.set(ageing.timer, { now, delayMs: Math.max(1, delayMs) });
  }

  #stopAgeing(connection: Connection): void {
    const ageing = this.#ageing.get(connection);
    if (ageing === undefined) return;
    this.#tools.timers.clear(ageing.timer);
    this.#ageing.delete(connection);
  }

  #look(connection: Connection, { ageMs, timer }: Ageing): void {
    const { timers, now } = this.#tools;
    const restMs = Math.min(REST_MAX_MS, this.#ageLimitMs * REST_SHARE);
    const isResting = connection.isAtRest && connection.silentMs >= restMs;
    if (isResting || now - connection.openedAt >= ageMs * PATIENCE) {
      return connection.cut();
    }
    timers.set(timer, { now, delayMs: Math.max(1, restMs / 2) });
  }
}

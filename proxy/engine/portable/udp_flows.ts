/**
 * Which UDP flows there are, how long, and how many at most. In: a flow was
 * made, used, ended. Out: the flow of a client; and, through a function, flows
 * whose time is over. A plain data structure but for one timer; it knows no
 * sockets.
 *
 * UDP has no end, so that flows are ended by silence, or to make room.
 *
 * @module
 */
import type { Clock } from "../../../watch/clock.ts";

/**
 * How long a flow may be silent in both directions, in milliseconds.
 *
 * The first kube-proxy's 250 ms ended flows while a slow answer was on its way
 * and gave every other query of a resolver a new source port. conntrack, which
 * does this for the other modes, waits 30 s for an answer and 120 s once there
 * is a conversation. A flow costs us a socket and not an entry in a table, so
 * we take less than the latter, and more than the 30 s at which protocols that
 * must stay alive through NAT send something (RFC 4787 wants 2 minutes at
 * best, and knows that 30 s is common).
 */
export const UDP_TIMEOUT_MS = 60_000;

/**
 * Flows of one ServicePort. Resolvers take a new source port for each query, so
 * that a busy kube-dns is what fills this. At 800 queries a second the oldest of
 * 4,096 has been silent for 5 s, after which resolvers ask again anyway; and no
 * Service takes the flows of others.
 */
export const UDP_FLOWS_PER_PORT_MAX = 4_096;

/**
 * Flows of all ServicePorts. Each takes a descriptor and about 15 KiB: 240 MiB
 * for all. Containers and systemd units have 524,288 descriptors or more; where
 * there are fewer, running out of them ends the oldest flow too.
 */
export const UDP_FLOWS_MAX = 16_384;

/**
 * A flow is ended this part of the time-out late at most, so that thousands of
 * them that end one after another do not each need the timer.
 */
const LATENESS = 1 / 32;

/** What a table needs to know of a flow. */
export interface TimedFlow {
  readonly key: string;
  /** By the table's clock; set by the table. */
  usedAt: number;
}

/** Why a table wants a flow to be ended. */
export type FlowExpiry = "idle" | "evicted";

/** The part of a table that others make room through. */
interface Evictable {
  readonly size: number;
  /** When its oldest flow was last used. */
  readonly oldestUse: number;
  evictOldest(): Promise<void> | undefined;
}

/** What all tables of an engine share. */
export class FlowLimits {
  readonly perPort: number;
  readonly #total: number;
  readonly #tables = new Set<Evictable>();
  #open = 0;

  constructor(options: { readonly perPort: number; readonly total: number }) {
    this.perPort = options.perPort;
    this.#total = options.total;
  }

  get isFull(): boolean {
    return this.#open >= this.#total;
  }

  opened(table: Evictable): void {
    this.#open++;
    this.#tables.add(table);
  }

  closed(table: Evictable): void {
    this.#open--;
    if (table.size === 0) this.#tables.delete(table);
  }

  /**
   * Ends the flow that has been silent for longest, whose ever it is.
   *
   * @returns when its descriptor is free; `undefined`: there is no flow
   */
  evictOldest(): Promise<void> | undefined {
    let oldest: Evictable | undefined;
    for (const table of this.#tables) {
      if (oldest === undefined || table.oldestUse < oldest.oldestUse) {
        oldest = table;
      }
    }
    return oldest?.evictOldest();
  }
}

export interface FlowTableOptions<Flow> {
  readonly clock: Clock;
  /** Milliseconds; {@linkcode UDP_TIMEOUT_MS}. */
  readonly timeoutMs: number;
  readonly limits: FlowLimits;
  /** Ends a flow, which calls `delete`; resolves when its descriptor is free. */
  readonly expire: (flow: Flow, why: FlowExpiry) => Promise<void>;
}

/**
 * The flows of one ServicePort, by client.
 *
 * 1. Every `use` gives a flow the whole time-out again.
 * 2. A flow that was silent for it is expired, a 32nd of it later at most.
 * 3. `add` first evicts the flow that was silent for longest, if there are
 *    `perPort` in this table, or of all tables, if they have `total`.
 */
export class FlowTable<Flow extends TimedFlow> implements Disposable {
  readonly #options: FlowTableOptions<Flow>;
  /** By key, the one that was silent for longest first. */
  readonly #flows = new Map<string, Flow>();
  readonly #disposing = new AbortController();
  #waiting = false;

  constructor(options: FlowTableOptions<Flow>) {
    this.#options = options;
  }

  get size(): number {
    return this.#flows.size;
  }

  get oldestUse(): number {
    return this.#oldest?.usedAt ?? Infinity;
  }

  /** Those that are left may be deleted while this is walked. */
  values(): Iterable<Flow> {
    return this.#flows.values();
  }

  get(key: string): Flow | undefined {
    return this.#flows.get(key);
  }

  /** @param flow with a key that is not there */
  add(flow: Flow): void {
    const { limits, clock } = this.#options;
    if (this.size >= limits.perPort) this.evictOldest();
    else if (limits.isFull) limits.evictOldest();
    flow.usedAt = clock.now();
    this.#flows.set(flow.key, flow);
    limits.opened(this);
    if (!this.#waiting) this.#expireIdle();
  }

  /** A datagram passed. */
  use(flow: Flow): void {
    flow.usedAt = this.#options.clock.now();
    this.#flows.delete(flow.key);
    this.#flows.set(flow.key, flow);
  }

  /** @param flow that was added, and not deleted since */
  delete(flow: Flow): void {
    this.#flows.delete(flow.key);
    this.#options.limits.closed(this);
  }

  evictOldest(): Promise<void> | undefined {
    const oldest = this.#oldest;
    return oldest && this.#options.expire(oldest, "evicted");
  }

  /** Stops the timer; flows no longer expire. */
  [Symbol.dispose](): void {
    this.#disposing.abort();
  }

  get #oldest(): Flow | undefined {
    return this.#flows.values().next().value;
  }

  /** Runs while there are flows. */
  async #expireIdle(): Promise<void> {
    const { clock, timeoutMs, expire } = this.#options;
    const { signal } = this.#disposing;
    this.#waiting = true;
    for (
      let flow = this.#oldest;
      flow !== undefined && !signal.aborted;
      flow = this.#oldest
    ) {
      const now = clock.now();
      // Somebody set the clock back: no flow shall live until it has caught up.
      if (flow.usedAt > now) {
        for (const each of this.#flows.values()) {
          each.usedAt = Math.min(each.usedAt, now);
        }
      }
      const restMs = flow.usedAt + timeoutMs - now;
      if (restMs <= 0) expire(flow, "idle");
      else {
        const waitMs = Math.max(restMs, timeoutMs * LATENESS);
        await clock.delay(waitMs, signal).catch(() => {});
      }
    }
    this.#waiting = false;
  }
}

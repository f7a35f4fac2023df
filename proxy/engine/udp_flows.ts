/**
 * Which UDP flows there are, how long, and how many at most: the same for every
 * engine. In: a flow was made, used, ended. Out, through a function: flows
 * whose time is over. A plain data structure but for one timer; it knows
 * neither sockets nor whose flow is whose.
 *
 * UDP has no end, so that flows are ended by silence, or to make room.
 *
 * @module
 */

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

/** What a table keeps in a flow; all of it is set by the table. */
export interface TimedFlow<Flow> {
  /** By the table's clock. */
  usedAt: number;
  /** Those that were used next before it, and next after it. */
  older: Flow | undefined;
  newer: Flow | undefined;
}

/** What a table needs to know of time. */
export interface FlowTime {
  /** Milliseconds. */
  now(): number;
  /** Calls `run` once, after so many milliseconds. */
  later(delayMs: number, run: () => void): void;
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
  readonly time: FlowTime;
  /** Milliseconds; {@linkcode UDP_TIMEOUT_MS}. */
  readonly timeoutMs: number;
  readonly limits: FlowLimits;
  /** Ends a flow, which calls `delete`; resolves when its descriptor is free. */
  readonly expire: (flow: Flow, why: FlowExpiry) => Promise<void>;
}

/**
 * The flows of one ServicePort, as a list that is linked by the flows
 * themselves: a datagram moves its flow to the end of it, at the same small
 * cost however many there are.
 *
 * 1. Every `use` gives a flow the whole time-out again.
 * 2. A flow that was silent for it is expired, a 32nd of it later at most.
 * 3. `add` first evicts the flow that was silent for longest, if there are
 *    `perPort` in this table, or of all tables, if they have `total`.
 */
export class FlowTable<Flow extends TimedFlow<Flow>> {
  readonly #options: FlowTableOptions<Flow>;
  #oldest: Flow | undefined;
  #newest: Flow | undefined;
  #size = 0;
  #isWaiting = false;

  constructor(options: FlowTableOptions<Flow>) {
    this.#options = options;
  }

  get size(): number {
    return this.#size;
  }

  get oldestUse(): number {
    return this.#oldest?.usedAt ?? Infinity;
  }

  /** The one that was silent for longest first. */
  values(): Flow[] {
    const flows: Flow[] = [];
    for (let flow = this.#oldest; flow !== undefined; flow = flow.newer) {
      flows.push(flow);
    }
    return flows;
  }

  /** @param flow that is not there */
  add(flow: Flow): void {
    const { limits, time } = this.#options;
    if (this.size >= limits.perPort) this.evictOldest();
    else if (limits.isFull) limits.evictOldest();
    flow.usedAt = time.now();
    this.#append(flow);
    this.#size++;
    limits.opened(this);
    if (!this.#isWaiting) this.#expireIdle();
  }

  /** A datagram passed. */
  use(flow: Flow): void {
    flow.usedAt = this.#options.time.now();
    if (flow === this.#newest) return;
    this.#unlink(flow);
    this.#append(flow);
  }

  /** @param flow that was added, and not deleted since */
  delete(flow: Flow): void {
    this.#unlink(flow);
    this.#size--;
    this.#options.limits.closed(this);
  }

  evictOldest(): Promise<void> | undefined {
    const oldest = this.#oldest;
    return oldest && this.#options.expire(oldest, "evicted");
  }

  #append(flow: Flow): void {
    flow.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = flow;
    else this.#newest.newer = flow;
    this.#newest = flow;
  }

  #unlink(flow: Flow): void {
    const { older, newer } = flow;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    flow.older = flow.newer = undefined;
  }

  /** Comes again for as long as there are flows. */
  #expireIdle(): void {
    const { time, timeoutMs, expire } = this.#options;
    this.#isWaiting = false;
    const now = time.now();
    // Somebody set the clock back: no flow shall live until it has caught up.
    if (this.oldestUse > now) {
      for (const flow of this.values()) {
        flow.usedAt = Math.min(flow.usedAt, now);
      }
    }
    let flow = this.#oldest;
    while (flow !== undefined && flow.usedAt + timeoutMs <= now) {
      expire(flow, "idle");
      flow = this.#oldest;
    }
    if (flow === undefined) return;
    this.#isWaiting = true;
    const restMs = flow.usedAt + timeoutMs - now;
    const waitMs = Math.max(restMs, timeoutMs * LATENESS);
    time.later(waitMs, () => this.#expireIdle());
  }
}

/**
 * Which endpoint a client was sent to, for as long as it shall be sent there
 * again (`sessionAffinity: ClientIP`). In: clients' addresses and the choices
 * made for them. Out: an earlier choice that still holds. Chooses nothing
 * itself, and waits for nothing: what has expired goes when somebody comes by.
 *
 * @module
 */
import type { Clock } from "../watch/clock.ts";

/** The lists of a ServicePort that a client can come to; see `EndpointLists`. */
export type EndpointListName = "internal" | "external" | "externalFromCluster";

export const ENDPOINT_LIST_NAMES: readonly EndpointListName[] = [
  "internal",
  "external",
  "externalFromCluster",
];

/**
 * How many clients a ServicePort remembers. Enough for every pod of a large cluster, and some 10 MB
 * if somebody with an IPv6 prefix of addresses wants to see us grow.
 */
export const AFFINITY_CLIENTS_MAX = 65_536;

/**
 * After so many new clients, those whose time is over are removed. Not at each
 * one: a walk from the front of a Map passes all that was deleted there since
 * the Map was last rebuilt (measured: 30 µs each time, with 65,536 clients).
 */
const PURGE_EVERY = 1_024;

/** The part of a full table that is forgotten at once, for the same reason. */
const FORGOTTEN_SHARE = 1 / 16;

/** A choice. Two lists of a client may share one, and then renew it for both. */
interface Choice {
  readonly key: string;
  usedAt: number;
}

type Remembered =
  & { [name in EndpointListName]: Choice | undefined }
  & { usedAt: number };

/** What an endpoint must be for an earlier choice to hold. */
export interface RecallOptions {
  /** It is in the list that the client came to: this finds it. */
  readonly endpoints: { get(key: string): unknown };
  /** It is not in here: it has failed this very connection, or others. */
  readonly tried: { has(key: string): boolean };
}

/**
 * The memory of one ServicePort, for all its lists (facts 4.4–4.7).
 *
 * 1. A choice holds while it is younger than the timeout, counted from its
 *    last use (4.9, 4.11), by the timeout as it is now (4.16).
 * 2. Only `retain` and failed dials (`tried`) end it sooner. Then it is
 *    forgotten for good: an endpoint that returns is a new one (4.12, 4.13).
 * 3. A client has one choice for each list, since lists need not overlap. It
 *    comes to a list where it has none with a choice from another list, if
 *    that endpoint is in this one too.
 * 4. It never remembers more than `maxClients`: one more, and those that have
 *    been away longest are forgotten, a sixteenth of them.
 */
export class SessionAffinity {
  readonly #clock: Pick<Clock, "now">;
  readonly #maxClients: number;
  /** In the order of their last use, so that the first is the oldest. */
  readonly #clients = new Map<string, Remembered>();
  #timeoutMs = 0;
  #newSincePurge = 0;

  constructor(options: {
    readonly clock: Pick<Clock, "now">;
    readonly maxClients?: number;
  }) {
    this.#clock = options.clock;
    this.#maxClients = options.maxClients ?? AFFINITY_CLIENTS_MAX;
  }

  get isOn(): boolean {
    return this.#timeoutMs > 0;
  }

  /** @param timeoutMs 0 turns it off, and forgets everybody (4.15) */
  changeTimeout(timeoutMs: number): void {
    this.#timeoutMs = timeoutMs;
    if (timeoutMs === 0) this.#clients.clear();
  }

  /** How many clients are remembered whose time is not over. */
  get size(): number {
    this.#purge(this.#clock.now());
    return this.#clients.size;
  }

  /** The endpoint this client is to be sent to again; renews the choice. */
  recall(
    ip: string,
    list: EndpointListName,
    options: RecallOptions,
  ): string | undefined {
    const client = this.#clients.get(ip);
    if (client === undefined) return undefined;
    const now = this.#clock.now();
    let choice: Choice | undefined;
    let isEmpty = true;
    for (const name of ENDPOINT_LIST_NAMES) {
      const other = client[name];
      if (other === undefined) continue;
      if (!this.#holds(other.usedAt, now) || options.tried.has(other.key)) {
        client[name] = undefined;
        continue;
      }
      isEmpty = false;
      if (options.endpoints.get(other.key) === undefined) continue;
      if (choice === undefined || name === list) choice = other;
    }
    if (isEmpty) this.#clients.delete(ip);
    if (choice === undefined) return undefined;
    choice.usedAt = now;
    client[list] = choice;
    this.#touch(ip, client, now);
    return choice.key;
  }

  /** Notes a new choice; call it when `recall` found none. */
  remember(ip: string, list: EndpointListName, key: string): void {
    const now = this.#clock.now();
    if (++this.#newSincePurge >= PURGE_EVERY) this.#purge(now);
    if (this.#clients.size >= this.#maxClients && !this.#clients.has(ip)) {
      this.#forgetOldest(Math.ceil(this.#maxClients * FORGOTTEN_SHARE));
    }
    const client = this.#clients.get(ip) ?? {
      internal: undefined,
      external: undefined,
      externalFromCluster: undefined,
      usedAt: now,
    };
    client[list] = { key, usedAt: now };
    this.#touch(ip, client, now);
  }

  /**
   * Forgets every choice of an endpoint that is not in `keys`. Looks at every
   * client (measured: some 10 ms for 65,536 of them), so call it only when an
   * endpoint has left.
   */
  retain(keys: ReadonlySet<string>): void {
    for (const [ip, client] of this.#clients) {
      let isEmpty = true;
      for (const name of ENDPOINT_LIST_NAMES) {
        const choice = client[name];
        if (choice === undefined) continue;
        if (keys.has(choice.key)) isEmpty = false;
        else client[name] = undefined;
      }
      if (isEmpty) this.#clients.delete(ip);
    }
  }

  // A clock that was set back makes ages negative: then choices hold longer.
  #holds(usedAt: number, now: number): boolean {
    return now - usedAt < this.#timeoutMs;
  }

  #touch(ip: string, client: Remembered, now: number): void {
    client.usedAt = now;
    this.#clients.delete(ip);
    this.#clients.set(ip, client);
  }

  #purge(now: number): void {
    this.#newSincePurge = 0;
    for (const [ip, client] of this.#clients) {
      if (this.#holds(client.usedAt, now)) return;
      this.#clients.delete(ip);
    }
  }

  #forgetOldest(count: number): void {
    for (const ip of this.#clients.keys()) {
      if (count-- === 0) return;
      this.#clients.delete(ip);
    }
  }
}

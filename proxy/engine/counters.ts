/**
 * The bookkeeping behind `Forwarder.stats()`, the same for every engine. In:
 * what happened to a connection. Out: a snapshot for those who ask. It calls
 * nobody back.
 *
 * @module
 */
import { Distribution } from "../distribution.ts";
import { endpointKey, type LoadBalancer } from "../load_balancer.ts";
import {
  CONNECTION_BOUNDS_S,
  DIAL_BOUNDS_S,
  type EndpointLists,
  type EndpointStats,
  type ForwarderStats,
} from "./engine.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Bytes that were handed to the kernel; whoever moves them adds to these. */
export interface Traffic {
  bytesToEndpoints: number;
  bytesToClients: number;
}

/**
 * Counts for one ServicePort.
 *
 * An endpoint has an entry from the update that names it until an update no
 * longer does and its last connection has ended.
 */
export class ForwarderCounters {
  readonly traffic: Traffic = { bytesToEndpoints: 0, bytesToClients: 0 };
  connectionsOpen = 0;
  connectionsTotal = 0;
  connectionsFailed = 0;
  connectionsRefused = 0;
  flowsEvicted = 0;
  datagramsDropped = 0;
  #dialFailures = 0;
  #dialTimeouts = 0;
  // Made when there is something to count: most Services are idle.
  #dialSeconds: Distribution | undefined;
  #connectionSeconds: Distribution | undefined;
  #current: ReadonlySet<string> = new Set();
  readonly #endpoints = new Map<string, Mutable<EndpointStats>>();

  /** Those that new connections may reach, by whichever list. */
  setEndpoints(lists: EndpointLists): void {
    const { internal, external, externalFromCluster } = lists;
    this.#current = new Set(
      [...internal, ...external, ...externalFromCluster].map(endpointKey),
    );
    for (const key of this.#current) this.#entry(key);
    for (const key of this.#endpoints.keys()) this.#forgetIfGone(key);
  }

  dialFailed(key: string, type: "refused" | "timeout" = "refused"): void {
    this.#dialFailures++;
    if (type === "timeout") this.#dialTimeouts++;
    // An endpoint that left while it was being dialled gets no new entry.
    const entry = this.#endpoints.get(key);
    if (entry !== undefined) entry.dialFailures++;
  }

  /** An endpoint has answered. */
  dialled(seconds: number): void {
    (this.#dialSeconds ??= new Distribution(DIAL_BOUNDS_S)).observe(seconds);
  }

  /** A connection that had an endpoint is over. */
  connectionEnded(seconds: number): void {
    (this.#connectionSeconds ??= new Distribution(CONNECTION_BOUNDS_S))
      .observe(seconds);
  }

  endpointOpened(key: string): void {
    const entry = this.#entry(key);
    entry.connectionsOpen++;
    entry.connectionsTotal++;
  }

  endpointClosed(key: string): void {
    this.#entry(key).connectionsOpen--;
    this.#forgetIfGone(key);
  }

  /**
   * A copy: later events do not change it.
   *
   * @param balancer counts what it remembers itself
   */
  snapshot(
    balancer?: Pick<LoadBalancer, "affinityEntries" | "ejectedUntil">,
  ): ForwarderStats {
    const endpoints = new Map<string, EndpointStats>();
    for (const [key, entry] of this.#endpoints) {
      const ejectedUntil = balancer?.ejectedUntil(key) ?? 0;
      endpoints.set(
        key,
        ejectedUntil === 0 ? { ...entry } : { ...entry, ejectedUntil },
      );
    }
    return {
      connectionsOpen: this.connectionsOpen,
      connectionsTotal: this.connectionsTotal,
      connectionsFailed: this.connectionsFailed,
      connectionsRefused: this.connectionsRefused,
      flowsEvicted: this.flowsEvicted,
      datagramsDropped: this.datagramsDropped,
      affinityEntries: balancer?.affinityEntries ?? 0,
      dialFailures: this.#dialFailures,
      dialTimeouts: this.#dialTimeouts,
      ...(this.#dialSeconds === undefined
        ? {}
        : { dialSeconds: this.#dialSeconds.copy() }),
      ...(this.#connectionSeconds === undefined
        ? {}
        : { connectionSeconds: this.#connectionSeconds.copy() }),
      bytesToEndpoints: this.traffic.bytesToEndpoints,
      bytesToClients: this.traffic.bytesToClients,
      endpoints,
    };
  }

  #entry(key: string): Mutable<EndpointStats> {
    let entry = this.#endpoints.get(key);
    if (entry === undefined) {
      entry = { connectionsOpen: 0, connectionsTotal: 0, dialFailures: 0 };
      this.#endpoints.set(key, entry);
    }
    return entry;
  }

  #forgetIfGone(key: string): void {
    if (this.#current.has(key)) return;
    if (this.#endpoints.get(key)?.connectionsOpen === 0) {
      this.#endpoints.delete(key);
    }
  }
}

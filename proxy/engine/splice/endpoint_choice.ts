/**
 * The endpoints of a ServicePort, in the one thread that chooses among them: the
 * balancer that every engine has, and where each endpoint's connections or flows
 * are counted. In: policies, and clients. Out: endpoints; and word of those that
 * nobody needs any more.
 *
 * @module
 */
import {
  type ClientAddress,
  endpointKey,
  type EndpointListName,
  LoadBalancer,
} from "../../load_balancer.ts";
import type { EndpointAddress, ForwardingPolicy } from "../engine.ts";
import { answersAgain, ejected, type LoggedEvent } from "../ejection_events.ts";
import { Endpoint } from "./endpoint.ts";
import {
  type Line,
  PORT_CELLS,
  type SharedCounters,
} from "./shared_counters.ts";
import { Timer, type Timers } from "./timers.ts";

/** How often affinity that nobody uses is looked at, in milliseconds. */
const AFFINITY_LOOK_MS = 1_000;

const wallClock = { now: () => Date.now() };

export interface EndpointChoiceOptions {
  readonly counters: SharedCounters;
  readonly timers: Timers;
  /** Milliseconds, the loop's. */
  readonly now: () => number;
  /** The ServicePort's, for the number of clients that affinity remembers. */
  readonly line: Line;
  readonly log: (event: LoggedEvent) => void;
  /** An endpoint that `generation` no longer has is in no use any more. */
  readonly gone: (key: string, generation: number) => void;
}

export class EndpointChoice {
  readonly #options: EndpointChoiceOptions;
  readonly #endpoints = new Map<string, Endpoint>();
  /** The same, by the objects that the balancer was given. */
  #byAddress = new Map<EndpointAddress, Endpoint>();
  #current: ReadonlySet<string> = new Set();
  #generation = 0;
  #affinityMs = 0;
  readonly #balancer: LoadBalancer;
  readonly #affinityTimer = new Timer(() => this.#countAffinity());

  constructor(policy: ForwardingPolicy, options: EndpointChoiceOptions) {
    this.#options = options;
    this.#balancer = new LoadBalancer(policy, { clock: wallClock });
  }

  /** @param lines endpoint key → number of its counter line */
  update(
    policy: ForwardingPolicy,
    { generation, lines }: {
      readonly generation: number;
      readonly lines: ReadonlyMap<string, number>;
    },
  ): void {
    const { internal, external, externalFromCluster } = policy.endpoints;
    this.#generation = generation;
    this.#affinityMs = policy.affinityMs;
    const byAddress = new Map<EndpointAddress, Endpoint>();
    for (const address of [...internal, ...external, ...externalFromCluster]) {
      const key = endpointKey(address);
      let endpoint = this.#endpoints.get(key);
      if (endpoint === undefined) {
        const line = this.#options.counters.line(lines.get(key)!);
        endpoint = new Endpoint(address, { key, line });
        this.#endpoints.set(key, endpoint);
      }
      byAddress.set(address, endpoint);
    }
    this.#byAddress = byAddress;
    this.#current = new Set(lines.keys());
    this.#balancer.update(policy);
    this.#countAffinity();
    for (const endpoint of [...this.#endpoints.values()]) {
      this.#showEjection(endpoint);
      this.#forgetIfGone(endpoint);
    }
  }

  /** See `LoadBalancer.pick`. */
  pick(
    client: ClientAddress,
    list: EndpointListName,
    tried: ReadonlySet<string>,
  ): Endpoint | undefined {
    const picked = this.#balancer.pick(client, list, tried);
    if (this.#affinityMs > 0) this.#countAffinity();
    return picked && this.#byAddress.get(picked);
  }

  /** In use from now on: until it is `undialled`, or `closed`. */
  dialled(endpoint: Endpoint): void {
    endpoint.dialled();
    this.#balancer.opened(endpoint.key);
  }

  /** Nothing came of it. */
  undialled(endpoint: Endpoint): void {
    endpoint.undialled();
    this.#balancer.closed(endpoint.key);
    this.#forgetIfGone(endpoint);
  }

  /** What it took has ended. */
  closed(endpoint: Endpoint): void {
    endpoint.closed();
    this.#balancer.closed(endpoint.key);
    this.#forgetIfGone(endpoint);
  }

  /** It refused this client, did not answer in time, or cannot be sent to. */
  failed(endpoint: Endpoint, client: ClientAddress): void {
    const forMs = this.#balancer.failed(endpoint.key, client);
    if (forMs === undefined) return;
    this.#options.log(ejected(endpoint.key, forMs));
    this.#showEjection(endpoint);
  }

  /** It took a connection, answered, or has not refused for long. */
  works(endpoint: Endpoint): void {
    if (!this.#balancer.answered(endpoint.key)) return;
    this.#options.log(answersAgain(endpoint.key));
    this.#showEjection(endpoint);
  }

  /** Nothing may be counted after this: its lines are another's. */
  close(): void {
    this.#options.timers.clear(this.#affinityTimer);
  }

  /** Now, and again when some may have expired. */
  #countAffinity(): void {
    const { timers, now, line } = this.#options;
    const entries = this.#balancer.affinityEntries;
    line.set(PORT_CELLS.affinityEntries, entries);
    if (entries === 0) return timers.clear(this.#affinityTimer);
    if (this.#affinityTimer.queue !== undefined) return;
    const delayMs = Math.min(this.#affinityMs + 1, AFFINITY_LOOK_MS);
    timers.set(this.#affinityTimer, { now: now(), delayMs });
  }

  #showEjection(endpoint: Endpoint): void {
    endpoint.ejectedUntil(this.#balancer.ejectedUntil(endpoint.key));
  }

  #forgetIfGone(endpoint: Endpoint): void {
    if (endpoint.isInUse || this.#current.has(endpoint.key)) return;
    if (!this.#endpoints.delete(endpoint.key)) return;
    this.#options.gone(endpoint.key, this.#generation);
  }
}

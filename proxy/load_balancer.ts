/**
 * Which endpoint the next connection of a ServicePort goes to. In: its policy,
 * and for every pick the client's address and the list it came to. Out: one
 * endpoint.
 *
 * A plain data structure: no sockets, no timers, and it never learns what a
 * Service is. One exists for each ServicePort, however many listeners or
 * threads that has, so that there is one rotation and one memory of clients.
 *
 * @module
 */
import type { Clock } from "../watch/clock.ts";
import { Ejections } from "./ejection.ts";
import type { EndpointAddress, ForwardingPolicy } from "./engine/engine.ts";
import { formatHostPort } from "./ip.ts";
import { type Candidate, type Keys, Rotation } from "./rotation.ts";
import {
  ENDPOINT_LIST_NAMES,
  type EndpointListName,
  SessionAffinity,
} from "./session_affinity.ts";

export type { EndpointListName } from "./session_affinity.ts";

/** Whom we choose for; what keeps clients at their endpoint looks at `ip`. */
export interface ClientAddress {
  /** Canonical IP address, without brackets. */
  readonly ip: string;
  readonly port: number;
}

/** What of a policy decides the choice. */
export type BalancingPolicy = Pick<
  ForwardingPolicy,
  "endpoints" | "affinityMs" | "balancer"
>;

/** How an endpoint is named in maps, logs and statistics: `10.0.0.1:80`,
 * `[fd00::1]:80`. */
export function endpointKey(endpoint: EndpointAddress): string {
  return formatHostPort(endpoint.ip, endpoint.port);
}

const NO_KEYS: ReadonlySet<string> = new Set();

/**
 * The choice of endpoints for one ServicePort.
 *
 * 1. `pick` answers only endpoints that the last `update` has in that list.
 * 2. It answers none whose key is in `tried`, and `undefined` only when every
 *    endpoint of the list is in it (or there is none).
 * 3. `update` never fails; the next `pick` sees it.
 * 4. In turn: the picks of a list, without affinity and nothing tried, never
 *    differ by more than one between those that are not ejected. Lists with the same
 *    endpoints are one rotation, so that this holds for all addresses of a
 *    Service whose policies are Cluster.
 * 5. With affinity a client is sent to one endpoint of a list until it has
 *    stayed away for `affinityMs`, or the endpoint has left every list, or it
 *    is in `tried` or ejected. Who is sent to where they were does not use up a
 *    turn. Who had to go elsewhere stays there: what their first endpoint knew
 *    of them is likely lost, and a second move would lose what the other knows.
 * 6. An endpoint whose dial failed is ejected (`ejection.ts`): passed over as
 *    long as its list has one that is neither ejected nor in `tried`. The last
 *    that is not ejected, of all lists it is in, is never ejected.
 */
export class LoadBalancer {
  #rotations: Readonly<Record<EndpointListName, Rotation>>;
  #keys: ReadonlySet<string> = NO_KEYS;
  #balancer: ForwardingPolicy["balancer"];
  readonly #affinity: SessionAffinity;
  readonly #ejections: Ejections;
  /**
   * Key → what `opened` has counted and `closed` not yet. What comes to 0
   * stays until `update`: in and out with each short connection costs more.
   */
  readonly #open = new Map<string, number>();

  constructor(
    policy: BalancingPolicy,
    options: {
      readonly clock: Pick<Clock, "now">;
      /** {@linkcode AFFINITY_CLIENTS_MAX} if not given. */
      readonly maxAffinityClients?: number;
    },
  ) {
    this.#affinity = new SessionAffinity({
      clock: options.clock,
      ...(options.maxAffinityClients === undefined
        ? {}
        : { maxClients: options.maxAffinityClients }),
    });
    this.#ejections = new Ejections(options.clock);
    const rotation = new Rotation();
    this.#rotations = {
      internal: rotation,
      external: rotation,
      externalFromCluster: rotation,
    };
    this.#balancer = policy.balancer;
    this.update(policy);
  }

  /** Clients that session affinity remembers. */
  get affinityEntries(): number {
    return this.#affinity.size;
  }

  /**
   * @param tried keys (see {@linkcode endpointKey}) of the endpoints that this
   *   client's connection could not reach. Affinity to one of them ends here
   *   (4.27; upstream's `sessionAffinityReset`); a client that another
   *   connection of its own has moved on already follows that one
   */
  pick(
    client: ClientAddress,
    list: EndpointListName,
    tried: ReadonlySet<string>,
  ): EndpointAddress | undefined {
    const rotation = this.#rotations[list];
    // Nearly always, nobody is ejected.
    if (this.#ejections.size === 0) {
      return this.#choose(client, list, tried)?.endpoint;
    }
    const passedOver = {
      has: (key: string) => tried.has(key) || this.#ejections.keepsOut(key),
    };
    const next = this.#choose(
      client,
      list,
      rotation.hasOther(passedOver) ? passedOver : tried,
    );
    if (next !== undefined) this.#ejections.chosen(next.key, client);
    return next?.endpoint;
  }

  #choose(
    client: ClientAddress,
    list: EndpointListName,
    tried: Keys,
  ): Candidate | undefined {
    const rotation = this.#rotations[list];
    if (!this.#affinity.isOn) return this.#next(rotation, tried);
    const known = this.#affinity.recall(client.ip, list, {
      endpoints: rotation,
      tried,
    });
    if (known !== undefined) {
      return { key: known, endpoint: rotation.get(known)! };
    }
    const next = this.#next(rotation, tried);
    if (next !== undefined) {
      this.#affinity.remember(client.ip, list, next.key);
    }
    return next;
  }

  #next(
    rotation: Rotation,
    tried: Keys,
  ): Candidate | undefined {
    return this.#balancer === "least-connections"
      ? rotation.next(tried, this.#open)
      : rotation.next(tried);
  }

  /**
   * A connection to this endpoint begins, from its dial on: many clients that
   * come at once shall not all find the same endpoint idle. Each call needs
   * one of `closed`; only `least-connections` looks at them.
   */
  opened(key: string): void {
    this.#open.set(key, (this.#open.get(key) ?? 0) + 1);
  }

  /** The connection has ended, or could not be made. */
  closed(key: string): void {
    this.#open.set(key, Math.max(0, (this.#open.get(key) ?? 0) - 1));
  }

  /**
   * A dial of it for this client was refused, or timed out.
   *
   * @returns for how many milliseconds it is ejected; `undefined`: it is not,
   *   or was before
   */
  failed(key: string, client: ClientAddress): number | undefined {
    const isKnown = this.#ejections.has(key);
    if (!isKnown && !this.#canBeSpared(key)) return undefined;
    return this.#ejections.failed(key, client);
  }

  /**
   * It took a connection.
   *
   * @returns whether it was ejected, which is over now
   */
  answered(key: string): boolean {
    return this.#ejections.size > 0 && this.#ejections.answered(key);
  }

  /** When the next trial of an ejected endpoint is due, by the clock; 0: it is
   * not ejected. */
  ejectedUntil(key: string): number {
    return this.#ejections.until(key);
  }

  /** In one of its lists there is another that is not ejected. */
  #canBeSpared(key: string): boolean {
    const unusable = {
      has: (other: string) => other === key || this.#ejections.has(other),
    };
    return Object.values(this.#rotations).some((rotation) =>
      rotation.get(key) !== undefined && rotation.hasOther(unusable)
    );
  }

  update(policy: BalancingPolicy): void {
    this.#balancer = policy.balancer;
    this.#affinity.changeTimeout(policy.affinityMs);
    const lists = candidateLists(policy);
    this.#rotate(lists);
    const keys = new Set<string>();
    for (const list of new Set(Object.values(lists))) {
      for (const { key } of list) keys.add(key);
    }
    if (!isSubset(this.#keys, keys)) this.#affinity.retain(keys);
    this.#keys = keys;
    for (const [key, count] of this.#open) {
      if (count === 0) this.#open.delete(key);
    }
    for (const key of this.#ejections.keys()) {
      if (!this.#canBeSpared(key)) this.#ejections.answered(key);
    }
  }

  /**
   * Lists that were one rotation and no longer are go on from the same place;
   * of those that become one, the first goes on.
   */
  #rotate(lists: Readonly<Record<EndpointListName, readonly Candidate[]>>) {
    const rotations = { ...this.#rotations };
    const taken = new Map<Rotation, EndpointListName>();
    for (const name of ENDPOINT_LIST_NAMES) {
      const same = ENDPOINT_LIST_NAMES.find((other) =>
        lists[other] === lists[name]
      )!;
      if (same !== name) {
        rotations[name] = rotations[same];
        continue;
      }
      if (taken.has(rotations[name])) {
        rotations[name] = this.#rotations[name].copy();
      }
      taken.set(rotations[name], name);
    }
    for (const [rotation, name] of taken) rotation.update(lists[name]);
    this.#rotations = rotations;
  }
}

/** Lists with the same endpoints in the same order are one array. */
function candidateLists(
  { endpoints }: BalancingPolicy,
): Record<EndpointListName, readonly Candidate[]> {
  const internal = candidates(endpoints.internal);
  const external = candidates(endpoints.external, internal);
  const cluster = candidates(endpoints.externalFromCluster, internal, external);
  return { internal, external, externalFromCluster: cluster };
}

function candidates(
  endpoints: readonly EndpointAddress[],
  ...known: readonly (readonly Candidate[])[]
): readonly Candidate[] {
  return known.find((list) =>
    list.length === endpoints.length &&
    list.every(({ endpoint: { ip, port } }, index) =>
      ip === endpoints[index]!.ip && port === endpoints[index]!.port
    )
  ) ?? endpoints.map((endpoint) => ({ key: endpointKey(endpoint), endpoint }));
}

function isSubset(
  subset: ReadonlySet<string>,
  set: ReadonlySet<string>,
): boolean {
  for (const key of subset) if (!set.has(key)) return false;
  return true;
}

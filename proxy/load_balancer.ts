/**
 * Which endpoint the next connection of a ServicePort goes to. In: the usable
 * endpoints, and for every pick the client's address. Out: one endpoint.
 *
 * A plain data structure: no sockets, no timers, and it never learns what a
 * Service is. One exists for each ServicePort, however many listeners or
 * threads that has, so that there is one rotation.
 *
 * @module
 */
import type { EndpointAddress } from "./engine/engine.ts";
import { formatHostPort } from "./ip.ts";

/** Whom we choose for; what keeps clients at their endpoint looks at `ip`. */
export interface ClientAddress {
  /** Canonical IP address, without brackets. */
  readonly ip: string;
  readonly port: number;
}

/**
 * The choice of endpoints for one ServicePort.
 *
 * 1. `pick` answers only endpoints of the last `update`.
 * 2. It answers none whose key is in `tried`, and `undefined` only when every
 *    endpoint is in it (or there is none).
 * 3. `update` never fails; the next `pick` sees it.
 */
export interface LoadBalancer {
  /**
   * @param tried keys (see {@linkcode endpointKey}) of the endpoints that this
   *   client's connection could not reach. When it is not empty, the choice is
   *   a second one: what was remembered of the client led nowhere (upstream's
   *   `sessionAffinityReset`)
   */
  pick(
    client: ClientAddress,
    tried: ReadonlySet<string>,
  ): EndpointAddress | undefined;
  /** @param endpoints distinct, in the order they shall be visited */
  update(endpoints: readonly EndpointAddress[]): void;
}

/** How an endpoint is named in maps, logs and statistics: `10.0.0.1:80`,
 * `[fd00::1]:80`. */
export function endpointKey(endpoint: EndpointAddress): string {
  return formatHostPort(endpoint.ip, endpoint.port);
}

/**
 * Each endpoint in turn.
 *
 * 1. While the list stays the same and nothing is in `tried`, any n·k picks in
 *    a row visit each of the n endpoints k times.
 * 2. An update goes on where the rotation was: the endpoint that was next, or
 *    the first one after it that is still there, is next.
 * 3. An update never makes the endpoint that was picked last be the next one,
 *    unless it is the only one. (The first userspace proxy began at index 0
 *    after every change, so that in a rollout the first endpoint got most.)
 */
export class RoundRobin implements LoadBalancer {
  #endpoints: readonly EndpointAddress[] = [];
  #keys: readonly string[] = [];
  /** Index of the endpoint whose turn it is. */
  #next = 0;
  /** Key of the endpoint picked last. */
  #last: string | undefined;

  constructor(endpoints: readonly EndpointAddress[] = []) {
    this.update(endpoints);
  }

  pick(
    _client: ClientAddress,
    tried: ReadonlySet<string>,
  ): EndpointAddress | undefined {
    const count = this.#endpoints.length;
    for (let step = 0; step < count; step++) {
      const index = (this.#next + step) % count;
      const key = this.#keys[index]!;
      if (tried.has(key)) continue;
      this.#next = (index + 1) % count;
      this.#last = key;
      return this.#endpoints[index];
    }
    return undefined;
  }

  update(endpoints: readonly EndpointAddress[]): void {
    const keys = endpoints.map(endpointKey);
    this.#next = this.#nextAfter(keys);
    this.#endpoints = endpoints;
    this.#keys = keys;
  }

  #nextAfter(keys: readonly string[]): number {
    if (keys.length === 0) return 0;
    const indexes = new Map(keys.map((key, index) => [key, index]));
    const count = this.#keys.length;
    for (let step = 0; step < count; step++) {
      const key = this.#keys[(this.#next + step) % count]!;
      const index = indexes.get(key);
      if (index !== undefined && key !== this.#last) return index;
    }
    // Of the old list at most the one just picked is left: go past it.
    const last = this.#last === undefined ? undefined : indexes.get(this.#last);
    return last === undefined ? 0 : (last + 1) % keys.length;
  }
}

/**
 * Endpoints, clients and policies for tests of the choice between endpoints.
 *
 * @module
 */
import fc from "fast-check";
import type { EndpointAddress } from "../../proxy/engine/engine.ts";
import {
  type BalancingPolicy,
  type ClientAddress,
  endpointKey,
} from "../../proxy/load_balancer.ts";
import type { Candidate } from "../../proxy/rotation.ts";

export function endpoint(number: number): EndpointAddress {
  return { ip: `10.0.0.${number}`, port: 8080 };
}

/** `"13"`: endpoints 1 and 3. */
export function endpoints(numbers: string): EndpointAddress[] {
  return [...numbers].map((digit) => endpoint(Number(digit)));
}

export function candidates(list: readonly EndpointAddress[]): Candidate[] {
  return list.map((endpoint) => ({ key: endpointKey(endpoint), endpoint }));
}

/** The number of an endpoint; `-` for none. */
export function numberOf(endpoint: EndpointAddress | undefined): string {
  return endpoint?.ip.split(".")[3] ?? "-";
}

export function keysOf(numbers: string): ReadonlySet<string> {
  return new Set(endpoints(numbers).map(endpointKey));
}

/** Each call has another port, as each connection of a client does. */
export function client(number = 1): ClientAddress {
  return { ip: `10.1.0.${number}`, port: nextPort++ };
}

let nextPort = 40_000;

export const NOTHING_TRIED: ReadonlySet<string> = new Set();

/** Distinct endpoints, in any order. */
export const endpointLists: fc.Arbitrary<EndpointAddress[]> = fc.uniqueArray(
  fc.integer({ min: 1, max: 12 }),
  { maxLength: 12 },
).map((numbers) => numbers.map(endpoint));

/** Everyone gets the same endpoints, in turn, unless `more` says otherwise. */
export function balancing(
  list: readonly EndpointAddress[],
  more: Partial<BalancingPolicy> = {},
): BalancingPolicy {
  return {
    endpoints: {
      internal: list,
      external: list,
      externalFromCluster: list,
      serving: list,
    },
    affinityMs: 0,
    balancer: "round-robin",
    ...more,
  };
}

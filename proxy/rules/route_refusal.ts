/**
 * Which CIDRs must never become local. The kernel asks its `local` table before
 * all others, so one wrong AnyIP route cuts the node off from whatever lies in
 * it: a gateway, the API server, its own pods. Pure; the facts are given.
 *
 * @module
 */
import { cidrContains, cidrsOverlap, singleAddressCidr } from "../ip.ts";

/** A set that may grow and shrink under its reader. */
export interface AddressSet extends Iterable<string> {
  has(ip: string): boolean;
}

/** Facts that only the cluster knows. Everything canonical. */
export interface ClusterFacts {
  /** Addresses at which we reach the API server. */
  readonly apiServers: ReadonlySet<string>;
  /** Pod CIDRs: this node's, and the cluster's if it is known. */
  readonly podCidrs: readonly string[];
  readonly endpoints: AddressSet;
}

/** Facts that only the machine knows. Everything canonical. */
export interface MachineFacts {
  /** Addresses of the node's interfaces, without those we added. */
  readonly nodeAddresses: ReadonlySet<string>;
  /** Next hops of all routes, and the far ends of point-to-point links. */
  readonly gateways: ReadonlySet<string>;
}

/**
 * Why this CIDR (or one address, as `/32` or `/128`) must not become local, as
 * the rest of a sentence: `it contains the gateway 10.96.0.1`. `undefined` if
 * nothing known speaks against it.
 *
 * Endpoints come and go: ask again when they do.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * const why = routeRefusal("10.0.0.0/8", {
 *   nodeAddresses: new Set(["192.0.2.7"]),
 *   gateways: new Set(["192.0.2.1"]),
 *   apiServers: new Set(),
 *   podCidrs: ["10.244.0.0/24"],
 *   endpoints: new Set(),
 * });
 * assert.equal(why, "it overlaps the pod CIDR 10.244.0.0/24");
 * ```
 */
export function routeRefusal(
  cidr: string,
  facts: MachineFacts & ClusterFacts,
): string | undefined {
  const kinds: readonly [string, AddressSet][] = [
    ["the node's own address", facts.nodeAddresses],
    ["the gateway", facts.gateways],
    ["the API server's address", facts.apiServers],
    ["the endpoint address", facts.endpoints],
  ];
  for (const [kind, addresses] of kinds) {
    const found = findAddress(cidr, addresses);
    if (found === undefined) continue;
    return isSingle(cidr) ? `it is ${kind}` : `it contains ${kind} ${found}`;
  }
  const pods = facts.podCidrs.find((podCidr) => cidrsOverlap(cidr, podCidr));
  return pods === undefined ? undefined : `it overlaps the pod CIDR ${pods}`;
}

function findAddress(
  cidr: string,
  addresses: AddressSet,
): string | undefined {
  // One address is looked up, not compared with 100,000 endpoints: without a
  // known CIDR this is asked for every Service.
  if (isSingle(cidr)) {
    const ip = baseOf(cidr);
    return addresses.has(ip) ? ip : undefined;
  }
  for (const address of addresses) {
    if (cidrContains(cidr, address)) return address;
  }
  return undefined;
}

function isSingle(cidr: string): boolean {
  return singleAddressCidr(baseOf(cidr)) === cidr;
}

function baseOf(cidr: string): string {
  return cidr.slice(0, cidr.indexOf("/"));
}

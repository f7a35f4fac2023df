/**
 * Desired state, second half: the EndpointSlices of a Service become the
 * endpoints of one of its ports. Pure.
 *
 * @module
 */
import type { EndpointSlice, SliceEndpoint } from "../watch/types.ts";
import { canonicalIp, formatHostPort, ipFamily } from "./ip.ts";
import type { ServicePortName } from "./service_port.ts";

/** One ip:port that a slice offers, usable or not. */
export interface Endpoint {
  /** `ip:port`, brackets around IPv6: its identity (fact 2.23). */
  readonly key: string;
  readonly ip: string;
  readonly port: number;
  /** Empty: not told. */
  readonly nodeName: string;
  /** On this node. Never, where the own node's name is not known. */
  readonly isLocal: boolean;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly zoneHints: readonly string[];
  readonly nodeHints: readonly string[];
}

/**
 * All endpoints of one service port over all slices of its Service, duplicates
 * merged, sorted by the text of their key (fact 2.31): the same slices in any
 * order give the same list.
 *
 * Slices and ports match by port name and protocol, never by number (fact
 * 2.16), and different slices may give one name different numbers (2.18).
 */
export function endpointsOf(
  slices: Iterable<EndpointSlice>,
  { servicePort, nodeName }: {
    servicePort: Pick<ServicePortName, "port" | "protocol" | "family">;
    nodeName: string;
  },
): Endpoint[] {
  const byKey = new Map<string, Endpoint>();
  for (const slice of slices) {
    if (slice.addressType !== servicePort.family) continue;
    for (const port of slice.ports) {
      if (port.name !== servicePort.port) continue;
      if (port.protocol !== servicePort.protocol) continue;
      // No number means "all ports", which no proxy mode serves (fact 2.14).
      if (port.port === undefined || port.port === 0) continue;
      for (const offered of slice.endpoints) {
        const endpoint = endpointOf(offered, {
          port: port.port,
          family: servicePort.family,
          nodeName,
        });
        if (endpoint === undefined) continue;
        const known = byKey.get(endpoint.key);
        if (known === undefined || isBetter(endpoint, known)) {
          byKey.set(endpoint.key, endpoint);
        }
      }
    }
  }
  return [...byKey.values()].sort(compareEndpoints);
}

/** The order of every list of endpoints: by the text of their key (fact 2.31). */
export function compareEndpoints(a: Endpoint, b: Endpoint): number {
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
}

/** Only the first address counts (fact 2.21); an unreadable one is no endpoint. */
function endpointOf(
  offered: SliceEndpoint,
  { port, family, nodeName }: {
    port: number;
    family: string;
    nodeName: string;
  },
): Endpoint | undefined {
  const ip = canonicalIp(offered.addresses[0] ?? "");
  if (ip === undefined || ipFamily(ip) !== family) return undefined;
  return {
    key: formatHostPort(ip, port),
    ip,
    port,
    nodeName: offered.nodeName,
    isLocal: nodeName !== "" && offered.nodeName === nodeName,
    ...offered.conditions,
    zoneHints: offered.hints.forZones,
    nodeHints: offered.hints.forNodes,
  };
}

/**
 * Which of two entries for one address stands. Not terminating wins, whatever
 * the order (fact 2.30); what upstream leaves to chance we decide by contents,
 * so that the order of slices never shows.
 */
function isBetter(a: Endpoint, b: Endpoint): boolean {
  const rank = (endpoint: Endpoint) =>
    (endpoint.terminating ? 0 : 8) + (endpoint.ready ? 4 : 0) +
    (endpoint.serving ? 2 : 0) + (endpoint.isLocal ? 1 : 0);
  if (rank(a) !== rank(b)) return rank(a) > rank(b);
  return JSON.stringify(a) > JSON.stringify(b);
}

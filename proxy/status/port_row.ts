/**
 * One Service port as people see it: what it is, where it listens, what it
 * forwards to. Pure: a view in, plain data out, ready for JSON.
 *
 * @module
 */
import { reachableEndpoints, type ServicePortState } from "../desired_state.ts";
import type { Endpoint } from "../endpoint.ts";
import type { EndpointStats, ForwarderStats } from "../engine/engine.ts";
import { formatHostPort } from "../ip.ts";
import { addressKey } from "../listen_addresses.ts";
import type { PortView } from "./status_source.ts";

export interface AddressRow {
  readonly kind: string;
  /** `10.96.0.10:80`. */
  readonly address: string;
  /** Where it is listened on; empty: nowhere. */
  readonly listen: string;
  /** Why it is not served; empty: it is, or has no endpoint to serve. */
  readonly failure: string;
}

/**
 * - `ready`: gets new connections, unless a policy keeps it out
 * - `ejected`: would get them, but did not take the last ones it was offered
 * - `terminating`: on its way out, and still serving: the last resort
 * - `draining`: gets no new connections, and has open ones
 * - `not ready`: gets none and has none
 */
export type EndpointState =
  | "ready"
  | "ejected"
  | "terminating"
  | "draining"
  | "not ready";

export interface EndpointRow {
  readonly address: string;
  readonly state: EndpointState;
  /** Empty: not told. */
  readonly node: string;
  readonly isLocal: boolean;
  readonly open: number;
  readonly total: number;
  readonly dialFailures: number;
}

/** Changes when the Service, its slices or its listeners do; not as it counts. */
export interface PortRow {
  readonly id: string;
  /** `default/web:http`. */
  readonly name: string;
  readonly namespace: string;
  readonly service: string;
  readonly protocol: string;
  readonly family: string;
  readonly addresses: readonly AddressRow[];
  readonly endpoints: {
    readonly ready: number;
    readonly terminating: number;
    readonly notReady: number;
  };
  readonly balancer: string;
  readonly affinitySeconds: number;
  readonly maxConnectionAgeMs: number;
  readonly proxyProtocol: string;
  readonly internalPolicy: "Cluster" | "Local";
  readonly externalPolicy: "Cluster" | "Local";
  readonly sourceRanges: readonly string[];
  /** The Service is gone; connections go on. */
  readonly isDraining: boolean;
}

export interface PortCounts {
  readonly open: number;
  readonly total: number;
  readonly failed: number;
  readonly refused: number;
  readonly dialFailures: number;
  readonly bytesToEndpoints: number;
  readonly bytesToClients: number;
  readonly affinityEntries: number;
  /** Endpoints that are passed over for failed dials, now. */
  readonly ejected: number;
}

export interface PortRowOptions {
  readonly isDraining: boolean;
  /** Address key → why packets for it do not come. */
  readonly steeringFailures: ReadonlyMap<string, string>;
}

/** Everything there is to show of a ServicePort, as JSON. */
export function portRow(
  port: PortView,
  { isDraining, steeringFailures }: PortRowOptions,
): PortRow {
  const { state } = port;
  const { servicePort } = state;
  return {
    id: servicePort.key,
    name: servicePort.text,
    namespace: servicePort.namespace,
    service: servicePort.name,
    protocol: servicePort.protocol,
    family: servicePort.family,
    addresses: addressRows(port, steeringFailures),
    endpoints: endpointCounts(state),
    balancer: servicePort.balancer,
    affinitySeconds: servicePort.affinitySeconds,
    maxConnectionAgeMs: servicePort.maxConnectionAgeMs,
    proxyProtocol: servicePort.proxyProtocol,
    internalPolicy: servicePort.internalPolicyLocal ? "Local" : "Cluster",
    externalPolicy: servicePort.externalPolicyLocal ? "Local" : "Cluster",
    sourceRanges: servicePort.sourceRanges,
    isDraining,
  };
}

function addressRows(
  port: PortView,
  steeringFailures: ReadonlyMap<string, string>,
): AddressRow[] {
  const listens = new Map<string, string>();
  for (const { address, listen } of port.bindings) {
    listens.set(addressKey(address), formatHostPort(listen.ip, listen.port));
  }
  const failures = new Map(steeringFailures);
  for (const { address, reason } of port.failures) {
    failures.set(addressKey(address), reason);
  }
  return port.addresses.map((address) => {
    const key = addressKey(address);
    return {
      kind: address.kind,
      address: formatHostPort(address.ip, address.port),
      listen: listens.get(key) ?? "",
      failure: failures.get(key) ?? "",
    };
  });
}

function endpointCounts({ endpoints }: ServicePortState): PortRow["endpoints"] {
  let ready = 0;
  let terminating = 0;
  for (const endpoint of endpoints) {
    if (endpoint.ready) ready++;
    else if (endpoint.serving && endpoint.terminating) terminating++;
  }
  return {
    ready,
    terminating,
    notReady: endpoints.length - ready - terminating,
  };
}

const NO_STATS: EndpointStats = {
  connectionsOpen: 0,
  connectionsTotal: 0,
  dialFailures: 0,
};

/** Every endpoint there is, and every other that has connections still. */
export function endpointRows(
  state: ServicePortState,
  { endpoints }: Pick<ForwarderStats, "endpoints">,
): EndpointRow[] {
  const reachable = new Set(reachableEndpoints(state).map(({ key }) => key));
  const rows = state.endpoints.map((endpoint) => {
    const stats = endpoints.get(endpoint.key) ?? NO_STATS;
    return {
      address: endpoint.key,
      state: stateOf(endpoint, {
        isReachable: reachable.has(endpoint.key),
        isEjected: stats.ejectedUntil !== undefined,
        open: stats.connectionsOpen,
      }),
      node: endpoint.nodeName,
      isLocal: endpoint.isLocal,
      ...counts(stats),
    };
  });
  const known = new Set(state.endpoints.map(({ key }) => key));
  for (const [address, stats] of endpoints) {
    if (known.has(address) || stats.connectionsOpen === 0) continue;
    rows.push({
      address,
      state: "draining",
      node: "",
      isLocal: false,
      ...counts(stats),
    });
  }
  return rows;
}

function stateOf(
  { ready, serving, terminating }: Endpoint,
  { isReachable, isEjected, open }: {
    isReachable: boolean;
    isEjected: boolean;
    open: number;
  },
): EndpointState {
  if (isReachable && isEjected) return "ejected";
  if (ready) return "ready";
  if (isReachable && serving && terminating) return "terminating";
  if (open > 0) return "draining";
  return serving && terminating ? "terminating" : "not ready";
}

function counts(stats: EndpointStats) {
  return {
    open: stats.connectionsOpen,
    total: stats.connectionsTotal,
    dialFailures: stats.dialFailures,
  };
}

/** Since the ServicePort is there. */
export function portCounts(stats: ForwarderStats): PortCounts {
  return {
    open: stats.connectionsOpen,
    total: stats.connectionsTotal,
    failed: stats.connectionsFailed,
    refused: stats.connectionsRefused,
    dialFailures: stats.dialFailures,
    bytesToEndpoints: stats.bytesToEndpoints,
    bytesToClients: stats.bytesToClients,
    affinityEntries: stats.affinityEntries,
    ejected: ejectedEndpoints(stats),
  };
}

/** How many are passed over now. */
export function ejectedEndpoints({ endpoints }: ForwarderStats): number {
  let count = 0;
  for (const { ejectedUntil } of endpoints.values()) {
    if (ejectedUntil !== undefined) count++;
  }
  return count;
}

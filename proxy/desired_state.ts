/**
 * Desired state: a pure function from what the cluster says (Services,
 * EndpointSlices, the own Node) to what should be served. Listeners, steering
 * rules, status and explanations are all made from its result and from nothing
 * else.
 *
 * The function works Service by Service, so that a change of one costs the work
 * of one: `state_tracker.ts` calls it for the Services that changed.
 *
 * @module
 */
import type { EndpointSlice, Service } from "../watch/types.ts";
import { forwardingOptions } from "./annotations.ts";
import { compareEndpoints, type Endpoint, endpointsOf } from "./endpoint.ts";
import type { IpFamily } from "./ip.ts";
import {
  isExternallyAccessible,
  type ServicePort,
  servicePortsOf,
} from "./service_port.ts";
import { categorizeEndpoints, type NodeView } from "./topology.ts";

/** A ServicePort with the endpoints that are joined to it. */
export interface ServicePortState {
  readonly servicePort: ServicePort;
  /** Every endpoint of its slices, usable or not: what people want to see. */
  readonly endpoints: readonly Endpoint[];
  /** Usable by clients under a policy of Cluster. */
  readonly cluster: readonly Endpoint[];
  /** Usable by clients under a policy of Local. */
  readonly local: readonly Endpoint[];
  readonly hasAny: boolean;
}

export interface ServiceState {
  /** `namespace/name`. */
  readonly key: string;
  readonly ports: readonly ServicePortState[];
  /**
   * What its owner should know: parts of the object that cannot be done, one
   * sentence each.
   */
  readonly problems: readonly string[];
}

/** `namespace/name` → what is to be served of it. */
export type DesiredState = ReadonlyMap<string, ServiceState>;

/** What is to be served of one Service; empty ports where that is nothing. */
export function serviceState(
  service: Service,
  { slices, node }: { slices: Iterable<EndpointSlice>; node: NodeView },
): ServiceState {
  const all = [...slices];
  const ports = servicePortsOf(service).map((servicePort) => {
    const endpoints = endpointsOf(all, { servicePort, nodeName: node.name });
    const lists = categorizeEndpoints(endpoints, { servicePort, node });
    return { servicePort, endpoints, ...lists };
  });
  return {
    key: `${service.metadata.namespace}/${service.metadata.name}`,
    ports,
    problems: ports.length === 0 ? [] : problemsOf(service),
  };
}

function problemsOf({ metadata, spec }: Service): string[] {
  const sctp = spec.ports.filter(({ protocol }) => protocol === "SCTP")
    .map(({ port }) => `Port ${port}/SCTP is not served: only TCP and UDP are`);
  return [...sctp, ...forwardingOptions(metadata.annotations).problems];
}

/** The Service that a slice belongs to, told by a label (facts 2.2, 2.3). */
export function serviceKeyOf({ metadata }: EndpointSlice): string | undefined {
  const { name, namespace, labels } = metadata;
  const service = labels["kubernetes.io/service-name"] ?? "";
  return service === "" || name === "" || namespace === ""
    ? undefined
    : `${namespace}/${service}`;
}

/** The whole desired state at once; the measure for every shorter way. */
export function buildDesiredState(
  services: Iterable<Service>,
  { slices, node }: { slices: Iterable<EndpointSlice>; node: NodeView },
): DesiredState {
  const slicesOf = Map.groupBy(slices, (slice) => serviceKeyOf(slice));
  const state = new Map<string, ServiceState>();
  for (const service of services) {
    const key = `${service.metadata.namespace}/${service.metadata.name}`;
    state.set(
      key,
      serviceState(service, { slices: slicesOf.get(key) ?? [], node }),
    );
  }
  return state;
}

/** Endpoints for clients of the ClusterIP (facts 5.46, 5.49). */
export function internalEndpoints(
  state: ServicePortState,
): readonly Endpoint[] {
  return state.servicePort.internalPolicyLocal ? state.local : state.cluster;
}

/**
 * Endpoints for clients of the NodePort, external and load-balancer IPs (facts
 * 5.47, 5.50–5.52). A policy of Local is about clients from outside: pods and
 * the node itself, `fromCluster`, are served as if they used the ClusterIP of a
 * Service without any policy.
 */
export function externalEndpoints(
  state: ServicePortState,
  { fromCluster }: { fromCluster: boolean },
): readonly Endpoint[] {
  return state.servicePort.externalPolicyLocal && !fromCluster
    ? state.local
    : state.cluster;
}

/** Every endpoint that some client may use, by key (fact 5.6). */
export function reachableEndpoints(
  { cluster, local }: Pick<ServicePortState, "cluster" | "local">,
): Endpoint[] {
  const byKey = new Map(
    [...cluster, ...local].map((endpoint) => [endpoint.key, endpoint]),
  );
  return [...byKey.values()].sort(compareEndpoints);
}

/**
 * Which policies of Local keep clients from endpoints that exist, but not on
 * this node: what upstream counts for each ServicePort (facts 5.46–5.48).
 */
export function policiesWithoutEndpoints(
  { servicePort, local, hasAny }: ServicePortState,
): ("internal" | "external")[] {
  if (!hasAny || local.length > 0) return [];
  return [
    ...(servicePort.internalPolicyLocal ? ["internal" as const] : []),
    ...(servicePort.externalPolicyLocal && isExternallyAccessible(servicePort)
      ? ["external" as const]
      : []),
  ];
}

/**
 * How many addresses on this node answer for a Service: what a health check
 * node port tells load balancers. Ready ones only, so that a node whose last
 * endpoint terminates says no in time (facts 2.41, 5.61).
 */
export function localReadyCount(
  { ports }: ServiceState,
  family: IpFamily,
): number {
  const endpoints = ports
    .filter(({ servicePort }) => servicePort.family === family)
    .flatMap((port) => port.endpoints);
  return new Set(
    endpoints.filter(({ isLocal, ready }) => isLocal && ready)
      .map(({ ip }) => ip),
  ).size;
}

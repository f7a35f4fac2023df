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
import { type Endpoint, endpointsOf } from "./endpoint.ts";
import { type ServicePort, servicePortsOf } from "./service_port.ts";
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
  };
}

/** The label that says which Service a slice belongs to (facts 2.2, 2.3). */
export function serviceKeyOf(slice: EndpointSlice): string | undefined {
  const name = slice.metadata.labels["kubernetes.io/service-name"];
  return name === undefined || name === ""
    ? undefined
    : `${slice.metadata.namespace}/${name}`;
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

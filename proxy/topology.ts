/**
 * Which endpoints a connection may use, by the way it came in: traffic
 * policies, topology hints, and the fallback to endpoints that are terminating
 * but still serve. Pure; facts 5.1–5.15 are upstream's `CategorizeEndpoints`.
 *
 * @module
 */
import type { Endpoint } from "./endpoint.ts";
import {
  type ServicePort,
  usesClusterEndpoints,
  usesLocalEndpoints,
} from "./service_port.ts";

/** What the proxy knows of its own node; empty text where it does not. */
export interface NodeView {
  readonly name: string;
  readonly zone: string;
}

export interface CategorizedEndpoints {
  /** For clients under a policy of Cluster. */
  readonly cluster: readonly Endpoint[];
  /** For clients under a policy of Local. */
  readonly local: readonly Endpoint[];
  /**
   * Some endpoint somewhere is usable. With this true and the list of a
   * policy empty, the policy is what keeps clients out.
   */
  readonly hasAny: boolean;
}

export function categorizeEndpoints(
  endpoints: readonly Endpoint[],
  { servicePort, node }: { servicePort: ServicePort; node: NodeView },
): CategorizedEndpoints {
  const cluster = usesClusterEndpoints(servicePort)
    ? readyOrTerminating(endpoints, availability(endpoints, node))
    : [];
  if (!usesLocalEndpoints(servicePort)) {
    return { cluster, local: [], hasAny: cluster.length > 0 };
  }
  return {
    cluster,
    local: readyOrTerminating(
      endpoints.filter((endpoint) => endpoint.isLocal),
      () => true,
    ),
    hasAny: endpoints.some((endpoint) =>
      endpoint.ready || isServingTerminating(endpoint)
    ),
  };
}

/**
 * Ready endpoints that `isAvailable`; if there is none, every endpoint that
 * still serves while it terminates, whatever its hints (facts 5.3, 5.5).
 */
function readyOrTerminating(
  endpoints: readonly Endpoint[],
  isAvailable: (endpoint: Endpoint) => boolean,
): Endpoint[] {
  const ready = endpoints.filter((endpoint) =>
    endpoint.ready && isAvailable(endpoint)
  );
  return ready.length > 0 ? ready : endpoints.filter(isServingTerminating);
}

function isServingTerminating(endpoint: Endpoint): boolean {
  return endpoint.serving && endpoint.terminating;
}

/**
 * The filter that the hints ask for (facts 5.7–5.12): endpoints hinted for our
 * node, else for our zone, else all. Hints count only if every ready endpoint
 * has them, since a partial set would leave endpoints without any client.
 */
function availability(
  endpoints: readonly Endpoint[],
  node: NodeView,
): (endpoint: Endpoint) => boolean {
  const ready = endpoints.filter((endpoint) => endpoint.ready);
  const forNode = (endpoint: Endpoint) =>
    endpoint.nodeHints.includes(node.name);
  const forZone = (endpoint: Endpoint) =>
    endpoint.zoneHints.includes(node.zone);
  if (
    node.name !== "" && ready.some(forNode) &&
    ready.every((endpoint) => endpoint.nodeHints.length > 0)
  ) return forNode;
  if (
    node.zone !== "" && ready.some(forZone) &&
    ready.every((endpoint) => endpoint.zoneHints.length > 0)
  ) return forZone;
  return () => true;
}

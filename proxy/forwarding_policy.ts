/**
 * What an engine is told of a ServicePort: a pure function of its desired
 * state. Here, and nowhere else, policies and conditions become lists.
 *
 * @module
 */
import {
  externalEndpoints,
  internalEndpoints,
  type ServicePortState,
} from "./desired_state.ts";
import type { ForwardingPolicy } from "./engine/engine.ts";

/** The endpoints of each way in, and how one of them is chosen. */
export function forwardingPolicy(state: ServicePortState): ForwardingPolicy {
  const { servicePort } = state;
  const isUdp = servicePort.protocol === "UDP";
  return {
    name: servicePort.text,
    protocol: isUdp ? "UDP" : "TCP",
    endpoints: {
      internal: internalEndpoints(state),
      external: externalEndpoints(state, { fromCluster: false }),
      externalFromCluster: externalEndpoints(state, { fromCluster: true }),
      // Ready alone is enough: publishNotReadyAddresses makes endpoints ready
      // that do not serve, and what is chosen for a flow must not end it.
      serving: state.endpoints.filter(({ serving, ready }) => serving || ready),
    },
    affinityMs: servicePort.affinitySeconds * 1_000,
    balancer: servicePort.balancer,
    // A flow has no beginning that a header could go to, and no end to bring
    // forward: both are for connections.
    maxConnectionAgeMs: isUdp ? 0 : servicePort.maxConnectionAgeMs,
    proxyProtocol: isUdp ? "none" : servicePort.proxyProtocol,
  };
}

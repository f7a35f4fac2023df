/**
 * Which addresses a ServicePort is to be served on, and how. Pure: from the
 * desired state of one ServicePort and the addresses of the node to the
 * addresses that clients use.
 *
 * A ServicePort without a usable endpoint has none: then nothing listens, and
 * the kernel itself refuses its clients (fact 0.1), which accept-then-close
 * would not be. Nor is there ever a wildcard: each address has its own
 * listener, so that what the node's other programs listen on stays theirs.
 *
 * @module
 */
import { internalEndpoints, type ServicePortState } from "./desired_state.ts";
import type { ListenOptions } from "./engine/engine.ts";
import {
  cidrContains,
  formatHostPort,
  ipFamily,
  singleAddressCidr,
} from "./ip.ts";
import type { NodeAddresses } from "./node_addresses.ts";
import type { ServicePort } from "./service_port.ts";
import type { AddressKind, ServiceAddress } from "./steering.ts";

/** An address to listen on, and what the engine has to know of it. */
export interface WantedListener {
  readonly address: ServiceAddress;
  readonly options: ListenOptions;
}

/** `10.96.0.7:80/TCP`: what tells two addresses apart. */
export function addressKey(
  address: Pick<ServiceAddress, "ip" | "port" | "protocol">,
): string {
  return `${formatHostPort(address.ip, address.port)}/${address.protocol}`;
}

/**
 * Every address that belongs to a ServicePort, served at the moment or not;
 * each once. NodePorts are on the selected addresses of the node (facts 6.3,
 * 6.14), everything else uses the port of the Service (fact 6.24).
 */
export function serviceAddresses(
  servicePort: ServicePort,
  node: NodeAddresses,
): ServiceAddress[] {
  const { protocol, portNumber, nodePort, family, text: name } = servicePort;
  // No engine forwards SCTP (fact 1.27).
  if (protocol === "SCTP") return [];
  const addresses = new Map<string, ServiceAddress>();
  const add = (kind: AddressKind, ips: readonly string[], port: number) => {
    for (const ip of ips) {
      const address = { kind, ip, port, protocol, name };
      const key = addressKey(address);
      if (!addresses.has(key)) addresses.set(key, address);
    }
  };
  add("ClusterIP", [servicePort.clusterIP], portNumber);
  if (nodePort !== 0) {
    const ips = node.nodePortIps.filter((ip) => ipFamily(ip) === family);
    add("NodePort", ips, nodePort);
  }
  // An address that is both keeps the source ranges of the load balancer.
  add("LoadBalancerIP", servicePort.loadBalancerIPs, portNumber);
  add("ExternalIP", servicePort.externalIPs, portNumber);
  return [...addresses.values()];
}

/** Those of them to listen on now (facts 5.45–5.52). */
export function listenAddresses(
  state: ServicePortState,
  node: NodeAddresses,
): WantedListener[] {
  const { servicePort, hasAny } = state;
  if (!hasAny) return [];
  return serviceAddresses(servicePort, node)
    .filter(({ kind }) =>
      // The listener of an external address stays where a policy of Local
      // leaves outsiders nothing: pods and the node itself are still served.
      kind !== "ClusterIP" || internalEndpoints(state).length > 0
    )
    .map((address) => ({
      address,
      options: {
        scope: address.kind === "ClusterIP" ? "internal" : "external",
        sourceRanges: address.kind === "LoadBalancerIP"
          ? allowedSources(servicePort, node)
          : [],
      },
    }));
}

/**
 * The source ranges of load-balancer IPs (facts 6.29–6.33). Where this node may
 * use them, their own addresses may too: what the node sends to a
 * load-balancer IP that it has itself leaves from that address.
 */
function allowedSources(
  { sourceRanges, loadBalancerIPs, family }: ServicePort,
  { nodeIps }: NodeAddresses,
): readonly string[] {
  const nodeIp = nodeIps.find((ip) => ipFamily(ip) === family);
  const isNodeAllowed = nodeIp !== undefined &&
    sourceRanges.some((range) => cidrContains(range, nodeIp));
  return isNodeAllowed
    ? [...sourceRanges, ...loadBalancerIPs.map(singleAddressCidr)]
    : sourceRanges;
}

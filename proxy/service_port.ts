/**
 * Desired state, first half: one Service object becomes its ServicePorts. A
 * ServicePort is one port of one Service in one IP family, and the unit that
 * everything downstream works on: it has one rotation, one affinity table, one
 * set of addresses. Pure; endpoints are joined to it in `desired_state.ts`.
 *
 * @module
 */
import type { Protocol, Service } from "../watch/types.ts";
import { type ForwardingOptions, forwardingOptions } from "./annotations.ts";
import { canonicalCidr, canonicalIp, type IpFamily, ipFamily } from "./ip.ts";

/** What identifies a ServicePort across changes of its contents. */
export interface ServicePortName {
  readonly namespace: string;
  readonly name: string;
  /** The port's name; empty for the only port of a Service. */
  readonly port: string;
  readonly protocol: Protocol;
  readonly family: IpFamily;
}

export interface ServicePort extends ServicePortName, ForwardingOptions {
  /** Unique text of the ServicePortName; the key of every map. */
  readonly key: string;
  /** As people and upstream write it: `default/web:http` (fact 1.23). */
  readonly text: string;
  readonly clusterIP: string;
  readonly portNumber: number;
  /** 0: none. */
  readonly nodePort: number;
  readonly externalIPs: readonly string[];
  /** Load-balancer addresses that are ours to serve (`ipMode: VIP`). */
  readonly loadBalancerIPs: readonly string[];
  /** CIDRs allowed to use the load-balancer IPs; empty means everyone. */
  readonly sourceRanges: readonly string[];
  /** Seconds a client stays with its endpoint; 0: no session affinity. */
  readonly affinitySeconds: number;
  readonly internalPolicyLocal: boolean;
  /** Local, and reachable from outside at all (fact 1.33). */
  readonly externalPolicyLocal: boolean;
  /** 0: none. */
  readonly healthCheckNodePort: number;
  /** RFC 3339: among Services that claim one address the oldest wins. */
  readonly created: string;
}

/**
 * The ServicePorts of a Service, one for each port and family; none for a
 * Service that no proxy serves (headless, ExternalName: facts 1.1–1.3).
 */
export function servicePortsOf(service: Service): ServicePort[] {
  if (isNotProxied(service)) return [];
  const families: IpFamily[] = ["IPv4", "IPv6"];
  return families.flatMap((family) => {
    const clusterIP = clusterIPOf(service, family);
    return clusterIP === undefined
      ? []
      : portsInFamily(service, { family, clusterIP });
  });
}

/** `watch/` leaves most of these out already (facts 1.4, 1.5). */
function isNotProxied({ spec }: Service): boolean {
  return spec.type === "ExternalName" || spec.clusterIP === "" ||
    spec.clusterIP === "None";
}

/**
 * The cluster IP of one family (facts 1.15–1.17). A Service without
 * `ipFamilies` is older than dual-stack: its one cluster IP decides.
 */
function clusterIPOf(
  { spec }: Service,
  family: IpFamily,
): string | undefined {
  const index = spec.ipFamilies.indexOf(family);
  const text = spec.ipFamilies.length === 0
    ? spec.clusterIP
    : spec.clusterIPs[index];
  const ip = text === undefined ? undefined : canonicalIp(text);
  return ip !== undefined && ipFamily(ip) === family ? ip : undefined;
}

function portsInFamily(
  service: Service,
  { family, clusterIP }: { family: IpFamily; clusterIP: string },
): ServicePort[] {
  const { metadata, spec, status } = service;
  const { namespace, name } = metadata;
  const externalIPs = ipsOfFamily(spec.externalIPs, family);
  const loadBalancerIPs = ipsOfFamily(
    status.loadBalancer.ingress.filter((ingress) => ingress.ipMode === "VIP")
      .map((ingress) => ingress.ip),
    family,
  );
  const externalPolicyLocal = spec.externalTrafficPolicy === "Local" &&
    (spec.type !== "ClusterIP" || spec.externalIPs.length > 0);
  const shared = {
    namespace,
    name,
    family,
    clusterIP,
    externalIPs,
    loadBalancerIPs,
    sourceRanges: sourceRangesOf(spec.loadBalancerSourceRanges, family),
    affinitySeconds: spec.sessionAffinity === "ClientIP"
      ? spec.sessionAffinityTimeoutSeconds
      : 0,
    internalPolicyLocal: spec.internalTrafficPolicy === "Local",
    externalPolicyLocal,
    healthCheckNodePort: spec.type === "LoadBalancer" && externalPolicyLocal
      ? spec.healthCheckNodePort
      : 0,
    created: metadata.creationTimestamp,
    ...forwardingOptions(metadata.annotations).options,
  };
  return spec.ports.map((port) => {
    const text = `${namespace}/${name}` +
      (port.name === "" ? "" : `:${port.name}`);
    return {
      ...shared,
      port: port.name,
      protocol: port.protocol,
      key: `${text}/${port.protocol}/${family}`,
      text,
      portNumber: port.port,
      nodePort: port.nodePort,
    };
  });
}

/** Canonical and of the family; others are left out (facts 1.19–1.20, 1.38). */
function ipsOfFamily(texts: readonly string[], family: IpFamily): string[] {
  const ips = texts.map((text) => canonicalIp(text.trim()));
  return [
    ...new Set(
      ips.filter((ip) => ip !== undefined && ipFamily(ip) === family),
    ),
  ] as string[];
}

/**
 * Ranges of one family (facts 1.39–1.41). A range that covers everything makes
 * the whole list mean "everyone", and so does a list of which nothing is left:
 * that is how upstream reads it.
 */
function sourceRangesOf(
  texts: readonly string[],
  family: IpFamily,
): string[] {
  const ranges = texts.map((text) => canonicalCidr(text.trim()))
    .filter((cidr) => cidr !== undefined)
    .filter((cidr) => ipFamily(cidr.split("/")[0] ?? "") === family);
  return ranges.some((cidr) => cidr.endsWith("/0")) ? [] : ranges;
}

/** Reachable from outside the cluster (fact 1.43). */
export function isExternallyAccessible(port: ServicePort): boolean {
  return port.nodePort !== 0 || port.loadBalancerIPs.length > 0 ||
    port.externalIPs.length > 0;
}

/** Some of its clients get endpoints of the whole cluster (fact 1.44). */
export function usesClusterEndpoints(port: ServicePort): boolean {
  return !port.internalPolicyLocal || isExternallyAccessible(port);
}

/** Some of its clients get endpoints of this node only (fact 1.45). */
export function usesLocalEndpoints(port: ServicePort): boolean {
  return port.internalPolicyLocal ||
    (port.externalPolicyLocal && isExternallyAccessible(port));
}

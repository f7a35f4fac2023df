/**
 * Compiles the snapshot to what ipvs mode loads (facts 10.40–10.47): every
 * Service address becomes a virtual server, the addresses go to `kube-ipvs0` so
 * that packets for them are delivered locally, where IPVS takes them, and the
 * sets say which of them are masqueraded or turned away. In: `ModeInput`. Out:
 * `IpvsProgram`. Pure.
 *
 * @module
 */
import { compareClaims } from "../../../address_claims.ts";
import type { Endpoint } from "../../../endpoint.ts";
import { cidrContains, isLoopback } from "../../../ip.ts";
import type { AddressKind } from "../../../steering.ts";
import type { ModeInput, ModePort } from "../mode_input.ts";
import type { IpvsProgram, RealServer, VirtualServer } from "./program.ts";
import { IPVS_JUMPS, ruleTables } from "./rules.ts";
import { addressEntry, SetEntries, type SetName } from "./sets.ts";
import { virtualServerKey } from "./text.ts";

/** A load-balancer address that the node itself may not use (see `rules.ts`). */
export type BarredAddress = Pick<VirtualServer, "ip" | "port" | "protocol">;

/** One address of a ServicePort. */
interface Address {
  readonly kind: AddressKind;
  readonly ip: string;
  readonly number: number;
}

/** Where two ServicePorts claim an address and port, one has the virtual server. */
export function compileIpvs(input: ModeInput): IpvsProgram {
  const sets = new SetEntries();
  const addresses = new Set<string>();
  const barred: BarredAddress[] = [];
  const virtualServers: VirtualServer[] = [];
  const owners = ownersOf(input);
  for (const port of input.ports) {
    addHairpins(sets, port);
    const served = new Set<string>();
    for (const address of addressesOf(port, input)) {
      const server = virtualServerOf(port, address, input);
      const key = virtualServerKey(server);
      if (owners.get(key) !== port) continue;
      addEntries(sets, { server, port });
      if (server.kind === "LoadBalancerIP") {
        if (!addSourceRanges(sets, { server, port, input })) {
          barred.push(server);
        }
      }
      if (isBound(address, input)) addresses.add(server.ip);
      // One that is both external and a load balancer's is in both sets.
      if (served.has(key)) continue;
      served.add(key);
      virtualServers.push(server);
    }
  }
  for (const { port } of input.healthChecks) {
    sets.add("KUBE-HEALTH-CHECK-NODE-PORT", String(port));
  }
  for (const ip of addresses) sets.add("KUBE-IPVS-IPS", ip);
  return {
    family: input.family,
    virtualServers,
    sets: sets.sets(input.family),
    tables: ruleTables(input, { sets, barred }),
    jumps: IPVS_JUMPS,
    addresses: [...addresses],
  };
}

/**
 * Who has an address that several ServicePorts want (fact 6.26): upstream leaves
 * it to the order of a map, and two virtual servers of one address cannot be.
 */
function ownersOf(input: ModeInput): Map<string, ModePort> {
  const owners = new Map<string, { port: ModePort; kind: AddressKind }>();
  for (const port of input.ports) {
    for (const { kind, ip, number } of addressesOf(port, input)) {
      const { protocol } = port.servicePort;
      const key = virtualServerKey({ ip, port: number, protocol });
      const known = owners.get(key);
      const isBetter = known === undefined || compareClaims(
            { claimant: port.servicePort, kind },
            { claimant: known.port.servicePort, kind: known.kind },
          ) < 0;
      if (isBetter) owners.set(key, { port, kind });
    }
  }
  return new Map([...owners].map(([key, { port }]) => [key, port]));
}

/** In upstream's order. */
function addressesOf(
  { servicePort }: ModePort,
  input: ModeInput,
): Address[] {
  const { clusterIP, externalIPs, loadBalancerIPs, portNumber, nodePort } =
    servicePort;
  const of = (kind: AddressKind, ips: readonly string[], number: number) =>
    ips.map((ip) => ({ kind, ip, number }));
  return [
    ...of("ClusterIP", [clusterIP], portNumber),
    ...of("ExternalIP", externalIPs, portNumber),
    ...of("LoadBalancerIP", loadBalancerIPs, portNumber),
    ...(nodePort === 0
      ? []
      : of("NodePort", nodePortAddresses(input), nodePort)),
  ];
}

/**
 * Each address of the node by name, and never loopback (fact 6.12). The Node's
 * own address is one, even where the machine that renders is another one.
 */
function nodePortAddresses({ nodePortIps, node }: ModeInput): string[] {
  const own = node.ip === undefined ? [] : [node.ip];
  const ips = nodePortIps === "all"
    ? new Set([...node.interfaceIps, ...own])
    : nodePortIps;
  return [...ips].filter((ip) => !isLoopback(ip));
}

function virtualServerOf(
  port: ModePort,
  { kind, ip, number }: Address,
  { ipvs: { scheduler } }: ModeInput,
): VirtualServer {
  const { protocol, text, affinitySeconds } = port.servicePort;
  return {
    ip,
    port: number,
    protocol,
    kind,
    service: text,
    scheduler,
    // By address alone, all ports of a client would go to one (fact 4.22).
    schedulerFlags: scheduler === "mh" ? "mh-port" : "",
    persistentSeconds: affinitySeconds,
    realServers: endpointsFor(port, kind).map(realServer),
  };
}

/**
 * Fact 5.60: a policy of Local that leaves nobody falls back to the endpoints of
 * the cluster. For a Service that only has a ClusterIP those are none.
 */
function endpointsFor(
  { servicePort, cluster, local }: ModePort,
  kind: AddressKind,
): readonly Endpoint[] {
  const isLocal = kind === "ClusterIP"
    ? servicePort.internalPolicyLocal
    : servicePort.externalPolicyLocal;
  return isLocal && local.length > 0 ? local : cluster;
}

function realServer({ ip, port }: Endpoint): RealServer {
  return { ip, port, weight: 1 };
}

/** Packets of an endpoint that chose itself have to be masqueraded (fact 5.56). */
function addHairpins(sets: SetEntries, port: ModePort): void {
  const { protocol } = port.servicePort;
  for (const { ip, port: number, isLocal } of port.endpoints) {
    if (!isLocal) continue;
    sets.add(
      "KUBE-LOOP-BACK",
      addressEntry({ ip, port: number, protocol }, ip),
    );
  }
}

/** An address that the node has already stays where it is (fact 10.40). */
function isBound({ kind, ip }: Address, { node }: ModeInput): boolean {
  if (kind === "NodePort") return false;
  return kind === "ClusterIP" || !node.interfaceIps.includes(ip);
}

function addEntries(
  sets: SetEntries,
  { server, port }: { server: VirtualServer; port: ModePort },
): void {
  const isLocal = port.servicePort.externalPolicyLocal;
  const entry = addressEntry(server);
  switch (server.kind) {
    case "ClusterIP":
      return sets.add("KUBE-CLUSTER-IP", entry);
    case "ExternalIP":
      return sets.add(
        isLocal ? "KUBE-EXTERNAL-IP-LOCAL" : "KUBE-EXTERNAL-IP",
        entry,
      );
    case "LoadBalancerIP":
      sets.add("KUBE-LOAD-BALANCER", entry);
      if (isLocal) sets.add("KUBE-LOAD-BALANCER-LOCAL", entry);
      return;
    case "NodePort": {
      const isSctp = server.protocol === "SCTP";
      const number = isSctp ? entry : String(server.port);
      sets.add(nodePortSet(server, { isLocal: false }), number);
      if (isLocal) sets.add(nodePortSet(server, { isLocal }), number);
    }
  }
}

function nodePortSet(
  { protocol }: VirtualServer,
  { isLocal }: { isLocal: boolean },
): SetName {
  const kind = isLocal ? "NODE-PORT-LOCAL" : "NODE-PORT";
  return protocol === "SCTP"
    ? `KUBE-${kind}-SCTP-HASH`
    : `KUBE-${kind}-${protocol}`;
}

/**
 * Facts 6.29–6.33: the ranges that may use a load-balancer address, and the
 * address itself where this node is in one of them, since it may be the source
 * of the node's own packets.
 *
 * @returns whether the node may use the address
 */
function addSourceRanges(
  sets: SetEntries,
  { server, port, input }: {
    server: VirtualServer;
    port: ModePort;
    input: ModeInput;
  },
): boolean {
  const { sourceRanges } = port.servicePort;
  if (sourceRanges.length === 0) return true;
  sets.add("KUBE-LOAD-BALANCER-FW", addressEntry(server));
  for (const cidr of sourceRanges) {
    sets.add("KUBE-LOAD-BALANCER-SOURCE-CIDR", addressEntry(server, cidr));
  }
  const { ip } = input.node;
  const isAllowed = ip !== undefined &&
    sourceRanges.some((cidr) => cidrContains(cidr, ip));
  if (isAllowed) {
    const entry = addressEntry(server, server.ip);
    sets.add("KUBE-LOAD-BALANCER-SOURCE-IP", entry);
  }
  return isAllowed;
}

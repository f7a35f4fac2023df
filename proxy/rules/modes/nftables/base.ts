/**
 * The part of the nftables program that is the same for one Service and for
 * 10,000: hooks, the rules that ask the maps, and the maps, empty (facts
 * 10.35–10.39). Pure.
 *
 * @module
 */
import type { ModeInput } from "../mode_input.ts";
import { baseChains, type BaseInput } from "./base_chains.ts";
import {
  CLUSTER_IPS,
  FIREWALL_IPS,
  HAIRPINS,
  NO_ENDPOINT_NODEPORTS,
  NO_ENDPOINT_SERVICES,
  NODEPORT_IPS,
  SERVICE_IPS,
  SERVICE_NODEPORTS,
  TABLE,
} from "./names.ts";
import type { NftSet, NftTable } from "./program.ts";

/** The table of a cluster without Services. */
export function baseTable(input: BaseInput): NftTable {
  return {
    family: input.family === "IPv4" ? "ip" : "ip6",
    name: TABLE,
    comment: "rules for kube-proxy",
    sets: baseSets(input),
    maps: baseMaps(input),
    chains: baseChains(input),
  };
}

function baseSets({ family, nodePortIps }: BaseInput): NftSet[] {
  const ip = addressType(family);
  const sets: NftSet[] = [
    {
      name: HAIRPINS,
      type: [ip, ip, "inet_proto", "inet_service"],
      comment: "service hairpin connections",
      elements: [],
    },
    {
      name: CLUSTER_IPS,
      type: [ip],
      comment: "Active ClusterIPs",
      elements: [],
    },
  ];
  if (nodePortIps === "all") return sets;
  return [...sets, {
    name: NODEPORT_IPS,
    type: [ip],
    comment: "IPs that accept NodePort traffic",
    elements: nodePortIps.map((each) => ({ key: [each] })),
  }];
}

function baseMaps({ family }: BaseInput): NftSet[] {
  const port = ["inet_proto", "inet_service"];
  const address = [addressType(family), ...port];
  const map = (name: string, type: string[], comment: string) => ({
    name,
    type,
    comment,
    elements: [],
  });
  return [
    map(
      NO_ENDPOINT_SERVICES,
      address,
      "vmap to drop or reject packets to services with no endpoints",
    ),
    map(
      NO_ENDPOINT_NODEPORTS,
      port,
      "vmap to drop or reject packets to service nodeports with no endpoints",
    ),
    map(
      FIREWALL_IPS,
      address,
      "destinations that are subject to LoadBalancerSourceRanges",
    ),
    map(
      SERVICE_IPS,
      address,
      "ClusterIP, ExternalIP and LoadBalancer IP traffic",
    ),
    map(SERVICE_NODEPORTS, port, "NodePort traffic"),
  ];
}

function addressType(family: ModeInput["family"]): string {
  return family === "IPv4" ? "ipv4_addr" : "ipv6_addr";
}

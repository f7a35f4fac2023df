/**
 * What serving addresses depends on besides the Services: the addresses of the
 * own node. Pure: from flags, the own Node and the addresses of its interfaces
 * to where NodePorts are served and which clients count as the cluster's own.
 *
 * @module
 */
import type { Node } from "../watch/types.ts";
import {
  canonicalCidr,
  canonicalIp,
  cidrContains,
  type IpFamily,
  ipFamily,
  isLoopback,
  singleAddressCidr,
} from "./ip.ts";

/** What `--nodeport-addresses` says; empty: every address of the node. */
export interface NodePortSelection {
  readonly cidrs: readonly string[];
  /** The Node's own addresses, as far as it has some. */
  readonly primary: boolean;
}

/** The own node, as far as addresses go. Everything canonical and sorted. */
export interface NodeAddresses {
  /** NodePorts and health check node ports are served on these. */
  readonly nodePortIps: readonly string[];
  /** The Node's primary address of each family it has. */
  readonly nodeIps: readonly string[];
  /** CIDRs of clients that are this node or pods (facts 5.51, 5.52). */
  readonly clusterSources: readonly string[];
}

export const NO_NODE_ADDRESSES: NodeAddresses = {
  nodePortIps: [],
  nodeIps: [],
  clusterSources: [],
};

const KEYWORD_CIDRS: Readonly<Record<string, readonly string[]>> = {
  all: ["0.0.0.0/0", "::/0"],
  localhost: ["127.0.0.0/8", "::1/128"],
};

/**
 * Reads `--nodeport-addresses`: CIDRs, `primary`, and the keywords that
 * KEP-6032 adds, `localhost` and `all`, in any combination (fact 6.13).
 *
 * @returns the first part that is none of these, as `invalid`
 */
export function nodePortSelection(
  text: string,
): NodePortSelection | { readonly invalid: string } {
  const parts = text.split(",").map((part) => part.trim())
    .filter((part) => part !== "");
  const cidrs: string[] = [];
  for (const part of parts) {
    if (part === "primary") continue;
    const cidr = canonicalCidr(part);
    const found = KEYWORD_CIDRS[part] ?? (cidr === undefined ? [] : [cidr]);
    if (found.length === 0) return { invalid: part };
    cidrs.push(...found);
  }
  return { cidrs, primary: parts.includes("primary") };
}

export interface NodeAddressFacts {
  readonly selection: NodePortSelection;
  /** `--cluster-cidr`, canonical. */
  readonly clusterCidrs: readonly string[];
  /** `--bind-address`; empty or a wildcard: the Node says. */
  readonly bindAddress?: string;
  /** The own Node; `undefined` while it is not known. */
  readonly node: Node | undefined;
  /** Of the machine's interfaces, without those that steering added. */
  readonly interfaceIps: readonly string[];
}

/** The view of the own node that listeners are made from. */
export function nodeAddresses(facts: NodeAddressFacts): NodeAddresses {
  const interfaceIps = canonicalIps(facts.interfaceIps);
  const nodeIps = primaryIps(facts.node, facts.bindAddress);
  const podCidrs = (facts.node?.spec.podCIDRs ?? [])
    .map((text) => canonicalCidr(text)).filter((cidr) => cidr !== undefined);
  return {
    nodePortIps: [
      ...nodePortIps("IPv4", { ...facts, interfaceIps, nodeIps }),
      ...nodePortIps("IPv6", { ...facts, interfaceIps, nodeIps }),
    ],
    nodeIps,
    clusterSources: sorted([
      ...KEYWORD_CIDRS["localhost"] ?? [],
      ...facts.clusterCidrs,
      ...podCidrs,
      ...interfaceIps.map(singleAddressCidr),
    ]),
  };
}

/** Facts 6.1–6.6: filtered by family, and all of one that no CIDR is of. */
function nodePortIps(
  family: IpFamily,
  { selection, interfaceIps, nodeIps }: {
    selection: NodePortSelection;
    interfaceIps: readonly string[];
    nodeIps: readonly string[];
  },
): string[] {
  // `primary` means the Node's addresses; a loopback address would mean that
  // it has none.
  const primary = selection.primary
    ? nodeIps.filter((ip) => !isLoopback(ip)).map(singleAddressCidr)
    : [];
  const cidrs = [...selection.cidrs, ...primary]
    .filter((cidr) => ipFamily(cidr) === family);
  const ips = interfaceIps.filter((ip) =>
    ipFamily(ip) === family && !isLinkLocal(ip)
  );
  return cidrs.length === 0
    ? ips
    : ips.filter((ip) => cidrs.some((cidr) => cidrContains(cidr, ip)));
}

/** Such an address can be bound only together with the name of its link. */
function isLinkLocal(ip: string): boolean {
  return cidrContains("fe80::/10", ip);
}

/**
 * The Node's primary addresses: the first internal one, else the first
 * external one, and the first of the other family (fact 8.70). An address to
 * bind goes before the first, whatever the Node says (fact 8.74).
 */
export function primaryIps(
  node: Node | undefined,
  bindAddress = "",
): string[] {
  const own = canonicalIp(bindAddress);
  const isWildcard = own === "0.0.0.0" || own === "::";
  const addresses = node?.status.addresses ?? [];
  const ips = ["InternalIP", "ExternalIP"].flatMap((type) =>
    addresses.filter((each) => each.type === type)
      .map((each) => canonicalIp(each.address))
      .filter((ip) => ip !== undefined)
  );
  const first = own === undefined || isWildcard ? ips[0] : own;
  if (first === undefined) return [];
  const second = ips.find((ip) => ipFamily(ip) !== ipFamily(first));
  return second === undefined ? [first] : [first, second];
}

function canonicalIps(texts: readonly string[]): string[] {
  return sorted(
    texts.map((text) => canonicalIp(text)).filter((ip) => ip !== undefined),
  );
}

/** Without duplicates, so that equal sets are equal lists. */
function sorted(texts: readonly string[]): string[] {
  return [...new Set(texts)].sort();
}

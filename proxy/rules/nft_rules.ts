/**
 * Redirections as one nftables table for each IP family: two maps from Service
 * address to proxy port, and a handful of rules that look into them. However
 * many Services there are, the rules stay the same, and a change is an element
 * of a map. Pure; `nft_writer.ts` brings it into the kernel.
 *
 * @module
 */
import type { IpFamily } from "../ip.ts";
import {
  NODEPORT_CONTAINER,
  NODEPORT_HOST,
  PORTALS_CONTAINER,
  PORTALS_DIRECT,
  PORTALS_HOST,
} from "./iptables_rules.ts";
import type { Redirection } from "./redirection.ts";

/** The mark of everything we load: the name of the table that it is in. */
export const NFT_TABLE = "kube-portal";
/** Exists for a moment, asleep, while rules are tried out. */
export const NFT_PROBE_TABLE = "kube-portal-probe";

/** `10.96.0.7 . tcp . 80 : 20001`, of cluster, external and load-balancer IPs. */
export const SERVICE_IPS = "service-ips";
/** The same on addresses of the node. */
export const NODE_PORTS = "node-ports";
/** `tcp . 20001`: the ports to close to other hosts, one by one. */
export const PROXY_PORTS = "proxy-ports";
/** `10.96.0.7`: cluster IPs, whose other ports are refused. */
export const CLUSTER_IPS = "cluster-ips";

/** How rules are spelt on this machine. */
export interface NftForm {
  readonly family: IpFamily;
  /** Where packets are sent; missing: whatever address they came in by. */
  readonly target?: string;
  /**
   * Where packets are told apart that were sent to a proxy port directly:
   * before NAT (`raw`), after it by asking conntrack (`input`), or nowhere.
   */
  readonly guard: "raw" | "input" | "none";
  /**
   * Where all ports of cluster IPs go that no redirection has; missing: where
   * they went.
   */
  readonly closedPort?: number;
}

/** `ip kube-portal`: what follows `table` in a command. */
export function tableSpec(family: IpFamily, table: string = NFT_TABLE): string {
  return `${nftFamily(family)} ${table}`;
}

/** As nft calls a family. */
export function nftFamily(family: IpFamily): "ip" | "ip6" {
  return family === "IPv4" ? "ip" : "ip6";
}

/**
 * The table without its elements, one command a line. It must not exist.
 *
 * @param options `isAsleep`: the kernel checks it all, and shows it no packet
 */
export function frameLines(
  form: NftForm,
  options: { table?: string; isAsleep?: boolean } = {},
): string[] {
  const { table = NFT_TABLE, isAsleep = false } = options;
  const spec = tableSpec(form.family, table);
  const ip = form.family === "IPv4" ? "ipv4_addr" : "ipv6_addr";
  const key = `${ip} . inet_proto . inet_service`;
  const lines = [
    `add table ${spec}${isAsleep ? " { flags dormant ; }" : ""}`,
    `add map ${spec} ${SERVICE_IPS} { type ${key} : inet_service ; }`,
    `add map ${spec} ${NODE_PORTS} { type ${key} : inet_service ; }`,
  ];
  if (hasProxyPorts(form)) {
    lines.push(
      `add set ${spec} ${PROXY_PORTS} { type inet_proto . inet_service ; }`,
    );
  }
  if (form.closedPort !== undefined) {
    lines.push(`add set ${spec} ${CLUSTER_IPS} { type ${ip} ; }`);
  }
  for (const { name, hook, map } of NAT_CHAINS) {
    // Whoever translates first decides: Service addresses come before the
    // rules of others (-100, where iptables has its own), NodePorts after.
    const priority = map === SERVICE_IPS ? -110 : -90;
    lines.push(
      chainLine(spec, { name, type: "nat", hook, priority }),
      `add rule ${spec} ${name} ${redirectRule(form, map)}`,
    );
    if (form.closedPort !== undefined && map === SERVICE_IPS) {
      // What the map has is gone by now: only other ports come here.
      lines.push(`add rule ${spec} ${name} ${closedRule(form)}`);
    }
  }
  if (form.guard !== "none") {
    const [hook, priority] = form.guard === "raw"
      ? ["prerouting", -300]
      : ["input", 0];
    const chain = { name: PORTALS_DIRECT, type: "filter", hook, priority };
    lines.push(
      chainLine(spec, chain),
      `add rule ${spec} ${PORTALS_DIRECT} ${guardRule(form)}`,
    );
  }
  return lines;
}

/** The chains have the names that they have under iptables. */
const NAT_CHAINS = [
  { name: PORTALS_CONTAINER, hook: "prerouting", map: SERVICE_IPS },
  { name: PORTALS_HOST, hook: "output", map: SERVICE_IPS },
  { name: NODEPORT_CONTAINER, hook: "prerouting", map: NODE_PORTS },
  { name: NODEPORT_HOST, hook: "output", map: NODE_PORTS },
] as const;

function chainLine(
  spec: string,
  { name, type, hook, priority }: {
    name: string;
    type: string;
    hook: string;
    priority: number;
  },
): string {
  return `add chain ${spec} ${name} { type ${type} hook ${hook} priority ${priority} ; policy accept ; }`;
}

function redirectRule({ family, target }: NftForm, map: string): string {
  const key = `${nftFamily(family)} daddr . meta l4proto . th dport`;
  const to = target === undefined ? "redirect to" : `dnat to ${target}`;
  const text = map === SERVICE_IPS
    ? "kube-portal: Service addresses, before NodePorts"
    : "kube-portal: NodePorts, after Service addresses";
  return `meta l4proto { tcp, udp } ${to} : ${key} map @${map} comment "${text}"`;
}

function closedRule({ family, target, closedPort }: NftForm): string {
  const host = family === "IPv6" ? `[${target}]` : target;
  const to = target === undefined
    ? `redirect to :${closedPort}`
    : `dnat to ${host}:${closedPort}`;
  const text = "kube-portal: other ports of cluster IPs, refused";
  return `${
    nftFamily(family)
  } daddr @${CLUSTER_IPS} meta l4proto { tcp, udp } ${to} comment "${text}"`;
}

/** `input` sees packets after NAT, and has to ask whether there was any. */
function guardRule({ family, target, guard }: NftForm): string {
  const direct = guard === "input"
    ? "ct status & dnat == 0"
    : target === undefined
    // What is only passed on to other hosts is none of ours.
    ? "fib daddr type local"
    : "";
  const what = target === undefined
    ? `meta l4proto . th dport @${PROXY_PORTS}`
    : `${nftFamily(family)} daddr ${target}`;
  const text = "kube-portal: proxy ports only by a Service address";
  return `iifname != "lo" ${what} ${direct} drop comment "${text}"`;
}

/**
 * Whether each proxy port has to be closed for itself: where the listener is
 * bound to every address of the node.
 */
export function hasProxyPorts({ target, guard }: NftForm): boolean {
  return target === undefined && guard !== "none";
}

/** Whether a redirection's address is in the set of cluster IPs. */
export function isInClusterIps(
  { closedPort }: NftForm,
  { isClusterIp = false }: Redirection,
): boolean {
  return closedPort !== undefined && isClusterIp;
}

/** The map that a redirection is in. */
export function mapOf({ isNodePort }: Pick<Redirection, "isNodePort">): string {
  return isNodePort ? NODE_PORTS : SERVICE_IPS;
}

/** What is written between braces to add a redirection; its comment names the Service. */
export function elementText(redirection: Redirection): string {
  const { name, proxyPort } = redirection;
  return `${elementKey(redirection)} comment "${
    elementComment(name)
  }" : ${proxyPort}`;
}

/** What is written between braces to remove it. */
export function elementKey(
  { ip, port, protocol }: Pick<Redirection, "ip" | "port" | "protocol">,
): string {
  return `${ip} . ${protocol.toLowerCase()} . ${port}`;
}

/** `tcp . 20001`. */
export function proxyPortText(
  { protocol, proxyPort }: Pick<Redirection, "protocol" | "proxyPort">,
): string {
  return `${protocol.toLowerCase()} . ${proxyPort}`;
}

/**
 * A name as it is kept with an element: the kernel's limit is 128 bytes, and a
 * name of three labels may have 191. Names come from an API server, which
 * checks them, or from files, which nobody did.
 */
export function elementComment(name: string): string {
  return name.replaceAll(/[^\w ./:,@+-]/g, "?").slice(0, 128);
}

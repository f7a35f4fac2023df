/**
 * What a kernel mode is compiled from: the snapshot (desired state, own Node)
 * and the settings that upstream's modes read, settled for one IP family. In:
 * `ModeFacts`. Out: `ModeInput`, which all compilers share; each turns it into
 * its own program. Pure: no mode looks at anything else.
 *
 * @module
 */
import type { Node } from "../../../watch/types.ts";
import {
  type DesiredState,
  internalEndpoints,
  localReadyCount,
  reachableEndpoints,
  type ServicePortState,
} from "../../desired_state.ts";
import type { Endpoint } from "../../endpoint.ts";
import {
  canonicalCidr,
  canonicalIp,
  cidrContains,
  type IpFamily,
  ipFamily,
  isLoopback,
  singleAddressCidr,
} from "../../ip.ts";
import { type NodePortSelection, primaryIps } from "../../node_addresses.ts";

/** The modes of upstream that program the kernel. */
export const KERNEL_MODES = ["iptables", "ipvs", "nftables"] as const;
export type KernelMode = typeof KERNEL_MODES[number];

/** How a mode tells packets of this node's pods from others (fact 8.78). */
export type LocalDetector =
  | { readonly kind: "none" }
  /** Source addresses in here are pods. */
  | { readonly kind: "cidr"; readonly cidr: string }
  /** What comes in by this interface is from a pod. */
  | { readonly kind: "interface"; readonly name: string }
  /** What comes in by an interface whose name begins so is from a pod. */
  | { readonly kind: "interface-prefix"; readonly prefix: string };

/** Kube-proxy's settings, as far as kernel modes read them. */
export interface ModeSettings {
  /** Missing or empty: the default of the mode (fact 6.7). */
  readonly nodePorts?: NodePortSelection;
  /** `detectLocalMode`; empty means ClusterCIDR. */
  readonly detectLocalMode: string;
  readonly bridgeInterface: string;
  readonly interfaceNamePrefix: string;
  /** `clusterCIDR`, canonical: at most one of each family. */
  readonly clusterCidrs: readonly string[];
  readonly masqueradeAll: boolean;
  /** 0–31: the bit of the packet mark that asks for masquerading. */
  readonly masqueradeBit: number;
  /** NodePorts on 127.0.0.1; of the iptables mode alone (fact 6.9). */
  readonly localhostNodePorts: boolean;
  /** The node's primary address, if it is one and not a wildcard (fact 8.74). */
  readonly bindAddress: string;
  readonly ipvs: IpvsSettings;
}

/** Settings that only the ipvs mode reads (facts 8.23–8.26, 10.43). */
export interface IpvsSettings {
  /** Never empty: `rr` unless somebody says otherwise (fact 3.5). */
  readonly scheduler: string;
  readonly excludeCidrs: readonly string[];
  readonly strictArp: boolean;
  /** Milliseconds; 0: leave it. */
  readonly tcpTimeoutMs: number;
  readonly tcpFinTimeoutMs: number;
  readonly udpTimeoutMs: number;
}

/** Everything there is to know, of both families. */
export interface ModeFacts {
  readonly mode: KernelMode;
  readonly family: IpFamily;
  readonly state: DesiredState;
  readonly settings: ModeSettings;
  /** The own Node's name, known or not. */
  readonly nodeName: string;
  /** The own Node; `undefined` while it is not known. */
  readonly node: Node | undefined;
  /** Addresses of the machine's interfaces, both families. */
  readonly interfaceIps: readonly string[];
  /** CIDRs that Service addresses come from; empty where nobody told. */
  readonly serviceCidrs: readonly string[];
}

/** One family of the snapshot, as a compiler takes it. */
export interface ModeInput {
  readonly family: IpFamily;
  /** By their text, then protocol: upstream has no order (fact 10.28). */
  readonly ports: readonly ModePort[];
  readonly healthChecks: readonly HealthCheckPort[];
  readonly node: {
    readonly name: string;
    /** Its primary address of this family; `undefined` where it has none. */
    readonly ip: string | undefined;
    /** Addresses of the machine's interfaces, of this family, sorted. */
    readonly interfaceIps: readonly string[];
  };
  /**
   * Where NodePorts are served. `all`: on every local address, as the kernel
   * knows them (facts 6.1, 6.2); else on these and no others, perhaps on none
   * (facts 6.3, 6.4).
   */
  readonly nodePortIps: "all" | readonly string[];
  /** Never in the iptables mode of IPv6, nor in other modes (facts 6.9–6.12). */
  readonly localhostNodePorts: boolean;
  readonly localDetector: LocalDetector;
  readonly masqueradeAll: boolean;
  readonly masqueradeBit: number;
  /** Of this family. */
  readonly serviceCidrs: readonly string[];
  readonly ipvs: IpvsSettings;
}

/** A ServicePort with the lists that rules are made from. */
export interface ModePort extends ServicePortState {
  /** For clients of the ClusterIP: `local` or `cluster`, by policy. */
  readonly internal: readonly Endpoint[];
  /** Every endpoint that some client may use (fact 5.6), sorted. */
  readonly all: readonly Endpoint[];
}

/** A Service whose load balancer asks this node for its health (fact 6.36). */
export interface HealthCheckPort {
  /** `namespace/name`. */
  readonly service: string;
  readonly port: number;
  /** Distinct addresses of ready endpoints on this node. */
  readonly localEndpoints: number;
}

/** Settles what a mode has to know of one family. */
export function modeInput(facts: ModeFacts): ModeInput {
  const { mode, family, settings, node } = facts;
  const ofFamily = (text: string) => ipFamily(text) === family;
  const ip = primaryIps(node, settings.bindAddress).find(ofFamily);
  const interfaceIps = interfaceIpsOf(facts);
  const localhostNodePorts = settings.localhostNodePorts &&
    mode === "iptables" && family === "IPv4" &&
    coversLoopback(settings.nodePorts, ip);
  return {
    family,
    ports: modePorts(facts.state, family),
    healthChecks: healthCheckPorts(facts.state, family),
    node: { name: facts.nodeName, ip, interfaceIps },
    nodePortIps: nodePortIpsOf(facts, { interfaceIps, ip, localhostNodePorts }),
    localhostNodePorts,
    localDetector: localDetectorOf(settings, { family, node }),
    masqueradeAll: settings.masqueradeAll,
    masqueradeBit: settings.masqueradeBit,
    serviceCidrs: facts.serviceCidrs.filter(ofFamily),
    ipvs: settings.ipvs,
  };
}

/** The ServicePorts of a family, in the order in which they are rendered. */
function modePorts(
  state: DesiredState,
  family: IpFamily,
): ModePort[] {
  const ports: ModePort[] = [];
  for (const service of state.values()) {
    for (const port of service.ports) {
      if (port.servicePort.family === family) ports.push(modePort(port));
    }
  }
  return ports.sort(comparePorts);
}

/** States never change, so that what was made of one stays right. */
const MADE = new WeakMap<ServicePortState, ModePort>();

/** The lists of one ServicePort. */
function modePort(port: ServicePortState): ModePort {
  const known = MADE.get(port);
  if (known !== undefined) return known;
  const all = reachableEndpoints(port);
  const made = { ...port, internal: internalEndpoints(port), all };
  MADE.set(port, made);
  return made;
}

function comparePorts(
  { servicePort: a }: ModePort,
  { servicePort: b }: ModePort,
): number {
  if (a.text !== b.text) return a.text < b.text ? -1 : 1;
  return a.protocol < b.protocol ? -1 : a.protocol > b.protocol ? 1 : 0;
}

function healthCheckPorts(
  state: DesiredState,
  family: IpFamily,
): HealthCheckPort[] {
  return [...state.values()].flatMap((service) => {
    const port = service.ports.find(({ servicePort }) =>
      servicePort.family === family && servicePort.healthCheckNodePort !== 0
    )?.servicePort.healthCheckNodePort;
    return port === undefined ? [] : [{
      service: service.key,
      port,
      localEndpoints: localReadyCount(service, family),
    }];
  }).sort((a, b) => a.service < b.service ? -1 : 1);
}

/** Link-local addresses need the name of a link beside them: nobody dials those. */
function interfaceIpsOf({ interfaceIps, family }: ModeFacts): string[] {
  const ips = interfaceIps.map((text) => canonicalIp(text))
    .filter((ip) => ip !== undefined)
    .filter((ip) => ipFamily(ip) === family && !cidrContains("fe80::/10", ip));
  return [...new Set(ips)].sort();
}

interface OwnAddresses {
  readonly interfaceIps: readonly string[];
  readonly ip: string | undefined;
  readonly localhostNodePorts: boolean;
}

/** Facts 6.1–6.7: `primary` is what nothing means in nftables mode. */
function nodePortIpsOf(
  { mode, family, settings }: ModeFacts,
  { interfaceIps, ip, localhostNodePorts }: OwnAddresses,
): "all" | readonly string[] {
  const said = settings.nodePorts ?? { cidrs: [], primary: false };
  const isUnset = said.cidrs.length === 0 && !said.primary;
  const primary = said.primary || (isUnset && mode === "nftables");
  const cidrs = said.cidrs.filter((cidr) => ipFamily(cidr) === family);
  if (primary && ip !== undefined && !isLoopback(ip)) {
    cidrs.push(singleAddressCidr(ip));
  }
  if (cidrs.length === 0 || cidrs.some((cidr) => cidr.endsWith("/0"))) {
    return "all";
  }
  // The Node's own address is one of the machine's, even where the machine that
  // renders is another one.
  const present = ip === undefined || interfaceIps.includes(ip)
    ? interfaceIps
    : [...interfaceIps, ip].sort();
  return present.filter((each) =>
    cidrs.some((cidr) => cidrContains(cidr, each)) &&
    (localhostNodePorts || !isLoopback(each))
  );
}

/**
 * Fact 6.10: whether the selected addresses have 127.0.0.0/8 among them.
 *
 * @param ip the node's own, without which `primary` selects nothing
 */
export function coversLoopback(
  nodePorts: NodePortSelection | undefined,
  ip?: string,
): boolean {
  if (nodePorts === undefined) return true;
  const cidrs = nodePorts.cidrs.filter((cidr) => ipFamily(cidr) === "IPv4");
  if (cidrs.length === 0) {
    return !nodePorts.primary || ip === undefined || isLoopback(ip);
  }
  return cidrs.some((cidr) =>
    cidr.startsWith("127.") || cidrContains(cidr, "127.0.0.0")
  );
}

function localDetectorOf(
  settings: ModeSettings,
  { family, node }: { family: IpFamily; node: Node | undefined },
): LocalDetector {
  const cidrDetector = (cidrs: readonly string[]): LocalDetector => {
    const cidr = cidrs.find((each) => ipFamily(each) === family);
    return cidr === undefined ? { kind: "none" } : { kind: "cidr", cidr };
  };
  switch (settings.detectLocalMode) {
    case "NodeCIDR":
      return cidrDetector(
        (node?.spec.podCIDRs ?? []).map((text) => canonicalCidr(text))
          .filter((cidr) => cidr !== undefined),
      );
    case "BridgeInterface":
      return { kind: "interface", name: settings.bridgeInterface };
    case "InterfaceNamePrefix":
      return {
        kind: "interface-prefix",
        prefix: settings.interfaceNamePrefix,
      };
    default:
      return cidrDetector(settings.clusterCidrs);
  }
}

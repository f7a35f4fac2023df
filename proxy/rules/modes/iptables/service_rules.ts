/**
 * One ServicePort in iptables mode: the rules that lead to it, in chains that
 * all Services share, and the chains that are its own. Which there are follows
 * from its addresses, policies and endpoint lists alone (facts 10.14–10.23).
 * Pure.
 *
 * @module
 */
import { cidrContains, singleAddressCidr } from "../../../ip.ts";
import {
  isExternallyAccessible,
  usesClusterEndpoints,
  usesLocalEndpoints,
} from "../../../service_port.ts";
import type { ModeInput, ModePort } from "../mode_input.ts";
import { endpointChains, endpointRules } from "./endpoint_rules.ts";
import {
  KUBE_MARK_MASQ,
  type ServicePortChains,
  servicePortChains,
} from "./names.ts";
import {
  type IptablesChain,
  type IptablesRule,
  jump,
  type Match,
  type Protocol,
  rule,
  type Target,
} from "./program.ts";

/** What of the input decides how any Service is written. */
export interface ServiceContext {
  readonly input: Omit<ModeInput, "ports" | "healthChecks">;
  readonly nfacct: boolean;
  /** More than 1000 endpoints: their rules have no comments (fact 10.31). */
  readonly isLargeCluster: boolean;
}

/** The rules of one ServicePort, by the chain they belong into. */
export interface ServiceRules {
  readonly nat: {
    readonly services: readonly IptablesRule[];
    readonly nodePorts: readonly IptablesRule[];
    readonly chains: readonly IptablesChain[];
  };
  readonly filter: {
    readonly services: readonly IptablesRule[];
    readonly externalServices: readonly IptablesRule[];
    readonly nodePorts: readonly IptablesRule[];
    readonly proxyFirewall: readonly IptablesRule[];
  };
}

/** A ServicePort with what is decided of it before any rule is written. */
interface Decided {
  readonly port: ModePort;
  readonly context: ServiceContext;
  readonly chains: ServicePortChains;
  readonly protocol: Protocol;
  /** Clients of the ClusterIP have endpoints. */
  readonly hasInternal: boolean;
  /** Clients from outside have endpoints. */
  readonly hasExternal: boolean;
  /** Of the ClusterIP. */
  readonly internalChain: string;
  readonly usesFirewall: boolean;
}

/** By the chain they belong to; the rules of others do not matter to them. */
export function serviceRules(
  port: ModePort,
  context: ServiceContext,
): ServiceRules {
  const decided = decide(port, context);
  return {
    nat: {
      services: natServices(decided),
      nodePorts: natNodePorts(decided),
      chains: ownChains(decided),
    },
    filter: {
      services: filterServices(decided),
      externalServices: filterExternalServices(decided),
      nodePorts: healthCheckRules(decided),
      proxyFirewall: proxyFirewall(decided),
    },
  };
}

function decide(port: ModePort, context: ServiceContext): Decided {
  const { servicePort, local, hasAny } = port;
  const chains = servicePortChains(servicePort);
  const { internalPolicyLocal, externalPolicyLocal } = servicePort;
  return {
    port,
    context,
    chains,
    protocol: servicePort.protocol.toLowerCase() as Protocol,
    hasInternal: hasAny && (!internalPolicyLocal || local.length > 0),
    hasExternal: hasAny && (!externalPolicyLocal || local.length > 0),
    internalChain: internalPolicyLocal ? chains.svl : chains.svc,
    usesFirewall: hasAny && servicePort.loadBalancerIPs.length > 0 &&
      servicePort.sourceRanges.length > 0,
  };
}

function destination({ protocol }: Decided, ip: string, port: number): Match[] {
  return [
    { type: "protocol", protocol },
    { type: "destination", cidr: singleAddressCidr(ip) },
    { type: "destination-port", port },
  ];
}

/** Facts 10.14, 10.15. */
function natServices(decided: Decided): IptablesRule[] {
  const { port, chains, hasInternal, internalChain, usesFirewall } = decided;
  const { servicePort, hasAny } = port;
  const { text, clusterIP, portNumber } = servicePort;
  const to = (ip: string, kind: string, chain: string) =>
    rule(`${text} ${kind}`, destination(decided, ip, portNumber), jump(chain));
  return [
    ...(hasInternal ? [to(clusterIP, "cluster IP", internalChain)] : []),
    ...(hasAny ? servicePort.externalIPs : []).map((ip) =>
      to(ip, "external IP", chains.ext)
    ),
    ...(hasAny ? servicePort.loadBalancerIPs : []).map((ip) =>
      to(ip, "loadbalancer IP", usesFirewall ? chains.fw : chains.ext)
    ),
  ];
}

/** Fact 10.17; the twin only counts what comes over loopback. */
function natNodePorts(decided: Decided): IptablesRule[] {
  const { port: { servicePort, hasAny }, chains, protocol, context } = decided;
  const { nodePort, text } = servicePort;
  if (nodePort === 0 || !hasAny) return [];
  const byPort: readonly Match[] = [
    { type: "protocol", protocol },
    { type: "destination-port", port: nodePort },
  ];
  const twin = rule(text, [
    { type: "destination", cidr: "127.0.0.0/8" },
    ...byPort,
    { type: "count", counter: "localhost_nps_accepted_pkts" },
  ], jump(chains.ext));
  const isCounted = context.nfacct && context.input.localhostNodePorts;
  return [
    ...(isCounted ? [twin] : []),
    rule(text, byPort, jump(chains.ext)),
  ];
}

/** Facts 5.45, 5.46, 10.16: what nobody answers. */
function filterServices(decided: Decided): IptablesRule[] {
  const { port: { servicePort, hasAny }, hasInternal } = decided;
  if (hasInternal) return [];
  const { clusterIP, portNumber } = servicePort;
  const matches = destination(decided, clusterIP, portNumber);
  return [unserved(decided, matches, hasAny)];
}

/** Facts 5.45, 5.47, 10.16: for the NodePort wherever it is local. */
function filterExternalServices(decided: Decided): IptablesRule[] {
  const { port: { servicePort, hasAny }, hasExternal, protocol } = decided;
  if (hasExternal) return [];
  const { externalIPs, loadBalancerIPs, nodePort, portNumber } = servicePort;
  const byAddress = [...externalIPs, ...loadBalancerIPs].map((ip) =>
    unserved(decided, destination(decided, ip, portNumber), hasAny)
  );
  if (nodePort === 0) return byAddress;
  const onNode: readonly Match[] = [
    { type: "local-address", of: "destination" },
    { type: "protocol", protocol },
    { type: "destination-port", port: nodePort },
  ];
  return [...byAddress, unserved(decided, onNode, hasAny)];
}

function unserved(
  { port: { servicePort: { text } } }: Decided,
  matches: readonly Match[],
  hasAny: boolean,
): IptablesRule {
  const target: Target = { type: hasAny ? "drop" : "reject" };
  const what = hasAny ? "has no local endpoints" : "has no endpoints";
  return rule(`${text} ${what}`, matches, target);
}

/** Facts 6.50, 10.18: once for each port of the Service, as upstream does. */
function healthCheckRules({ port: { servicePort } }: Decided): IptablesRule[] {
  const { healthCheckNodePort: port, text } = servicePort;
  if (port === 0) return [];
  return [
    rule(`${text} health check node port`, [
      { type: "protocol", protocol: "tcp" },
      { type: "destination-port", port },
    ], { type: "accept" }),
  ];
}

/** Fact 10.21: what the source ranges did not let through was not DNATed. */
function proxyFirewall(decided: Decided): IptablesRule[] {
  const { port: { servicePort }, chains, usesFirewall } = decided;
  if (!usesFirewall) return [];
  const { text, loadBalancerIPs, portNumber } = servicePort;
  return loadBalancerIPs.map((ip) =>
    rule(
      `${text} traffic not accepted by ${chains.fw}`,
      destination(decided, ip, portNumber),
      { type: "drop" },
    )
  );
}

function ownChains(decided: Decided): IptablesChain[] {
  const { port, context, chains, usesFirewall, internalChain } = decided;
  const { servicePort, cluster, local, hasAny } = port;
  const service = `${servicePort.namespace}/${servicePort.name}`;
  const own: IptablesChain[] = [];
  const add = (name: string, rules: readonly IptablesRule[]) =>
    own.push({ name, rules, service });
  const policy = (name: string, endpoints: ModePort["cluster"]) =>
    add(name, [
      ...(name === internalChain ? masqueradeRules(decided) : []),
      ...endpointRules(endpoints, { servicePort, context }),
    ]);
  if (cluster.length > 0 && usesClusterEndpoints(servicePort)) {
    policy(chains.svc, cluster);
  }
  if (local.length > 0 && usesLocalEndpoints(servicePort)) {
    policy(chains.svl, local);
  }
  if (hasAny && isExternallyAccessible(servicePort)) {
    add(chains.ext, externalRules(decided));
  }
  if (usesFirewall) add(chains.fw, firewallRules(decided));
  own.push(...endpointChains(port, { context, service }));
  return own;
}

/** Fact 10.19: who is masqueraded on the way to a ClusterIP. */
function masqueradeRules(decided: Decided): IptablesRule[] {
  const { port: { servicePort }, context: { input } } = decided;
  const { text, clusterIP, portNumber } = servicePort;
  const fromPods = localDetection(input);
  if (!input.masqueradeAll && fromPods === undefined) return [];
  const notFromPods = input.masqueradeAll || fromPods === undefined
    ? []
    : [{ ...fromPods, not: true } as Match];
  const matches = destination(decided, clusterIP, portNumber);
  return [
    rule(
      `${text} cluster IP`,
      [...matches, ...notFromPods],
      jump(KUBE_MARK_MASQ),
    ),
  ];
}

/** What packets of pods have; `undefined` where nobody can tell. */
function localDetection(
  { localDetector }: ServiceContext["input"],
): Match | undefined {
  switch (localDetector.kind) {
    case "none":
      return undefined;
    case "cidr":
      return { type: "source", cidr: localDetector.cidr };
    case "interface":
      return { type: "in-interface", name: localDetector.name };
    case "interface-prefix":
      return { type: "in-interface", name: `${localDetector.prefix}+` };
  }
}

/**
 * Fact 10.20. Under a policy of Local, pods and the node itself are served as
 * from outside by a load balancer: by any endpoint (fact 5.51).
 */
function externalRules(decided: Decided): IptablesRule[] {
  const { port: { servicePort }, context, chains, hasExternal } = decided;
  const { text, externalPolicyLocal } = servicePort;
  const traffic = `traffic for ${text} external destinations`;
  if (!externalPolicyLocal) {
    return [
      rule(`masquerade ${traffic}`, [], jump(KUBE_MARK_MASQ)),
      rule("", [], jump(chains.svc)),
    ];
  }
  const fromNode: Match = { type: "local-address", of: "source" };
  const fromPods = localDetection(context.input);
  return [
    ...(fromPods === undefined
      ? []
      : [rule(`pod ${traffic}`, [fromPods], jump(chains.svc))]),
    rule(`masquerade LOCAL ${traffic}`, [fromNode], jump(KUBE_MARK_MASQ)),
    rule(`route LOCAL ${traffic}`, [fromNode], jump(chains.svc)),
    ...(hasExternal ? [rule("", [], jump(chains.svl))] : []),
  ];
}

/** Facts 6.33, 10.21: the last rule says what becomes of the others. */
function firewallRules(
  { port: { servicePort }, context: { input }, chains }: Decided,
): IptablesRule[] {
  const { text, sourceRanges, loadBalancerIPs } = servicePort;
  const { ip } = input.node;
  const isNodeAllowed = ip !== undefined &&
    sourceRanges.some((range) => cidrContains(range, ip));
  const own = isNodeAllowed ? loadBalancerIPs.map(singleAddressCidr) : [];
  return [
    ...[...sourceRanges, ...own].map((cidr) =>
      rule(
        `${text} loadbalancer IP`,
        [{ type: "source", cidr }],
        jump(chains.ext),
      )
    ),
    rule(
      `other traffic to ${text} will be dropped by KUBE-PROXY-FIREWALL`,
      [],
    ),
  ];
}

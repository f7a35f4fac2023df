/**
 * What a configuration may say (facts 8.52–8.68). In: values with defaults. Out:
 * every problem, with the path that upstream's message for it has and what is
 * allowed. Pure.
 *
 * The sections of ipvs and nftables are checked where that mode is chosen, as
 * upstream does.
 *
 * @module
 */
import { canonicalCidr, canonicalIp, ipFamily } from "../ip.ts";
import { nodePortSelection } from "../node_addresses.ts";
import { hostPortProblems } from "./bind_addresses.ts";
import {
  type KubeProxyConfiguration,
  PROXY_MODE,
  PROXY_MODES,
} from "./configuration.ts";
import { DurationValue } from "./duration_value.ts";
import type { Problem } from "./fields.ts";
import { parsePortRange } from "./port_range.ts";

const LOCAL_MODES = [
  "ClusterCIDR",
  "NodeCIDR",
  "BridgeInterface",
  "InterfaceNamePrefix",
  "",
];

/** Everything that kube-proxy would refuse; empty: it may run. */
export function validate(config: KubeProxyConfiguration): Problem[] {
  return [
    ...modeProblems(config),
    ...loggingProblems(config),
    ...addressProblems(config),
    ...kernelProblems(config),
    ...(config.mode === "ipvs" ? ipvsProblems(config) : []),
    ...periodProblems(config),
    ...localProblems(config),
    ...oldProblems(config),
  ];
}

function modeProblems({ mode }: KubeProxyConfiguration): Problem[] {
  if (mode === "" || PROXY_MODES.includes(mode)) return [];
  return [{
    field: "mode",
    path: "Mode.ProxyMode",
    value: mode,
    text: `must be ${
      PROXY_MODES.join(", ")
    } or blank (blank means ${PROXY_MODE})`,
  }];
}

function loggingProblems(
  { logging, showHiddenMetricsForVersion }: KubeProxyConfiguration,
): Problem[] {
  const problems: Problem[] = [];
  const { format, verbosity } = logging;
  if (format !== "text" && format !== "json") {
    problems.push({
      field: "logging.format",
      path: "logging.format",
      value: format,
      text: "Unsupported log format; supported: text, json",
    });
  }
  if (verbosity < 0) {
    problems.push({
      field: "logging.verbosity",
      path: "logging.verbosity",
      value: verbosity,
      text: "must be greater than or equal to 0",
    });
  }
  if (!/^(\d+\.\d+)?$/.test(showHiddenMetricsForVersion)) {
    problems.push({
      field: "showHiddenMetricsForVersion",
      path: "ShowHiddenMetricsForVersion",
      value: showHiddenMetricsForVersion,
      text: "must be a version such as 1.35, or blank",
    });
  }
  return problems;
}

function addressProblems(config: KubeProxyConfiguration): Problem[] {
  const { bindAddress, healthzBindAddress, metricsBindAddress } = config;
  const problems: Problem[] = [];
  if (canonicalIp(bindAddress) === undefined) {
    problems.push({
      field: "bindAddress",
      path: "BindAddress",
      value: bindAddress,
      text: "not a valid textual representation of an IP address",
    });
  }
  const hostPorts = [
    ["healthzBindAddress", "HealthzBindAddress", healthzBindAddress],
    ["metricsBindAddress", "MetricsBindAddress", metricsBindAddress],
  ] as const;
  for (const [field, path, value] of hostPorts) {
    // Empty is how a flag turns it off; upstream can do so for health only
    // (fact 8.43).
    if (value === "") continue;
    for (const text of hostPortProblems(value)) {
      problems.push({ field, path, value, text });
    }
  }
  config.nodePortAddresses.forEach((value, i) => {
    if (!("invalid" in nodePortSelection(value))) return;
    problems.push({
      field: `nodePortAddresses[${i}]`,
      path: `NodePortAddresses[${i}]`,
      value,
      text: "must be a valid CIDR, primary, localhost or all",
    });
  });
  return problems;
}

const MAX_MASQUERADE_BIT = 31;
const MAX_OOM_SCORE_ADJ = 1_000;

/** Upstream's paths are those of its Go types; the file's are flatter. */
const CONNTRACK_PATH = "KubeProxyLinuxConfiguration" +
  ".KubeProxyConntrackConfiguration";

const CONNTRACK_FIELDS = [
  ["maxPerCore", "MaxPerCore"],
  ["min", "Min"],
  ["tcpEstablishedTimeout", "TCPEstablishedTimeout"],
  ["tcpCloseWaitTimeout", "TCPCloseWaitTimeout"],
  ["udpTimeout", "UDPTimeout"],
  ["udpStreamTimeout", "UDPStreamTimeout"],
] as const;

/**
 * Most of it does nothing here, or in kernel modes alone; a value that is wrong
 * is told all the same.
 */
function kernelProblems(config: KubeProxyConfiguration): Problem[] {
  const { iptables, nftables, oomScoreAdj, conntrack, clientConnection } =
    config;
  const problems = [
    ...bitProblems(iptables.masqueradeBit, "iptables", "IPTables"),
    ...(config.mode === "nftables"
      ? bitProblems(nftables.masqueradeBit, "nftables", "NFTables")
      : []),
  ];
  if (Math.abs(oomScoreAdj) > MAX_OOM_SCORE_ADJ) {
    problems.push({
      field: "oomScoreAdj",
      path: "KubeProxyLinuxConfiguration.OOMScoreAdj",
      value: oomScoreAdj,
      text:
        `must be within the range [-${MAX_OOM_SCORE_ADJ}, ${MAX_OOM_SCORE_ADJ}]`,
    });
  }
  for (const [name, path] of CONNTRACK_FIELDS) {
    const value = conntrack[name];
    if (value >= 0) continue;
    problems.push({
      field: `conntrack.${name}`,
      path: `${CONNTRACK_PATH}.${path}`,
      value: /timeout$/i.test(name) ? new DurationValue(value) : value,
      text: "must be greater than or equal to 0",
    });
  }
  if (clientConnection.burst < 0) {
    problems.push({
      field: "clientConnection.burst",
      path: "ClientConnection.Burst",
      value: clientConnection.burst,
      text: "must be greater than or equal to 0",
    });
  }
  return problems;
}

function bitProblems(bit: number, section: string, name: string): Problem[] {
  if (bit >= 0 && bit <= MAX_MASQUERADE_BIT) return [];
  return [{
    field: `${section}.masqueradeBit`,
    path: `KubeProxy${name}Configuration.MasqueradeBit`,
    value: bit,
    text: `must be within the range [0, ${MAX_MASQUERADE_BIT}]`,
  }];
}

const IPVS_TIMEOUTS = [
  ["tcpTimeout", "TCPTimeout"],
  ["tcpFinTimeout", "TCPFinTimeout"],
  ["udpTimeout", "UDPTimeout"],
] as const;

function ipvsProblems({ ipvs }: KubeProxyConfiguration): Problem[] {
  const timeouts = IPVS_TIMEOUTS.filter(([name]) => ipvs[name] < 0)
    .map(([name, path]): Problem => ({
      field: `ipvs.${name}`,
      path: `KubeProxyIPVSConfiguration.${path}`,
      value: new DurationValue(ipvs[name]),
      text: "must be greater than or equal to 0",
    }));
  const cidrs = ipvs.excludeCIDRs.flatMap((value, index): Problem[] =>
    canonicalCidr(value) !== undefined ? [] : [{
      field: `ipvs.excludeCIDRs[${index}]`,
      path: `KubeProxyIPVSConfiguration.ExcludeCidrs[${index}]`,
      value,
      text: "must be a valid CIDR",
    }]
  );
  return [...timeouts, ...cidrs];
}

function periodProblems(config: KubeProxyConfiguration): Problem[] {
  const { mode, configSyncPeriod } = config;
  // Each mode has its own; ours goes with the one that is upstream's default.
  const section = mode === "nftables" || mode === "ipvs" ? mode : "iptables";
  const { syncPeriod, minSyncPeriod } = config[section];
  const problems: Problem[] = [];
  const check = (
    isRight: boolean,
    [field, path, value]: readonly [string, string, number],
    text: string,
  ) => {
    if (isRight) return;
    problems.push({ field, path, value: new DurationValue(value), text });
  };
  check(
    configSyncPeriod > 0,
    ["configSyncPeriod", "ConfigSyncPeriod", configSyncPeriod],
    "must be greater than 0",
  );
  check(
    syncPeriod > 0,
    [`${section}.syncPeriod`, "SyncPeriod", syncPeriod],
    "must be greater than 0",
  );
  check(
    minSyncPeriod >= 0,
    [`${section}.minSyncPeriod`, "MinSyncPeriod", minSyncPeriod],
    "must be greater than or equal to 0",
  );
  check(
    syncPeriod >= minSyncPeriod,
    // The value that upstream shows here is the other one (fact 8.60).
    [`${section}.syncPeriod`, "SyncPeriod", minSyncPeriod],
    "must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod",
  );
  return problems;
}

function localProblems(config: KubeProxyConfiguration): Problem[] {
  const { detectLocalMode: mode, detectLocal, clusterCIDR } = config;
  if (!LOCAL_MODES.includes(mode)) {
    return [{
      field: "detectLocalMode",
      path: "DetectLocalMode",
      value: mode,
      kind: "Unsupported value",
      text: `supported values: ${
        LOCAL_MODES.map((each) => JSON.stringify(each)).join(", ")
      }`,
    }];
  }
  const mustNotBeEmpty = (field: string, path: string): Problem => ({
    field: `detectLocal.${field}`,
    path: `DetectLocalConfiguration.${path}`,
    value: "",
    text: "must not be empty",
  });
  if (mode === "BridgeInterface" && detectLocal.bridgeInterface === "") {
    return [mustNotBeEmpty("bridgeInterface", "InterfaceName")];
  }
  if (mode === "InterfaceNamePrefix" && !detectLocal.interfaceNamePrefix) {
    return [mustNotBeEmpty("interfaceNamePrefix", "InterfacePrefix")];
  }
  return mode === "ClusterCIDR" ? clusterCidrProblems(clusterCIDR) : [];
}

function clusterCidrProblems(clusterCIDR: string): Problem[] {
  if (clusterCIDR === "") return [];
  const field = "clusterCIDR";
  const path = "DetectLocalConfiguration.ClusterCIDRs";
  const texts = clusterCIDR.split(",");
  const cidrs = texts.map((text) => canonicalCidr(text.trim()));
  const [first, second] = cidrs;
  const isPair = texts.length === 2 &&
    (first === undefined || second === undefined ||
      ipFamily(first) !== ipFamily(second));
  const problems: Problem[] = [];
  if (texts.length > 1 && !isPair) {
    problems.push({
      field,
      path,
      value: texts,
      // The missing parenthesis is upstream's.
      text: "must be a either a single CIDR or dual-stack pair of CIDRs " +
        "(e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]",
    });
  }
  cidrs.forEach((cidr, i) => {
    if (cidr !== undefined) return;
    problems.push({
      field,
      path: `${path}[${i}]`,
      value: texts[i],
      text: "must be a valid CIDR block " +
        "(e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)",
    });
  });
  return problems;
}

/** Fields of the userspace mode that upstream had, and no longer checks. */
function oldProblems(
  { portRange, udpIdleTimeout }: KubeProxyConfiguration,
): Problem[] {
  const problems: Problem[] = [];
  if (parsePortRange(portRange) === undefined) {
    problems.push({
      field: "portRange",
      path: "PortRange",
      value: portRange,
      text:
        "must be a range of two ports or more such as 20000-29999, or blank",
    });
  }
  if (udpIdleTimeout < 0) {
    problems.push({
      field: "udpIdleTimeout",
      path: "UDPIdleTimeout",
      value: new DurationValue(udpIdleTimeout),
      text: "must be greater than or equal to 0",
    });
  }
  return problems;
}

import assert from "node:assert/strict";
import {
  defaultConfiguration,
  invalidConfiguration,
  PROXY_MODES,
  validate,
  withValue,
} from "../../../proxy/config/mod.ts";
import { problemText } from "../../../proxy/config/errors.ts";

/** What is said of the defaults with these values instead. */
function problemsOf(values: Readonly<Record<string, unknown>>): string[] {
  const config = Object.entries(values).reduce(
    (config, [path, value]) => withValue(config, path, value),
    defaultConfiguration(),
  );
  return validate(config).map((problem) => problemText(problem));
}

const PREFIX = "KubeProxyConfiguration.";
const LINUX = `${PREFIX}KubeProxyLinuxConfiguration.`;
const CONNTRACK = `${LINUX}KubeProxyConntrackConfiguration.`;
const CIDRS = `${PREFIX}DetectLocalConfiguration.ClusterCIDRs`;
const WRONG_MODE = `must be ${
  PROXY_MODES.join(", ")
} or blank (blank means userspace)`;
const NOT_NEGATIVE = "must be greater than or equal to 0";
const NOT_A_PAIR =
  "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]";
const NO_CIDR =
  "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)";

const table: readonly {
  facts: string;
  given: Readonly<Record<string, unknown>>;
  want: readonly string[];
}[] = [
  { facts: "8.43", given: {}, want: [] },
  {
    facts: "8.52",
    given: { "iptables.masqueradeBit": 32 },
    want: [
      `${PREFIX}KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: 32: must be within the range [0, 31] (iptables.masqueradeBit)`,
    ],
  },
  { facts: "8.52", given: { "iptables.masqueradeBit": 31 }, want: [] },
  {
    facts: "8.55",
    given: { oomScoreAdj: -1_001 },
    want: [
      `${LINUX}OOMScoreAdj: Invalid value: -1001: must be within the range [-1000, 1000] (oomScoreAdj)`,
    ],
  },
  {
    facts: "8.56",
    given: {
      "conntrack.maxPerCore": -1,
      "conntrack.min": -2,
      "conntrack.tcpEstablishedTimeout": -5_000,
      "conntrack.tcpCloseWaitTimeout": -1_000,
      "conntrack.udpTimeout": -1_000,
      "conntrack.udpStreamTimeout": -1_000,
    },
    want: [
      `${CONNTRACK}MaxPerCore: Invalid value: -1: ${NOT_NEGATIVE} (conntrack.maxPerCore)`,
      `${CONNTRACK}Min: Invalid value: -2: ${NOT_NEGATIVE} (conntrack.min)`,
      `${CONNTRACK}TCPEstablishedTimeout: Invalid value: -5s: ${NOT_NEGATIVE} (conntrack.tcpEstablishedTimeout)`,
      `${CONNTRACK}TCPCloseWaitTimeout: Invalid value: -1s: ${NOT_NEGATIVE} (conntrack.tcpCloseWaitTimeout)`,
      `${CONNTRACK}UDPTimeout: Invalid value: -1s: ${NOT_NEGATIVE} (conntrack.udpTimeout)`,
      `${CONNTRACK}UDPStreamTimeout: Invalid value: -1s: ${NOT_NEGATIVE} (conntrack.udpStreamTimeout)`,
    ],
  },
  { facts: "8.15, 8.57", given: { mode: "userspace" }, want: [] },
  { facts: "8.15, 8.57", given: { mode: "iptables" }, want: [] },
  { facts: "8.15, 8.57", given: { mode: "ipvs" }, want: [] },
  {
    facts: "8.57",
    given: { mode: "ebpf" },
    want: [
      `${PREFIX}Mode.ProxyMode: Invalid value: "ebpf": ${WRONG_MODE} (mode)`,
    ],
  },
  {
    facts: "8.58",
    given: { "clientConnection.burst": -1 },
    want: [
      `${PREFIX}ClientConnection.Burst: Invalid value: -1: ${NOT_NEGATIVE} (clientConnection.burst)`,
    ],
  },
  {
    facts: "8.59",
    given: { configSyncPeriod: -1_000, "iptables.minSyncPeriod": -1_000 },
    want: [
      `${PREFIX}ConfigSyncPeriod: Invalid value: -1s: must be greater than 0 (configSyncPeriod)`,
      `${PREFIX}MinSyncPeriod: Invalid value: -1s: ${NOT_NEGATIVE} (iptables.minSyncPeriod)`,
    ],
  },
  {
    facts: "8.59, 8.60",
    given: { "iptables.syncPeriod": 0 },
    want: [
      `${PREFIX}SyncPeriod: Invalid value: 0s: must be greater than 0 (iptables.syncPeriod)`,
      `${PREFIX}SyncPeriod: Invalid value: 1s: must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod (iptables.syncPeriod)`,
    ],
  },
  {
    facts: "8.60",
    given: { "iptables.syncPeriod": 5_000, "iptables.minSyncPeriod": 5_000 },
    want: [],
  },
  {
    facts: "8.61",
    given: { bindAddress: "node-1" },
    want: [
      `${PREFIX}BindAddress: Invalid value: "node-1": not a valid textual representation of an IP address (bindAddress)`,
    ],
  },
  { facts: "8.43, 8.62", given: { healthzBindAddress: "" }, want: [] },
  { facts: "8.43, 8.62", given: { metricsBindAddress: "" }, want: [] },
  {
    facts: "8.46, 8.62",
    given: { healthzBindAddress: "[fd00:1::5]" },
    want: [
      `${PREFIX}HealthzBindAddress: Invalid value: "[fd00:1::5]": must be IP:port (healthzBindAddress)`,
    ],
  },
  {
    facts: "8.62",
    given: { healthzBindAddress: "localhost:http" },
    want: [
      `${PREFIX}HealthzBindAddress: Invalid value: "localhost:http": must be a valid IP (healthzBindAddress)`,
      `${PREFIX}HealthzBindAddress: Invalid value: "localhost:http": must be a valid port (healthzBindAddress)`,
    ],
  },
  ...["127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:"].map(
    (address) => ({
      facts: "8.62",
      given: { metricsBindAddress: address },
      want: [
        `${PREFIX}MetricsBindAddress: Invalid value: "${address}": must be a valid port (metricsBindAddress)`,
      ],
    }),
  ),
  {
    facts: "8.38, 8.63",
    given: { nodePortAddresses: ["primary", "10.0.0.0/8", "fd00::/64"] },
    want: [],
  },
  {
    facts: "8.63",
    given: { nodePortAddresses: ["10.0.0.0/8", "10.0.0.1"] },
    want: [
      `${PREFIX}NodePortAddresses[1]: Invalid value: "10.0.0.1": must be a valid CIDR, primary, localhost or all (nodePortAddresses[1])`,
    ],
  },
  {
    facts: "8.64",
    given: { showHiddenMetricsForVersion: "latest" },
    want: [
      `${PREFIX}ShowHiddenMetricsForVersion: Invalid value: "latest": must be a version such as 1.35, or blank (showHiddenMetricsForVersion)`,
    ],
  },
  {
    facts: "8.53, 8.54",
    given: { "ipvs.tcpTimeout": -1_000, "ipvs.excludeCIDRs": ["x"] },
    want: [],
  },
  {
    facts: "8.53, 8.54",
    given: {
      mode: "ipvs",
      "ipvs.tcpTimeout": -1_000,
      "ipvs.excludeCIDRs": ["10.0.0.0/8", "x"],
    },
    want: [
      `${PREFIX}KubeProxyIPVSConfiguration.TCPTimeout: Invalid value: -1s: must be greater than or equal to 0 (ipvs.tcpTimeout)`,
      `${PREFIX}KubeProxyIPVSConfiguration.ExcludeCidrs[1]: Invalid value: "x": must be a valid CIDR (ipvs.excludeCIDRs[1])`,
    ],
  },
  {
    facts: "8.65",
    given: { detectLocalMode: "Guess" },
    want: [
      `${PREFIX}DetectLocalMode: Unsupported value: "Guess": supported values: "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", "" (detectLocalMode)`,
    ],
  },
  {
    facts: "8.66",
    given: { detectLocalMode: "BridgeInterface" },
    want: [
      `${PREFIX}DetectLocalConfiguration.InterfaceName: Invalid value: "": must not be empty (detectLocal.bridgeInterface)`,
    ],
  },
  {
    facts: "8.66",
    given: { detectLocalMode: "InterfaceNamePrefix" },
    want: [
      `${PREFIX}DetectLocalConfiguration.InterfacePrefix: Invalid value: "": must not be empty (detectLocal.interfaceNamePrefix)`,
    ],
  },
  {
    facts: "8.66",
    given: {
      detectLocalMode: "BridgeInterface",
      "detectLocal.bridgeInterface": "cbr0",
      clusterCIDR: "not looked at",
    },
    want: [],
  },
  {
    facts: "8.37, 8.67",
    given: { clusterCIDR: "10.0.0.0/8,fd00::/64" },
    want: [],
  },
  {
    facts: "8.67",
    given: { clusterCIDR: "10.0.0.0" },
    want: [
      `${CIDRS}[0]: Invalid value: "10.0.0.0": ${NO_CIDR} (clusterCIDR)`,
    ],
  },
  {
    facts: "8.67",
    given: { clusterCIDR: "10.0.0.0/8,10.1.0.0/16" },
    want: [
      `${CIDRS}: Invalid value: ["10.0.0.0/8","10.1.0.0/16"]: ${NOT_A_PAIR} (clusterCIDR)`,
    ],
  },
  {
    facts: "8.67",
    given: { clusterCIDR: "10.0.0.0/8,fd00::/64,x" },
    want: [
      `${CIDRS}: Invalid value: ["10.0.0.0/8","fd00::/64","x"]: ${NOT_A_PAIR} (clusterCIDR)`,
      `${CIDRS}[2]: Invalid value: "x": ${NO_CIDR} (clusterCIDR)`,
    ],
  },
  {
    facts: "8.68",
    given: { "logging.format": "xml" },
    want: [
      `${PREFIX}logging.format: Invalid value: "xml": Unsupported log format; supported: text, json (logging.format)`,
    ],
  },
];

for (const { facts, given, want } of table) {
  Deno.test(`[${facts}] validate() of ${JSON.stringify(given)}`, () => {
    assert.deepEqual(problemsOf(given), want);
  });
}

Deno.test("[8.41] validate() refuses a portRange that is no range of ports", () => {
  for (const right of ["", "0-0", "30000-30999", "30000+999"]) {
    assert.deepEqual(problemsOf({ portRange: right }), [], right);
  }
  for (const wrong of ["30000", "30999-30000", "1-65536", "a-b"]) {
    assert.equal(problemsOf({ portRange: wrong }).length, 1, wrong);
  }
});

Deno.test("invalidConfiguration() names everything in one line, by the names that were written", () => {
  const config = withValue(defaultConfiguration(), "oomScoreAdj", 1_001);
  const problems = validate(withValue(config, "mode", "ebpf"));
  const { message } = invalidConfiguration(problems, {
    source: "flags",
    nameOf: (field) => `--${field}`,
  });
  assert.equal(
    message,
    `Invalid configuration in flags: [${PREFIX}Mode.ProxyMode: Invalid value: "ebpf": ${WRONG_MODE} (--mode), ` +
      `${LINUX}OOMScoreAdj: Invalid value: 1001: must be within the range [-1000, 1000] (--oomScoreAdj)]`,
  );
});

import assert from "node:assert/strict";
import {
  ConfigurationError,
  defaultConfiguration,
  type KubeProxyConfiguration,
  parseConfiguration,
} from "../../../proxy/config/mod.ts";

const HEAD =
  "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

const HOUR_MS = 3_600_000;

/** Of a file with these lines and nothing wrong. */
function config(lines = ""): KubeProxyConfiguration {
  const parsed = parseConfiguration(HEAD + lines);
  assert.deepEqual(parsed.problems, []);
  assert.deepEqual(parsed.lenient, []);
  return parsed.config;
}

Deno.test("[8.3, 8.4, 8.5, 8.6, 8.7, 8.9, 8.12, 8.13, 8.14, 8.15, 8.16, 8.17, 8.18, 8.19, 8.20, 8.21, 8.22, 8.23, 8.24, 8.25, 8.26, 8.27, 8.28, 8.29, 8.30, 8.31, 8.32, 8.33, 8.34, 8.35, 8.36, 8.39, 8.40, 8.42] parseConfiguration() fills in every default", () => {
  const empty = config();
  assert.deepEqual(empty, defaultConfiguration());
  assert.deepEqual(empty, {
    featureGates: {},
    clientConnection: {
      kubeconfig: "",
      acceptContentTypes: "",
      contentType: "application/vnd.kubernetes.protobuf",
      qps: 5,
      burst: 10,
    },
    logging: {
      format: "text",
      flushFrequency: 5_000,
      verbosity: 0,
      vmodule: [],
      options: {
        text: { infoBufferSize: "0" },
        json: { infoBufferSize: "0" },
      },
    },
    hostnameOverride: "",
    bindAddress: "0.0.0.0",
    healthzBindAddress: "0.0.0.0:10256",
    metricsBindAddress: "127.0.0.1:10249",
    bindAddressHardFail: false,
    enableProfiling: false,
    showHiddenMetricsForVersion: "",
    mode: "",
    iptables: {
      masqueradeBit: 14,
      masqueradeAll: false,
      localhostNodePorts: true,
      syncPeriod: 30_000,
      minSyncPeriod: 1_000,
    },
    ipvs: {
      syncPeriod: 30_000,
      minSyncPeriod: 0,
      scheduler: "",
      excludeCIDRs: [],
      strictARP: false,
      tcpTimeout: 0,
      tcpFinTimeout: 0,
      udpTimeout: 0,
    },
    nftables: {
      masqueradeBit: 14,
      masqueradeAll: false,
      syncPeriod: 30_000,
      minSyncPeriod: 1_000,
    },
    winkernel: {
      networkName: "",
      sourceVip: "",
      enableDSR: false,
      rootHnsEndpointName: "",
      forwardHealthCheckVip: false,
    },
    detectLocalMode: "ClusterCIDR",
    detectLocal: { bridgeInterface: "", interfaceNamePrefix: "" },
    clusterCIDR: "",
    nodePortAddresses: [],
    oomScoreAdj: -999,
    conntrack: {
      maxPerCore: 32_768,
      min: 131_072,
      tcpEstablishedTimeout: 24 * HOUR_MS,
      tcpCloseWaitTimeout: HOUR_MS,
      tcpBeLiberal: false,
      udpTimeout: 0,
      udpStreamTimeout: 0,
    },
    configSyncPeriod: 900_000,
    portRange: "",
    udpIdleTimeout: 0,
    windowsRunAsService: false,
  });
});

Deno.test("parseConfiguration() takes null for a field that is not there, as kubeadm writes it", () => {
  assert.deepEqual(
    config([
      'mode: ""',
      "nodePortAddresses: null",
      "conntrack:",
      "  maxPerCore: null",
      "  tcpEstablishedTimeout: null",
      "iptables: null",
      "ipvs:",
      "oomScoreAdj: null",
      "bindAddressHardFail: false",
    ].join("\n")),
    defaultConfiguration(),
  );
});

Deno.test("[8.5, 8.6, 8.20, 8.28, 8.30, 8.31] parseConfiguration() takes zero for the default where Go cannot tell, and for zero where it can", () => {
  const zero = config(`
clientConnection: { qps: 0, burst: 0 }
configSyncPeriod: 0s
oomScoreAdj: 0
iptables: { syncPeriod: 0s, minSyncPeriod: 0s, masqueradeBit: 0, localhostNodePorts: false }
conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }
`);
  assert.equal(zero.clientConnection.qps, 5);
  assert.equal(zero.clientConnection.burst, 10);
  assert.equal(zero.configSyncPeriod, 900_000);
  assert.equal(zero.oomScoreAdj, 0);
  assert.deepEqual(zero.iptables, {
    masqueradeBit: 0,
    masqueradeAll: false,
    localhostNodePorts: false,
    syncPeriod: 30_000,
    minSyncPeriod: 1_000,
  });
  assert.equal(zero.conntrack.maxPerCore, 0);
  assert.equal(zero.conntrack.min, 0);
  assert.equal(zero.conntrack.tcpEstablishedTimeout, 0);
  assert.equal(zero.conntrack.tcpCloseWaitTimeout, 0);
});

Deno.test("[8.1, 8.2, 8.8, 8.37, 8.38, 8.41] parseConfiguration() reads what a file sets", () => {
  const text = HEAD + `
featureGates: { A: true, B: false }
clientConnection: { kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 2.5 }
hostnameOverride: node-7
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
nodePortAddresses: [192.0.2.0/24, primary]
portRange: 30000-30999
udpIdleTimeout: 250ms
mode: userspace
logging: { format: json, verbosity: 2, flushFrequency: 5000000000 }
`;
  const { config, given, problems } = parseConfiguration(text);
  assert.deepEqual(problems, []);
  assert.deepEqual(config.featureGates, { A: true, B: false });
  assert.equal(
    config.clientConnection.kubeconfig,
    "/var/lib/kube-proxy/kubeconfig.conf",
  );
  assert.equal(config.clientConnection.qps, 2.5);
  assert.equal(config.hostnameOverride, "node-7");
  assert.equal(config.clusterCIDR, "10.244.0.0/16,fd00:10:244::/56");
  assert.deepEqual(config.nodePortAddresses, ["192.0.2.0/24", "primary"]);
  assert.equal(config.portRange, "30000-30999");
  assert.equal(config.udpIdleTimeout, 250);
  assert.equal(config.logging.verbosity, 2);
  assert.equal(config.logging.flushFrequency, 5_000);
  assert.ok(given.has("clientConnection.qps"));
  assert.ok(!given.has("clientConnection.burst"));
});

const addresses: readonly [string, string, string][] = [
  ["bindAddress: 192.0.2.1", "0.0.0.0:10256", "127.0.0.1:10249"],
  ["bindAddress: '::'", "[::]:10256", "[::1]:10249"],
  ["bindAddress: 'fd00:1::5'", "[::]:10256", "[::1]:10249"],
  ["bindAddress: nonsense", "[::]:10256", "[::1]:10249"],
  [
    "healthzBindAddress: 9.8.7.6\nmetricsBindAddress: 'fd00:1::5'",
    "9.8.7.6:10256",
    "[fd00:1::5]:10249",
  ],
  [
    "healthzBindAddress: 1.2.3.4:5\nmetricsBindAddress: '[::]:5'",
    "1.2.3.4:5",
    "[::]:5",
  ],
  [
    "healthzBindAddress: '[fd00:1::5]'\nmetricsBindAddress: ''",
    "[fd00:1::5]",
    "127.0.0.1:10249",
  ],
];

for (const [lines, healthz, metrics] of addresses) {
  Deno.test(`[8.10, 8.11, 8.43, 8.45, 8.46] parseConfiguration() completes ${JSON.stringify(lines)}`, () => {
    const { healthzBindAddress, metricsBindAddress } = config(lines);
    assert.equal(healthzBindAddress, healthz);
    assert.equal(metricsBindAddress, metrics);
  });
}

Deno.test("[8.48] parseConfiguration() passes over fields it does not know, and names them all", () => {
  const { config, lenient, problems } = parseConfiguration(
    HEAD + `
mod: iptables
iptables: { syncPeriod: 20s, newIn137: { deep: 1 } }
clusterCIDR: 10.1.0.0/16
`,
  );
  assert.deepEqual(problems, []);
  assert.deepEqual(lenient, [
    'unknown field "mod"',
    'unknown field "iptables.newIn137"',
  ]);
  assert.equal(config.iptables.syncPeriod, 20_000);
  assert.equal(config.clusterCIDR, "10.1.0.0/16");
});

Deno.test("[8.48] parseConfiguration() takes the last of two fields with one name, and says so", () => {
  const { config, lenient } = parseConfiguration(
    HEAD + "clusterCIDR: 10.1.0.0/16\nclusterCIDR: 10.2.0.0/16\n",
  );
  assert.equal(config.clusterCIDR, "10.2.0.0/16");
  assert.deepEqual(lenient, ["duplicated mapping key (4:1)"]);
});

Deno.test("parseConfiguration() reads JSON, tabs included", () => {
  const text = JSON.stringify(
    {
      kind: "KubeProxyConfiguration",
      apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
      clusterCIDR: "10.1.0.0/16",
    },
    null,
    "\t",
  );
  assert.equal(parseConfiguration(text).config.clusterCIDR, "10.1.0.0/16");
});

Deno.test("[8.47] parseConfiguration() names every value of the wrong kind", () => {
  const { problems } = parseConfiguration(
    HEAD + `
clusterCIDR: [10.1.0.0/16]
hostnameOverride: 7
enableProfiling: 1
bindAddressHardFail: yes
oomScoreAdj: 1.5
clientConnection: { burst: 3000000000, qps: many }
configSyncPeriod: 30
iptables: { syncPeriod: 30 s }
nodePortAddresses: 10.0.0.0/8
featureGates: { A: maybe }
conntrack: none
`,
  );
  assert.deepEqual(
    problems.map(({ field, value, text }) => [field, value, text]),
    [
      ["featureGates", { A: "maybe" }, "must be names with true or false"],
      ["clientConnection.qps", "many", "must be a number"],
      [
        "clientConnection.burst",
        3_000_000_000,
        "must be a whole number of 32 bits",
      ],
      ["hostnameOverride", 7, "must be text"],
      ["enableProfiling", 1, "must be true or false"],
      [
        "iptables.syncPeriod",
        "30 s",
        "must be a duration such as 250ms, 30s or 1h30m",
      ],
      ["clusterCIDR", ["10.1.0.0/16"], "must be text"],
      ["nodePortAddresses", "10.0.0.0/8", "must be a list of texts"],
      ["oomScoreAdj", 1.5, "must be a whole number of 32 bits"],
      ["conntrack", "none", "must be a mapping"],
      [
        "configSyncPeriod",
        30,
        "must be a duration such as 250ms, 30s or 1h30m",
      ],
    ],
  );
});

const WANT = "want KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1";

const refused: readonly [string, string][] = [
  ["", "it is not a mapping"],
  ["- 1", "it is not a mapping"],
  ["clusterCIDR: x", `it has no apiVersion and no kind, ${WANT}`],
  ["kind: KubeProxyConfiguration", `it has no apiVersion, ${WANT}`],
  [
    "kind: Foo\napiVersion: foo.io/v1",
    `it is a "Foo" of "foo.io/v1", ${WANT}`,
  ],
  [
    HEAD.replace("v1alpha1", "v1alpha9"),
    'it is a "KubeProxyConfiguration" of "kubeproxy.config.k8s.io/v1alpha9", ' +
    WANT,
  ],
];

for (const [text, message] of refused) {
  Deno.test(`[8.49] parseConfiguration() refuses ${JSON.stringify(text)}`, () => {
    assert.throws(
      () => parseConfiguration(text),
      new ConfigurationError(message),
    );
  });
}

Deno.test("[8.49] parseConfiguration() says where YAML cannot be read", () => {
  assert.throws(
    () => parseConfiguration(`${HEAD}a: [1\nb: 2`),
    (error) => {
      assert.ok(error instanceof ConfigurationError);
      assert.match(error.message, /^.+ \(\d+:\d+\)$/);
      return true;
    },
  );
});

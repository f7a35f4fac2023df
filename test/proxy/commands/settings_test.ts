import assert from "node:assert/strict";
import { UserError } from "../../../proxy/commands/errors.ts";
import { RUN_FLAGS } from "../../../proxy/commands/flag_tables.ts";
import {
  type FlagSpecs,
  parseGivenFlags,
} from "../../../proxy/commands/flags.ts";
import { KUBE_PROXY_FLAGS } from "../../../proxy/commands/kube_proxy_flags.ts";
import { type Settings, settingsOf } from "../../../proxy/commands/settings.ts";
import {
  ConfigurationError,
  defaultConfiguration,
  fieldAt,
  PROXY_MODES,
} from "../../../proxy/config/mod.ts";

const PATH = "/var/lib/kube-proxy/config.conf";
const HEAD =
  "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

/** What these flags mean, beside a file with these lines if there are some. */
function settings(args: readonly string[], lines?: string): Settings {
  const flags = parseGivenFlags(args, RUN_FLAGS);
  const file = lines === undefined ? undefined : {
    path: PATH,
    text: HEAD + lines,
  };
  return settingsOf(flags, file);
}

/** The flags of kube-proxy 1.36 on Linux, from its help. */
const UPSTREAM =
  `bind-address bind-address-hard-fail cleanup cluster-cidr config
config-sync-period conntrack-max-per-core conntrack-min
conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait
conntrack-tcp-timeout-established conntrack-udp-timeout
conntrack-udp-timeout-stream detect-local-mode feature-gates
healthz-bind-address healthz-port hostname-override init-only
iptables-localhost-nodeports iptables-masquerade-bit iptables-min-sync-period
iptables-sync-period ipvs-exclude-cidrs ipvs-min-sync-period ipvs-scheduler
ipvs-strict-arp ipvs-sync-period ipvs-tcp-timeout ipvs-tcpfin-timeout
ipvs-udp-timeout kube-api-burst kube-api-content-type kube-api-qps kubeconfig
log-flush-frequency log-json-info-buffer-size log-json-split-stream
log-text-info-buffer-size log-text-split-stream logging-format masquerade-all
master metrics-bind-address metrics-port nodeport-addresses oom-score-adj
pod-bridge-interface pod-interface-name-prefix profiling proxy-mode
show-hidden-metrics-for-version v version vmodule write-config-to`.split(/\s+/);

Deno.test("[8.80, 8.81, 8.82, 8.83, 8.84, 8.85, 8.86, 8.87, 8.88, 8.89] run takes every flag of kube-proxy 1.36 by its name", () => {
  assert.deepEqual(
    UPSTREAM.filter((name) => !Object.hasOwn(RUN_FLAGS, name)),
    [],
  );
  for (const { field } of Object.values(KUBE_PROXY_FLAGS as FlagSpecs)) {
    if (field !== undefined) assert.ok(fieldAt(field));
  }
});

Deno.test("settingsOf() without flags is every default, in userspace mode", () => {
  const { config, modeFrom } = settings([]);
  assert.deepEqual(config, { ...defaultConfiguration(), mode: "userspace" });
  assert.equal(modeFrom, "default");
});

Deno.test("[8.20, 8.83, 8.84, 8.86, 8.87, 8.90] settingsOf() takes flags for the fields that they are", () => {
  const { config, modeFrom } = settings([
    "--proxy-mode=userspace",
    "--iptables-min-sync-period=0",
    "--iptables-sync-period=10s",
    "--nodeport-addresses=192.0.2.0/24",
    "--nodeport-addresses=fd00::/64,primary",
    "--feature-gates=A=true,B=false",
    "--iptables-localhost-nodeports=false",
    "--masquerade-all",
    "--oom-score-adj=-5",
    "--kube-api-qps=2.5",
    "--conntrack-tcp-timeout-established=0",
    "--healthz-bind-address=127.0.0.1",
    "--metrics-bind-address=::1",
  ]);
  assert.equal(modeFrom, "--proxy-mode");
  assert.deepEqual(config.iptables, {
    masqueradeBit: 14,
    masqueradeAll: true,
    localhostNodePorts: false,
    syncPeriod: 10_000,
    minSyncPeriod: 0,
  });
  assert.deepEqual(config.nodePortAddresses, [
    "192.0.2.0/24",
    "fd00::/64",
    "primary",
  ]);
  assert.deepEqual(config.featureGates, { A: true, B: false });
  assert.equal(config.oomScoreAdj, -5);
  assert.equal(config.clientConnection.qps, 2.5);
  assert.equal(config.conntrack.tcpEstablishedTimeout, 0);
  assert.equal(config.healthzBindAddress, "127.0.0.1:10256");
  assert.equal(config.metricsBindAddress, "[::1]:10249");
});

const ports: readonly {
  args: readonly string[];
  healthz?: string;
  metrics?: string;
}[] = [
  { args: ["--healthz-port=12345"], healthz: "0.0.0.0:12345" },
  { args: ["--metrics-port=12345"], metrics: "127.0.0.1:12345" },
  { args: ["--healthz-port=0"], healthz: "" },
  { args: ["--healthz-bind-address="], healthz: "" },
  { args: ["--metrics-bind-address="], metrics: "" },
  { args: ["--metrics-port=0"], metrics: "" },
  {
    args: ["--healthz-bind-address=127.0.0.1", "--healthz-port=12345"],
    healthz: "127.0.0.1:12345",
  },
  {
    args: ["--healthz-bind-address=127.0.0.1:9", "--healthz-port=12345"],
    healthz: "127.0.0.1:9",
  },
  {
    args: ["--healthz-bind-address=fd00:1::5", "--healthz-port=12345"],
    healthz: "[fd00:1::5]:12345",
  },
  {
    args: ["--healthz-bind-address=[fd00:1::5]:9", "--healthz-port=12345"],
    healthz: "[fd00:1::5]:9",
  },
];

for (const { args, healthz, metrics } of ports) {
  Deno.test(`[8.43, 8.88] settingsOf() makes addresses of ${args.join(" ")}`, () => {
    const { config, deprecated } = settings(args);
    assert.equal(config.healthzBindAddress, healthz ?? "0.0.0.0:10256");
    assert.equal(config.metricsBindAddress, metrics ?? "127.0.0.1:10249");
    assert.equal(
      deprecated.length,
      args.filter((arg) => /-port=/.test(arg)).length,
    );
  });
}

const WRONG_MODE = `must be ${
  PROXY_MODES.join(", ")
} or blank (blank means userspace)`;

const mistakes: readonly [string, string][] = [
  [
    "--proxy-mode=ebpf",
    `Invalid value "ebpf" for --proxy-mode: ${WRONG_MODE}`,
  ],
  [
    "--metrics-bind-address=here",
    'Invalid value "here" for --metrics-bind-address: must be IP:port',
  ],
  [
    "--healthz-port=http",
    'Invalid value "http" for --healthz-port: want a whole number from 0 to 65535',
  ],
  [
    "--oom-score-adj=low",
    'Invalid value "low" for --oom-score-adj: must be a whole number of 32 bits',
  ],
  [
    "--nodeport-addresses=10.0.0.0/8,x",
    'Invalid value "x" for --nodeport-addresses: must be a valid CIDR, primary, localhost or all',
  ],
  [
    "--config-sync-period=0s --bind-address=me",
    'Invalid value "me" for --bind-address: not a valid textual representation of an IP address; ' +
    'Invalid value "0s" for --config-sync-period: must be greater than 0',
  ],
];

for (const [args, message] of mistakes) {
  Deno.test(`settingsOf() refuses ${args}`, () => {
    assert.throws(() => settings(args.split(" ")), new UserError(message));
  });
}

Deno.test("[8.82] settingsOf() refuses a --hostname-override of blanks alone", () => {
  assert.throws(
    () => settings(["--hostname-override=  "]),
    /empty hostname-override is invalid/,
  );
  assert.equal(settings(["--hostname-override="]).config.hostnameOverride, "");
});

Deno.test("[8.8, 8.82, 8.89, 8.91] settingsOf() lets few flags count beside a file, and names the others", () => {
  const { config, overruled, modeFrom } = settings(
    [
      "--hostname-override=flag",
      "-v=3",
      "--logging-format=json",
      "--cluster-cidr=10.9.0.0/16",
      "--kubeconfig=/flag",
      "--healthz-port=1",
      "--proxy-mode=ipvs",
      "--master=http://127.0.0.1:1",
      "--steer=none",
    ],
    "hostnameOverride: file\nclusterCIDR: 10.1.0.0/16\nlogging: { verbosity: 1 }\n",
  );
  assert.deepEqual(overruled, [
    "--kubeconfig",
    "--proxy-mode",
    "--cluster-cidr",
    "--healthz-port",
  ]);
  assert.equal(config.hostnameOverride, "flag");
  assert.equal(config.clusterCIDR, "10.1.0.0/16");
  assert.equal(config.clientConnection.kubeconfig, "");
  assert.equal(config.logging.verbosity, 3);
  assert.equal(config.logging.format, "json");
  assert.equal(modeFrom, `${PATH}, which leaves it blank`);
  assert.equal(settings([], "mode: userspace").modeFrom, PATH);
});

Deno.test("settingsOf() names all that is wrong with a file at once, with its path", () => {
  assert.throws(
    () => settings([], "mode: ebpf\noomScoreAdj: high\nclusterCIDR: x\n"),
    new ConfigurationError(
      `Invalid configuration in "${PATH}": [` +
        'oomScoreAdj: Invalid value: "high": must be a whole number of 32 bits, ' +
        `KubeProxyConfiguration.Mode.ProxyMode: Invalid value: "ebpf": ${WRONG_MODE} (mode), ` +
        'KubeProxyConfiguration.DetectLocalConfiguration.ClusterCIDRs[0]: Invalid value: "x": must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48) (clusterCIDR)]',
    ),
  );
  assert.throws(
    () => settings([], "a: [1\nb: 2"),
    /^ConfigurationError: Cannot read "\/var\/lib\/kube-proxy\/config\.conf", the file of --config: /,
  );
});

import assert from "node:assert/strict";
import { formatHostPort } from "../../proxy/ip.ts";
import {
  isExternallyAccessible,
  servicePortsOf,
  usesClusterEndpoints,
  usesLocalEndpoints,
} from "../../proxy/service_port.ts";
import type { ServicePort } from "../../proxy/service_port.ts";
import { service, type ServiceOverrides } from "../support/objects.ts";

/** `10.96.0.10:80/TCP` for each ServicePort. */
function served(overrides: ServiceOverrides): string[] {
  return servicePortsOf(service("default/web", overrides)).map((port) =>
    `${formatHostPort(port.clusterIP, port.portNumber)}/${port.protocol}`
  );
}

/** The one ServicePort of a Service. */
function only(overrides: ServiceOverrides): ServicePort {
  const ports = servicePortsOf(service("default/web", overrides));
  assert.equal(ports.length, 1);
  return ports[0] as ServicePort;
}

const DUAL = {
  clusterIPs: ["10.96.0.10", "fd00:96::10"],
} as const;

const whichAreServed: readonly {
  name: string;
  given: ServiceOverrides;
  want: readonly string[];
}[] = [
  {
    name: "[1.24] servicePortsOf() serves clusterIP:port/PROTO",
    given: { clusterIP: "10.96.0.10" },
    want: ["10.96.0.10:80/TCP"],
  },
  {
    name:
      "[1.21, 1.24] servicePortsOf() serves IPv6 in canonical form and brackets",
    given: { clusterIP: "FD00:96:0::10" },
    want: ["[fd00:96::10]:80/TCP"],
  },
  {
    name: "[1.1] servicePortsOf() skips an empty cluster IP",
    given: { clusterIP: "" },
    want: [],
  },
  {
    name: "[1.1, 1.4] servicePortsOf() skips a headless Service",
    given: { clusterIP: "None" },
    want: [],
  },
  {
    name: "[1.2] servicePortsOf() skips ExternalName even with a cluster IP",
    given: { type: "ExternalName", clusterIP: "10.96.0.10" },
    want: [],
  },
  {
    name:
      "[1.3] servicePortsOf() skips by the singular cluster IP, not by the list",
    given: { clusterIP: "None", clusterIPs: ["10.96.0.10"] },
    want: [],
  },
  {
    name:
      "[1.3] servicePortsOf() serves by the list where the singular says nothing against it",
    given: { clusterIP: "10.96.0.10", clusterIPs: [], ipFamilies: [] },
    want: ["10.96.0.10:80/TCP"],
  },
  {
    name: "[1.6] servicePortsOf() ignores the headless label on a Service",
    given: { metadata: { labels: { "service.kubernetes.io/headless": "" } } },
    want: ["10.96.0.10:80/TCP"],
  },
  {
    name:
      "[1.14, 1.16] servicePortsOf() serves both families of a dual-stack Service",
    given: DUAL,
    want: ["10.96.0.10:80/TCP", "[fd00:96::10]:80/TCP"],
  },
  {
    name: "[1.16] servicePortsOf() takes the families in any order",
    given: { clusterIPs: ["fd00:96::10", "10.96.0.10"] },
    want: ["10.96.0.10:80/TCP", "[fd00:96::10]:80/TCP"],
  },
  {
    name:
      "[1.15] servicePortsOf() takes the cluster IP's own family without ipFamilies",
    given: { clusterIP: "fd00:96::10", ipFamilies: [] },
    want: ["[fd00:96::10]:80/TCP"],
  },
  {
    name:
      "[1.15] servicePortsOf() reads no more than the singular without ipFamilies",
    given: { ...DUAL, ipFamilies: [] },
    want: ["10.96.0.10:80/TCP"],
  },
  {
    name:
      "[1.17] servicePortsOf() leaves out a family whose cluster IP is missing",
    given: { clusterIPs: ["10.96.0.10"], ipFamilies: ["IPv4", "IPv6"] },
    want: ["10.96.0.10:80/TCP"],
  },
  {
    name: "[1.17] servicePortsOf() leaves out a family that is not named",
    given: { ...DUAL, ipFamilies: ["IPv4"] },
    want: ["10.96.0.10:80/TCP"],
  },
  {
    name: "[1.20] servicePortsOf() reads leading zeros as decimal",
    given: { clusterIP: "172.30.0.041" },
    want: ["172.30.0.41:80/TCP"],
  },
  {
    name: "[1.22] servicePortsOf() gives one entry for each port",
    given: {
      ports: [{ name: "http", port: 80 }, { name: "https", port: 443 }],
    },
    want: ["10.96.0.10:80/TCP", "10.96.0.10:443/TCP"],
  },
  {
    name:
      "[1.25, 1.26, 12.45] servicePortsOf() serves one number in each protocol",
    given: {
      ports: [
        { name: "dns", port: 53, protocol: "UDP" },
        { name: "dns-tcp", port: 53, protocol: "TCP" },
        { name: "dns-sctp", port: 53, protocol: "SCTP" },
      ],
    },
    want: ["10.96.0.10:53/UDP", "10.96.0.10:53/TCP", "10.96.0.10:53/SCTP"],
  },
  {
    name:
      "[1.28] servicePortsOf() leaves the range of numbers to the API server",
    given: { ports: [{ port: 65_535, nodePort: 1 }] },
    want: ["10.96.0.10:65535/TCP"],
  },
];

for (const { name, given, want } of whichAreServed) {
  Deno.test(name, () => {
    assert.deepEqual(served(given), want);
  });
}

Deno.test("[1.22, 1.23] servicePortsOf() names an entry ns/name:port, without the protocol", () => {
  const ports = servicePortsOf(service("kube-system/dns", {
    ...DUAL,
    ports: [{ name: "dns", port: 53, protocol: "UDP" }],
  }));
  assert.deepEqual(ports.map((port) => port.text), [
    "kube-system/dns:dns",
    "kube-system/dns:dns",
  ]);
  assert.deepEqual(ports.map((port) => port.key), [
    "kube-system/dns:dns/UDP/IPv4",
    "kube-system/dns:dns/UDP/IPv6",
  ]);
  assert.equal(only({}).text, "default/web");
});

Deno.test("[1.22, 1.25] servicePortsOf() gives every entry a key of its own", () => {
  const ports = servicePortsOf(service("default/web", {
    ...DUAL,
    ports: [
      {},
      { name: "a" },
      { name: "a", protocol: "UDP" },
      { name: "b", protocol: "SCTP" },
    ],
  }));
  assert.equal(new Set(ports.map((port) => port.key)).size, 8);
});

Deno.test("[1.31] servicePortsOf() changes the key with the port's name", () => {
  const before = only({ ports: [{ name: "http" }] });
  assert.notEqual(only({ ports: [{ name: "web" }] }).key, before.key);
});

Deno.test("[1.32] servicePortsOf() keeps the key whatever else changes", () => {
  const before = only({ ports: [{ name: "http" }] });
  const after = only({
    clusterIP: "10.96.0.99",
    type: "NodePort",
    externalTrafficPolicy: "Local",
    ports: [{ name: "http", port: 81, nodePort: 30_000 }],
  });
  assert.equal(after.key, before.key);
});

Deno.test("[1.9, 1.10, 6.28, 12.89] servicePortsOf() adds to a ClusterIP what its type brings", () => {
  const plain = only({});
  assert.deepEqual(only({ type: "NodePort", ports: [{ nodePort: 30_080 }] }), {
    ...plain,
    nodePort: 30_080,
  });
  assert.deepEqual(only({ type: "LoadBalancer", ports: [{ nodePort: 0 }] }), {
    ...plain,
    nodePort: 0,
  });
});

Deno.test("[1.11, 1.12, 1.13, 1.30, 1.42] servicePortsOf() reads no annotation, label or unknown field", () => {
  const plain = only({});
  const decorated = service("default/web", {
    metadata: {
      annotations: {
        "service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8",
        "service.kubernetes.io/topology-mode": "Auto",
      },
      labels: { app: "web" },
      resourceVersion: "77",
    },
  });
  const more = {
    ...decorated,
    spec: {
      ...decorated.spec,
      publishNotReadyAddresses: true,
      selector: { app: "web" },
      loadBalancerClass: "x",
      loadBalancerIP: "192.0.2.1",
      trafficDistribution: "PreferClose",
      ports: decorated.spec.ports.map((port) => ({
        ...port,
        appProtocol: "h2c",
        targetPort: 9999,
      })),
    },
  };
  assert.deepEqual(servicePortsOf(more), [plain]);
});

Deno.test("[1.18] servicePortsOf() serves nothing of a family without a cluster IP", () => {
  const port = only({
    type: "LoadBalancer",
    clusterIP: "10.96.0.10",
    ports: [{ nodePort: 30_080 }],
    externalIPs: ["2001:db8::1"],
    ingress: ["2001:db8::2"],
  });
  assert.equal(port.family, "IPv4");
  assert.deepEqual([port.externalIPs, port.loadBalancerIPs], [[], []]);
});

Deno.test("[1.19] servicePortsOf() sorts addresses and ranges by family", () => {
  const [v4, v6] = servicePortsOf(service("default/web", {
    ...DUAL,
    type: "LoadBalancer",
    externalIPs: ["2001:db8::1", "192.0.2.1"],
    ingress: ["192.0.2.2", "2001:db8::2"],
    loadBalancerSourceRanges: ["2001:db8::/32", "192.0.2.0/24"],
  }));
  assert.deepEqual(
    [v4?.externalIPs, v4?.loadBalancerIPs, v4?.sourceRanges],
    [["192.0.2.1"], ["192.0.2.2"], ["192.0.2.0/24"]],
  );
  assert.deepEqual(
    [v6?.externalIPs, v6?.loadBalancerIPs, v6?.sourceRanges],
    [["2001:db8::1"], ["2001:db8::2"], ["2001:db8::/32"]],
  );
});

Deno.test("[1.20, 1.38] servicePortsOf() canonicalises external IPs, once each, and drops what is no IP", () => {
  const port = only({
    externalIPs: ["1.2.3.004", "1.2.3.4", " ", "", "host", "2001:db8::1"],
  });
  assert.deepEqual(port.externalIPs, ["1.2.3.4"]);
});

Deno.test("[1.37, 6.27] servicePortsOf() takes load-balancer IPs of mode VIP only", () => {
  const port = only({
    type: "LoadBalancer",
    ingress: [
      "192.0.2.1",
      { ip: "192.0.2.2", ipMode: "Proxy" },
      { ip: "", ipMode: "VIP" },
      "192.0.2.003",
    ],
  });
  assert.deepEqual(port.loadBalancerIPs, ["192.0.2.1", "192.0.2.3"]);
});

const sourceRanges: readonly {
  name: string;
  given: readonly string[];
  want: readonly string[];
}[] = [
  {
    name:
      "[1.39] servicePortsOf() trims source ranges and drops unreadable ones",
    given: [" 10.0.0.0/8 ", "nonsense", "192.0.2.0/33"],
    want: ["10.0.0.0/8"],
  },
  {
    name: "[1.20] servicePortsOf() canonicalises source ranges",
    given: ["203.0.113.000/025"],
    want: ["203.0.113.0/25"],
  },
  {
    name:
      "[1.40] servicePortsOf() reads a range of everything as no restriction",
    given: ["10.0.0.0/8", "0.0.0.0/0"],
    want: [],
  },
  {
    name:
      "[1.40] servicePortsOf() lets a range of everything count in its own family only",
    given: ["10.0.0.0/8", "::/0"],
    want: ["10.0.0.0/8"],
  },
  {
    name:
      "[1.41] servicePortsOf() restricts nothing if all ranges are of the other family",
    given: ["2001:db8::/32"],
    want: [],
  },
  {
    name: "[1.41] servicePortsOf() restricts nothing if no range is readable",
    given: ["nonsense"],
    want: [],
  },
];

for (const { name, given, want } of sourceRanges) {
  Deno.test(name, () => {
    const port = only({
      type: "LoadBalancer",
      loadBalancerSourceRanges: given,
    });
    assert.deepEqual(port.sourceRanges, want);
  });
}

const externalPolicies: readonly (ServiceOverrides & { want: boolean })[] = [
  { type: "LoadBalancer", want: true },
  { type: "NodePort", want: true },
  { type: "ClusterIP", want: false },
  { type: "ClusterIP", externalIPs: ["192.0.2.1"], want: true },
];

Deno.test("[1.33] servicePortsOf() takes externalTrafficPolicy Local from reachable types only", () => {
  for (const { want, ...given } of externalPolicies) {
    const local = only({ ...given, externalTrafficPolicy: "Local" });
    assert.equal(local.externalPolicyLocal, want, JSON.stringify(given));
    assert.equal(only(given).externalPolicyLocal, false);
  }
});

Deno.test("[1.34] servicePortsOf() takes internalTrafficPolicy as it stands", () => {
  assert.ok(only({ internalTrafficPolicy: "Local" }).internalPolicyLocal);
  assert.ok(!only({ internalTrafficPolicy: "Cluster" }).internalPolicyLocal);
});

Deno.test("[1.35, 4.1, 4.3] servicePortsOf() has an affinity time for ClientIP only", () => {
  const sessionAffinityTimeoutSeconds = 125;
  const given = { sessionAffinityTimeoutSeconds };
  assert.equal(only({ ...given, sessionAffinity: "None" }).affinitySeconds, 0);
  assert.equal(
    only({ ...given, sessionAffinity: "ClientIP" }).affinitySeconds,
    125,
  );
  assert.equal(only({ sessionAffinity: "ClientIP" }).affinitySeconds, 10_800);
});

Deno.test("[1.36, 6.36] servicePortsOf() has a health check node port for LoadBalancer with Local only", () => {
  const given = { healthCheckNodePort: 32_000 } as const;
  const local = { ...given, externalTrafficPolicy: "Local" } as const;
  const table: readonly [ServiceOverrides, number][] = [
    [{ ...local, type: "LoadBalancer" }, 32_000],
    [{ ...local, type: "LoadBalancer", healthCheckNodePort: 0 }, 0],
    [{ ...given, type: "LoadBalancer" }, 0],
    [{ ...local, type: "NodePort" }, 0],
    [{ ...local, type: "ClusterIP" }, 0],
  ];
  for (const [overrides, want] of table) {
    assert.equal(
      only(overrides).healthCheckNodePort,
      want,
      JSON.stringify(overrides),
    );
  }
});

const local = { internalTrafficPolicy: "Local" } as const;
const nodePort = { type: "NodePort", ports: [{ nodePort: 30_080 }] } as const;
const outsideLocal = { externalTrafficPolicy: "Local" } as const;

/** Overrides; externally accessible, uses cluster, uses local endpoints. */
const reach: readonly [ServiceOverrides, boolean, boolean, boolean][] = [
  [{}, false, true, false],
  [nodePort, true, true, false],
  [{ type: "LoadBalancer", ingress: ["192.0.2.1"] }, true, true, false],
  [{ externalIPs: ["192.0.2.1"] }, true, true, false],
  [{ type: "LoadBalancer" }, false, true, false],
  [local, false, false, true],
  [{ ...local, ...nodePort }, true, true, true],
  [{ ...nodePort, ...outsideLocal }, true, true, true],
  [{ ...local, ...nodePort, ...outsideLocal }, true, true, true],
  [{ type: "NodePort", ...outsideLocal }, false, true, false],
];

Deno.test("[1.43, 1.44, 1.45] isExternallyAccessible(), usesClusterEndpoints() and usesLocalEndpoints() follow addresses and policies", () => {
  for (const [given, ...want] of reach) {
    const port = only(given);
    assert.deepEqual(
      [
        isExternallyAccessible(port),
        usesClusterEndpoints(port),
        usesLocalEndpoints(port),
      ],
      want,
      JSON.stringify(given),
    );
  }
});

Deno.test("[6.24] servicePortsOf() has no other port for external and load-balancer IPs", () => {
  const port = only({
    type: "LoadBalancer",
    externalIPs: ["192.0.2.1"],
    ports: [{ port: 8080, nodePort: 30_080 }],
  });
  assert.deepEqual([port.portNumber, port.nodePort], [8080, 30_080]);
});

Deno.test("[6.19, 6.20, 12.12] servicePortsOf() takes any node port, in two protocols at once", () => {
  const ports = servicePortsOf(service("default/web", {
    type: "NodePort",
    ports: [
      { name: "tcp", nodePort: 80 },
      { name: "udp", nodePort: 80, protocol: "UDP" },
    ],
  }));
  assert.deepEqual(ports.map((port) => [port.protocol, port.nodePort]), [
    ["TCP", 80],
    ["UDP", 80],
  ]);
});

import assert from "node:assert/strict";
import {
  buildDesiredState,
  type ServicePortState,
} from "../../proxy/desired_state.ts";
import {
  addressKey,
  listenAddresses,
  serviceAddresses,
} from "../../proxy/listen_addresses.ts";
import {
  type EndpointOverrides,
  service,
  type ServiceOverrides,
  slice,
} from "../support/objects.ts";

const NODE = {
  nodePortIps: ["127.0.0.1", "192.0.2.7", "::1", "fd00:2::7"],
  nodeIps: ["192.0.2.7", "fd00:2::7"],
  clusterSources: [],
};

function portStates(
  given: ServiceOverrides,
  endpoints: readonly (string | EndpointOverrides)[],
): readonly ServicePortState[] {
  const { ports } = given;
  const state = buildDesiredState([service("default/web", given)], {
    slices: [
      slice("default/web-1", {
        endpoints,
        ...(ports === undefined ? {} : {
          ports: ports.map(({ name = "", protocol = "TCP" }) => ({
            name,
            protocol,
          })),
        }),
      }),
    ],
    node: { name: "n1", zone: "" },
  });
  return state.get("default/web")?.ports ?? [];
}

function listens(
  given: ServiceOverrides,
  endpoints: readonly (string | EndpointOverrides)[],
): string[] {
  return portStates(given, endpoints)
    .flatMap((state) => listenAddresses(state, NODE))
    .map(({ address }) => addressKey(address));
}

Deno.test("listenAddresses() has the cluster IP and port of a TCP port", () => {
  const given = { ports: [{ name: "http", port: 80 }] };
  assert.deepEqual(listens(given, ["10.1.0.1"]), ["10.96.0.10:80/TCP"]);
  const [state] = portStates(given, ["10.1.0.1"]);
  assert.ok(state);
  assert.equal(
    listenAddresses(state, NODE)[0]?.address.name,
    "default/web:http",
  );
});

Deno.test("addressKey() puts IPv6 in brackets", () => {
  const given = { clusterIP: "fd00:96::10" };
  assert.deepEqual(listens(given, ["fd00:1::1"]), ["[fd00:96::10]:80/TCP"]);
});

Deno.test("[0.1, 5.45] listenAddresses() is empty without a usable endpoint", () => {
  assert.deepEqual(listens({}, []), []);
  const dead = { ip: "10.1.0.1", ready: false, serving: false };
  assert.deepEqual(listens({}, [dead]), []);
  const [state] = portStates({}, [dead]);
  assert.ok(state);
  assert.equal(serviceAddresses(state.servicePort, NODE).length, 1);
});

Deno.test("[0.2, 5.46, 12.33] listenAddresses() is empty for internal Local without a local endpoint", () => {
  const given = { internalTrafficPolicy: "Local" } as const;
  const remote = { ip: "10.1.0.1", nodeName: "n2" };
  assert.deepEqual(listens(given, [remote]), []);
  const local = { ip: "10.1.0.2", nodeName: "n1" };
  assert.deepEqual(listens(given, [remote, local]), ["10.96.0.10:80/TCP"]);
});

Deno.test("[1.27, 12.47, 12.54] listenAddresses() leaves SCTP out and serves the rest of the Service", () => {
  const ports = [
    { name: "sctp", port: 38_412, protocol: "SCTP" },
    { name: "http", port: 80, protocol: "TCP" },
  ] as const;
  assert.deepEqual(listens({ ports }, ["10.1.0.1"]), ["10.96.0.10:80/TCP"]);
});

const EVERYTHING: ServiceOverrides = {
  type: "LoadBalancer",
  clusterIP: "10.96.0.10",
  ports: [{ port: 80, nodePort: 30_080 }],
  externalIPs: ["198.51.100.1"],
  ingress: ["203.0.113.1", { ip: "203.0.113.2", ipMode: "Proxy" }],
};

/** `ClusterIP 10.96.0.10:80/TCP internal`. */
function described(
  given: ServiceOverrides,
  endpoints: readonly (string | EndpointOverrides)[],
): string[] {
  return portStates(given, endpoints)
    .flatMap((state) => listenAddresses(state, NODE))
    .map(({ address, options }) =>
      `${address.kind} ${addressKey(address)} ${options.scope}`
    );
}

const LOCAL = { ip: "10.1.0.1", nodeName: "n1" };
const REMOTE = { ip: "10.1.0.2", nodeName: "n2" };

Deno.test("[6.14, 6.24, 6.27, 12.10] listenAddresses() has every address of a Service, NodePorts on those of the node", () => {
  assert.deepEqual(described(EVERYTHING, [REMOTE]), [
    "ClusterIP 10.96.0.10:80/TCP internal",
    "NodePort 127.0.0.1:30080/TCP external",
    "NodePort 192.0.2.7:30080/TCP external",
    "LoadBalancerIP 203.0.113.1:80/TCP external",
    "ExternalIP 198.51.100.1:80/TCP external",
  ]);
});

Deno.test("[6.14] listenAddresses() keeps to the family of the ServicePort", () => {
  const given: ServiceOverrides = {
    ...EVERYTHING,
    clusterIP: "fd00:96::10",
    externalIPs: ["198.51.100.1", "2001:db8::1"],
    ingress: [],
  };
  assert.deepEqual(described(given, ["fd00:1::1"]), [
    "ClusterIP [fd00:96::10]:80/TCP internal",
    "NodePort [::1]:30080/TCP external",
    "NodePort [fd00:2::7]:30080/TCP external",
    "ExternalIP [2001:db8::1]:80/TCP external",
  ]);
});

Deno.test("[6.28] listenAddresses() serves a LoadBalancer without ingress by cluster IP and NodePort", () => {
  const kinds = described({ ...EVERYTHING, externalIPs: [], ingress: [] }, [
    REMOTE,
  ]).map((line) => line.split(" ")[0]);
  assert.deepEqual(kinds, ["ClusterIP", "NodePort", "NodePort"]);
});

Deno.test("[5.45, 5.81, 6.18, 12.31] listenAddresses() is empty everywhere without a usable endpoint", () => {
  const dead = { ...LOCAL, ready: false, serving: false, terminating: true };
  for (const policy of ["Cluster", "Local"] as const) {
    const given = { ...EVERYTHING, externalTrafficPolicy: policy };
    assert.deepEqual(described(given, []), []);
    assert.deepEqual(described(given, [dead]), []);
  }
});

Deno.test("[5.46, 5.49] internal Local without a local endpoint closes the cluster IP alone", () => {
  const given: ServiceOverrides = {
    ...EVERYTHING,
    internalTrafficPolicy: "Local",
  };
  const all = described(EVERYTHING, [REMOTE]);
  assert.deepEqual(described(given, [REMOTE]), all.slice(1));
  assert.deepEqual(described(given, [REMOTE, LOCAL]), all);
});

Deno.test("[5.47, 5.50, 5.80] external Local without a local endpoint closes nothing: pods and the node are served", () => {
  const given: ServiceOverrides = {
    ...EVERYTHING,
    externalTrafficPolicy: "Local",
  };
  const all = described(EVERYTHING, [REMOTE]);
  assert.deepEqual(described(given, [REMOTE]), all);
  const terminating = {
    ...REMOTE,
    ready: false,
    serving: true,
    terminating: true,
  };
  assert.deepEqual(described(given, [terminating]), all);
});

Deno.test("[6.19, 12.12] one node port serves TCP and UDP", () => {
  const ports = [
    { name: "tcp", protocol: "TCP", port: 53, nodePort: 30_053 },
    { name: "udp", protocol: "UDP", port: 53, nodePort: 30_053 },
  ] as const;
  const got = listens({ type: "NodePort", ports }, ["10.1.0.1"]);
  assert.ok(got.includes("192.0.2.7:30053/TCP"));
  assert.ok(got.includes("192.0.2.7:30053/UDP"));
});

Deno.test("[6.20] any node port number is served", () => {
  const ports = [{ port: 80, nodePort: 81 }];
  const got = listens({ type: "NodePort", ports }, ["10.1.0.1"]);
  assert.ok(got.includes("192.0.2.7:81/TCP"));
});

/** Address → its source ranges. */
function ranges(given: ServiceOverrides): Record<string, readonly string[]> {
  return Object.fromEntries(
    portStates(given, [LOCAL]).flatMap((state) => listenAddresses(state, NODE))
      .map(({ address, options }) => [address.ip, options.sourceRanges]),
  );
}

Deno.test("[6.15, 6.25, 6.29] source ranges are about load-balancer IPs only", () => {
  const loadBalancerSourceRanges = ["203.0.113.0/25", "2001:db8::/64"];
  const got = ranges({ ...EVERYTHING, loadBalancerSourceRanges });
  assert.deepEqual(got["203.0.113.1"], ["203.0.113.0/25"]);
  for (const ip of ["10.96.0.10", "192.0.2.7", "198.51.100.1"]) {
    assert.deepEqual(got[ip], [], ip);
  }
});

Deno.test("[6.32, 6.33] a node inside the source ranges lets in what leaves from the load-balancer IPs", () => {
  const got = ranges({
    ...EVERYTHING,
    ingress: ["203.0.113.1", "203.0.113.3"],
    loadBalancerSourceRanges: ["192.0.2.0/24"],
  });
  const want = ["192.0.2.0/24", "203.0.113.1/32", "203.0.113.3/32"];
  assert.deepEqual(got["203.0.113.1"], want);
});

Deno.test("an address that is an external and a load-balancer IP keeps its source ranges", () => {
  const got = ranges({
    ...EVERYTHING,
    externalIPs: ["203.0.113.1"],
    loadBalancerSourceRanges: ["198.51.100.0/24"],
  });
  assert.deepEqual(got["203.0.113.1"], ["198.51.100.0/24"]);
});

import assert from "node:assert/strict";
import { decodeEndpointSlice, decodeService } from "../../watch/decode.ts";

const metadata = { name: "web", namespace: "default" };

function serviceOf(spec: Record<string, unknown>) {
  return decodeService({ metadata, spec }).spec;
}

function sliceOf(contents: Record<string, unknown>) {
  return decodeEndpointSlice({ metadata, addressType: "IPv4", ...contents });
}

Deno.test("[1.26, 1.47, 4.2] decodeService() fills in the API server's defaults", () => {
  const spec = serviceOf({
    clusterIP: "10.96.0.10",
    ports: [{ port: 80 }],
  });
  assert.deepEqual({
    protocol: spec.ports[0]?.protocol,
    type: spec.type,
    sessionAffinity: spec.sessionAffinity,
    timeout: spec.sessionAffinityTimeoutSeconds,
    internal: spec.internalTrafficPolicy,
    external: spec.externalTrafficPolicy,
  }, {
    protocol: "TCP",
    type: "ClusterIP",
    sessionAffinity: "None",
    timeout: 10_800,
    internal: "Cluster",
    external: "Cluster",
  });
  const sticky = serviceOf({ ports: [], sessionAffinity: "ClientIP" });
  assert.equal(sticky.sessionAffinityTimeoutSeconds, 10_800);
});

Deno.test("[4.2] decodeService() takes an affinity timeout of up to a day", () => {
  for (const timeoutSeconds of [1, 86_400]) {
    const spec = serviceOf({
      ports: [],
      sessionAffinity: "ClientIP",
      sessionAffinityConfig: { clientIP: { timeoutSeconds } },
    });
    assert.equal(spec.sessionAffinityTimeoutSeconds, timeoutSeconds);
  }
});

Deno.test("[1.37] decodeService() takes ingress without ipMode for VIP", () => {
  const ingress = [
    { ip: "192.0.2.1" },
    { ip: "192.0.2.2", ipMode: "VIP" },
    { ip: "192.0.2.3", ipMode: "Proxy" },
    { hostname: "lb.example" },
  ];
  const { status } = decodeService({
    metadata,
    spec: {},
    status: { loadBalancer: { ingress } },
  });
  assert.deepEqual(
    status.loadBalancer.ingress.map(({ ip, ipMode }) => [ip, ipMode]),
    [
      ["192.0.2.1", "VIP"],
      ["192.0.2.2", "VIP"],
      ["192.0.2.3", "Proxy"],
      ["", "VIP"],
    ],
  );
});

Deno.test("[2.13, 2.15] decodeEndpointSlice() takes a port without name or protocol for unnamed TCP", () => {
  const want = [{ name: "", protocol: "TCP", port: 80 }];
  assert.deepEqual(sliceOf({ ports: [{ port: 80 }] }).ports, want);
  const nulls = { name: null, protocol: null, port: 80 };
  assert.deepEqual(sliceOf({ ports: [nulls] }).ports, want);
});

Deno.test("[2.14] decodeEndpointSlice() has no number for a port that stands for all", () => {
  for (const port of [{}, { port: null }]) {
    assert.deepEqual(sliceOf({ ports: [port] }).ports, [
      { name: "", protocol: "TCP" },
    ]);
  }
});

const conditions: readonly [
  string,
  unknown,
  { ready: boolean; serving: boolean; terminating: boolean },
][] = [
  [
    "[2.24] decodeEndpointSlice() takes missing conditions for ready, serving, not terminating",
    undefined,
    { ready: true, serving: true, terminating: false },
  ],
  [
    "[2.24] decodeEndpointSlice() takes null conditions for missing ones",
    { ready: null, serving: null, terminating: null },
    { ready: true, serving: true, terminating: false },
  ],
  [
    "[2.25] decodeEndpointSlice() takes an unready endpoint for serving, unless told",
    { ready: false },
    { ready: false, serving: true, terminating: false },
  ],
];

for (const [name, given, want] of conditions) {
  Deno.test(name, () => {
    const endpoint = { addresses: ["10.1.0.1"], conditions: given };
    const [decoded] = sliceOf({ endpoints: [endpoint] }).endpoints;
    assert.deepEqual(decoded?.conditions, want);
  });
}

Deno.test("[2.28, 2.29] decodeEndpointSlice() keeps hints and node name of an endpoint, and no other place", () => {
  const [decoded] = sliceOf({
    endpoints: [{
      addresses: ["10.1.0.1"],
      hostname: "web-0",
      zone: "a",
      targetRef: { kind: "Pod", name: "web-0" },
      deprecatedTopology: { "topology.kubernetes.io/zone": "b" },
      nodeName: "n1",
      hints: { forZones: [{ name: "c" }], forNodes: [{ name: "n2" }] },
    }],
  }).endpoints;
  assert.deepEqual(decoded, {
    addresses: ["10.1.0.1"],
    conditions: { ready: true, serving: true, terminating: false },
    nodeName: "n1",
    hints: { forZones: ["c"], forNodes: ["n2"] },
  });
});

Deno.test("[1.20, 2.22] decodeService() leaves sloppy addresses to those who compare them", () => {
  const spec = serviceOf({ clusterIP: "172.30.0.041", ports: [] });
  assert.equal(spec.clusterIP, "172.30.0.041");
});

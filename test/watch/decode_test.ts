import assert from "node:assert/strict";
import type {
  Node as UpstreamNode,
  Service as UpstreamService,
} from "kubernetes-types/core/v1";
import type { EndpointSlice as UpstreamSlice } from "kubernetes-types/discovery/v1";
import {
  decodeEndpointSlice,
  DecodeError,
  decodeKey,
  decodeNode,
  decodeService,
  decodeStatus,
} from "../../watch/decode.ts";
import type { EndpointSlice, Node, Service } from "../../watch/types.ts";
import { rawService } from "../support/raw_objects.ts";
import { readRecording } from "../support/recording.ts";

/** A Service `default/web` with this spec. */
function serviceWith(
  spec: unknown,
  more: Record<string, unknown> = {},
): unknown {
  const metadata = { name: "web", namespace: "default" };
  return { metadata, spec, ...more };
}

Deno.test("decodeService() fills in what the API server would", () => {
  assert.deepEqual(decodeService(serviceWith({ ports: [{ port: 80 }] })), {
    kind: "Service",
    metadata: {
      name: "web",
      namespace: "default",
      uid: "",
      resourceVersion: "",
      creationTimestamp: "",
      labels: {},
      annotations: {},
    },
    spec: {
      type: "ClusterIP",
      clusterIP: "",
      clusterIPs: [],
      ipFamilies: [],
      ports: [{ name: "", protocol: "TCP", port: 80, nodePort: 0 }],
      externalIPs: [],
      loadBalancerSourceRanges: [],
      sessionAffinity: "None",
      sessionAffinityTimeoutSeconds: 10_800,
      internalTrafficPolicy: "Cluster",
      externalTrafficPolicy: "Cluster",
      healthCheckNodePort: 0,
    },
    status: { loadBalancer: { ingress: [] } },
  });
});

Deno.test("decodeService() reads every field there is", () => {
  const { spec, status, metadata } = decodeService({
    metadata: {
      name: "web",
      namespace: "shop",
      uid: "u",
      resourceVersion: "7",
      creationTimestamp: "2026-01-01T00:00:00Z",
      deletionTimestamp: "2026-01-02T00:00:00Z",
      labels: { app: "web" },
      annotations: {
        "kube-portal.dev/balancer": "round-robin",
        "kubectl.kubernetes.io/last-applied-configuration": "{ much }",
      },
      managedFields: [{ manager: "kubectl" }],
    },
    spec: {
      type: "LoadBalancer",
      clusterIP: "fd00::1",
      clusterIPs: ["fd00::1", "10.96.0.1"],
      ipFamilies: ["IPv6", "IPv4"],
      ports: [{
        name: "dns",
        protocol: "UDP",
        port: 53,
        nodePort: 30053,
        targetPort: "x",
      }],
      externalIPs: ["172.30.0.041"],
      loadBalancerSourceRanges: [" 10.0.0.0/8"],
      sessionAffinity: "ClientIP",
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 30 } },
      internalTrafficPolicy: "Local",
      externalTrafficPolicy: "Local",
      healthCheckNodePort: 31000,
    },
    status: {
      loadBalancer: {
        ingress: [{ ip: "1.2.3.004" }, { ip: "5.6.7.8", ipMode: "Proxy" }, {
          hostname: "x",
        }],
      },
    },
  });
  assert.deepEqual(metadata.annotations, {
    "kube-portal.dev/balancer": "round-robin",
  });
  assert.equal(metadata.deletionTimestamp, "2026-01-02T00:00:00Z");
  assert.deepEqual(spec, {
    type: "LoadBalancer",
    clusterIP: "fd00::1",
    clusterIPs: ["fd00::1", "10.96.0.1"],
    ipFamilies: ["IPv6", "IPv4"],
    ports: [{ name: "dns", protocol: "UDP", port: 53, nodePort: 30053 }],
    externalIPs: ["172.30.0.041"],
    loadBalancerSourceRanges: [" 10.0.0.0/8"],
    sessionAffinity: "ClientIP",
    sessionAffinityTimeoutSeconds: 30,
    internalTrafficPolicy: "Local",
    externalTrafficPolicy: "Local",
    healthCheckNodePort: 31000,
  });
  assert.deepEqual(status.loadBalancer.ingress, [
    { ip: "1.2.3.004", ipMode: "VIP" },
    { ip: "5.6.7.8", ipMode: "Proxy" },
    { ip: "", ipMode: "VIP" },
  ]);
});

Deno.test("decodeService() takes either of clusterIP and clusterIPs for both", () => {
  const one = decodeService(serviceWith({ clusterIP: "10.0.0.1" })).spec;
  assert.deepEqual(one.clusterIPs, ["10.0.0.1"]);
  const many =
    decodeService(serviceWith({ clusterIPs: ["10.0.0.1", "fd00::1"] })).spec;
  assert.equal(many.clusterIP, "10.0.0.1");
});

Deno.test("decodeService() takes a policy of the future for the default", () => {
  const { spec } = decodeService(serviceWith({
    internalTrafficPolicy: "PreferLocal",
    externalTrafficPolicy: null,
    sessionAffinity: "Header",
  }));
  assert.equal(spec.internalTrafficPolicy, "Cluster");
  assert.equal(spec.externalTrafficPolicy, "Cluster");
  assert.equal(spec.sessionAffinity, "None");
});

const UNREADABLE: readonly (readonly [unknown, string])[] = [
  [
    serviceWith({ ports: [{ port: 80 }, { port: "http" }] }),
    'Cannot read Service default/web: spec.ports[1].port is "http", want a whole number 0–65535',
  ],
  [
    serviceWith({ ports: [{}] }),
    "Cannot read Service default/web: spec.ports[0].port is missing, want a whole number 0–65535",
  ],
  [
    serviceWith({ ports: [{ port: 70000 }] }),
    "Cannot read Service default/web: spec.ports[0].port is 70000, want a whole number 0–65535",
  ],
  [
    serviceWith({ ports: [{ port: 80, protocol: "tcp" }] }),
    'Cannot read Service default/web: spec.ports[0].protocol is "tcp", want one of TCP, UDP, SCTP',
  ],
  [
    serviceWith({ ports: { port: 80 } }),
    'Cannot read Service default/web: spec.ports is {"port":80}, want a list',
  ],
  [
    serviceWith({ ports: [80] }),
    "Cannot read Service default/web: spec.ports[0] is 80, want an object",
  ],
  [
    serviceWith({ clusterIPs: ["10.0.0.1", 5] }),
    "Cannot read Service default/web: spec.clusterIPs[1] is 5, want text",
  ],
  [
    serviceWith({ type: "Magic" }),
    'Cannot read Service default/web: spec.type is "Magic", want one of ClusterIP, NodePort, LoadBalancer, ExternalName',
  ],
  [
    serviceWith({
      sessionAffinityConfig: { clientIP: { timeoutSeconds: -1 } },
    }),
    "Cannot read Service default/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds is -1, want a whole number 0–86400",
  ],
  [
    serviceWith({}, { status: { loadBalancer: { ingress: [{ ip: 1 }] } } }),
    "Cannot read Service default/web: status.loadBalancer.ingress[0].ip is 1, want text",
  ],
  [
    serviceWith("x".repeat(500)),
    `Cannot read Service default/web: spec is "${
      "x".repeat(59)
    }…, want an object`,
  ],
  [
    { metadata: { name: "web", namespace: "default", labels: { a: 1 } } },
    'Cannot read Service default/web: metadata.labels["a"] is 1, want text',
  ],
  [
    { metadata: { name: "web" } },
    "Cannot read Service web: metadata.namespace is missing, want text",
  ],
  [
    { spec: {} },
    "Cannot read Service without a name: metadata.name is missing, want text",
  ],
  [17, "Cannot read Service without a name: it is 17, want an object"],
  [null, "Cannot read Service without a name: it is null, want an object"],
  [[], "Cannot read Service without a name: it is [], want an object"],
];

for (const [value, message] of UNREADABLE) {
  Deno.test(`decodeService() says: ${message.slice(0, 90)}`, () => {
    assert.throws(() => decodeService(value), (error: Error) => {
      assert.ok(error instanceof DecodeError);
      assert.equal(error.message, message);
      assert.equal(error.key, decodeKey(value));
      return true;
    });
  });
}

Deno.test("decodeEndpointSlice() knows what null means", () => {
  const slice = decodeEndpointSlice({
    metadata: { name: "web-1", namespace: "default", labels: null },
    addressType: "IPv4",
    endpoints: null,
    ports: null,
  });
  assert.deepEqual([slice.endpoints, slice.ports], [[], []]);
});

Deno.test("decodeEndpointSlice() fills in conditions, names and protocols", () => {
  const slice = decodeEndpointSlice({
    metadata: { name: "web-1", namespace: "default" },
    addressType: "IPv4",
    ports: [{}, { name: null, port: 0 }, {
      name: "dns",
      protocol: "UDP",
      port: 53,
    }],
    endpoints: [
      { addresses: ["10.0.0.1"] },
      {
        addresses: ["10.0.0.2"],
        conditions: { ready: false, serving: null, terminating: true },
        nodeName: "here",
        hints: { forZones: [{ name: "a" }], forNodes: [{ name: "here" }] },
      },
      { addresses: null, conditions: {} },
    ],
  });
  assert.deepEqual(slice.ports, [
    { name: "", protocol: "TCP" },
    { name: "", protocol: "TCP" },
    { name: "dns", protocol: "UDP", port: 53 },
  ]);
  assert.deepEqual(slice.endpoints, [
    {
      addresses: ["10.0.0.1"],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: "",
      hints: { forZones: [], forNodes: [] },
    },
    {
      addresses: ["10.0.0.2"],
      conditions: { ready: false, serving: true, terminating: true },
      nodeName: "here",
      hints: { forZones: ["a"], forNodes: ["here"] },
    },
    {
      addresses: [],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: "",
      hints: { forZones: [], forNodes: [] },
    },
  ]);
});

Deno.test("decodeEndpointSlice() names the endpoint that is wrong", () => {
  const value = {
    metadata: { name: "s", namespace: "n" },
    addressType: "IPv4",
    endpoints: [{ addresses: [] }, { conditions: { ready: "yes" } }],
  };
  assert.throws(() => decodeEndpointSlice(value), {
    message:
      'Cannot read EndpointSlice n/s: endpoints[1].conditions.ready is "yes", want true or false',
  });
});

Deno.test("decodeNode() reads addresses, pod CIDRs and taints", () => {
  const node = decodeNode({
    metadata: { name: "here" },
    spec: {
      podCIDR: "10.1.0.0/24",
      taints: [{ key: "k", effect: "NoExecute" }],
    },
    status: { addresses: [{ type: "InternalIP", address: "10.0.0.4" }] },
  });
  assert.deepEqual(node.spec, {
    podCIDRs: ["10.1.0.0/24"],
    taints: [{ key: "k" }],
  });
  assert.deepEqual(node.status.addresses, [{
    type: "InternalIP",
    address: "10.0.0.4",
  }]);
});

Deno.test("decodeStatus() makes the best of anything", () => {
  assert.deepEqual(decodeStatus("<html>", 502), {
    kind: "Status",
    code: 502,
    reason: "",
    message: "",
  });
  assert.deepEqual(
    decodeStatus({
      code: 429,
      message: "later",
      details: { retryAfterSeconds: 3 },
    }),
    {
      kind: "Status",
      code: 429,
      reason: "",
      message: "later",
      retryAfterSeconds: 3,
    },
  );
});

const RECORDED_LISTS = [
  ["services-list.http", decodeService],
  ["services-list-pretty-curl-ua.http", decodeService],
  ["endpointslices-list.http", decodeEndpointSlice],
  ["nodes-field-selector.http", decodeNode],
] as const;

for (const [name, decode] of RECORDED_LISTS) {
  Deno.test(`every item of ${name} can be read, and twice`, async () => {
    const text = new TextDecoder().decode(await readRecording(name));
    const list = JSON.parse(text.slice(text.indexOf("\r\n\r\n")));
    assert.ok(list.items.length > 0);
    for (const item of list.items) {
      const object = decode(item);
      assert.equal(object.metadata.uid, item.metadata.uid);
      // Defaults are already there: reading what was read changes nothing.
      if (object.kind === "EndpointSlice") continue;
      const again = decode(JSON.parse(JSON.stringify(object)));
      assert.deepEqual(again.metadata, object.metadata);
    }
  });
}

Deno.test("labels may be called anything", () => {
  const labels = JSON.parse('{"__proto__": "x", "constructor": "y"}');
  const value = rawService("web", 1);
  const service = decodeService({
    ...value,
    metadata: { ...value.metadata, labels },
  });
  assert.deepEqual(Object.keys(service.metadata.labels), [
    "__proto__",
    "constructor",
  ]);
});

/** Fields that ours has and upstream's type does not, at any depth. */
type Foreign<Ours, Theirs> = Ours extends readonly (infer A)[]
  ? NonNullable<Theirs> extends readonly (infer B)[] ? Foreign<A, B>
  : "not a list"
  : Ours extends object ? {
      [Field in keyof Ours]-?: Field extends keyof NonNullable<Theirs>
        ? Foreign<Ours[Field], NonNullable<Theirs>[Field]>
        : Field;
    }[keyof Ours]
  : never;

/** `never` becomes a readable "nothing"; anything else stays what it is. */
type OrNothing<Fields> = [Fields] extends [never] ? "nothing" : Fields;

/**
 * Only compiles while each field is named as upstream names it; what is listed
 * is what we name on purpose, or what kubernetes-types 1.30 is too old for.
 */
const FOREIGN: {
  readonly service: OrNothing<Foreign<Service, UpstreamService>>;
  readonly slice: OrNothing<Foreign<EndpointSlice, UpstreamSlice>>;
  readonly node: OrNothing<Foreign<Node, UpstreamNode>>;
} = {
  service: "sessionAffinityTimeoutSeconds",
  slice: "forNodes",
  node: "nothing",
};

Deno.test("fields are named as upstream names them", () => {
  assert.deepEqual(Object.keys(FOREIGN), ["service", "slice", "node"]);
});

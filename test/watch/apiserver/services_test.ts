import assert from "node:assert/strict";
import { createApiServer } from "../../../watch/apiserver/mod.ts";
import { call, type Json, serviceManifest } from "./support.ts";

const NAMESPACED = "/api/v1/namespaces/default/services";
const DUAL = { serviceCIDRs: ["10.96.0.0/16", "fd00:96::/112"] };

interface Row {
  name: string;
  spec: Json;
  /** Part of the stored spec. */
  want?: Json;
  /** Field and message of the errors. */
  errors?: [string, string][];
  dual?: true;
}

const TABLE: Row[] = [
  {
    name: "fills in what a Service leaves out",
    spec: { ports: [{ port: 80 }] },
    want: {
      type: "ClusterIP",
      clusterIP: "10.96.1.0",
      clusterIPs: ["10.96.1.0"],
      ipFamilies: ["IPv4"],
      ipFamilyPolicy: "SingleStack",
      sessionAffinity: "None",
      internalTrafficPolicy: "Cluster",
      ports: [{ protocol: "TCP", port: 80, targetPort: 80 }],
    },
  },
  {
    name: "gives ClientIP affinity three hours",
    spec: { sessionAffinity: "ClientIP", ports: [{ port: 80 }] },
    want: { sessionAffinityConfig: { clientIP: { timeoutSeconds: 10800 } } },
  },
  {
    name: "takes the clusterIP that is asked for",
    spec: { clusterIP: "10.96.7.7", ports: [{ port: 80 }] },
    want: { clusterIP: "10.96.7.7", clusterIPs: ["10.96.7.7"] },
  },
  {
    name: "takes clusterIPs for clusterIP",
    spec: { clusterIPs: ["10.96.7.8"], ports: [{ port: 80 }] },
    want: { clusterIP: "10.96.7.8" },
  },
  {
    name: "leaves a headless Service without address",
    spec: { clusterIP: "None", selector: { app: "a" } },
    want: { clusterIP: "None", clusterIPs: ["None"], ipFamilies: ["IPv4"] },
  },
  {
    name: "gives a headless Service without selector both families",
    spec: { clusterIP: "None" },
    want: { ipFamilies: ["IPv4", "IPv6"], ipFamilyPolicy: "RequireDualStack" },
  },
  {
    name: "gives node ports, and an external policy",
    spec: { type: "NodePort", ports: [{ port: 80 }] },
    want: {
      externalTrafficPolicy: "Cluster",
      ports: [{ protocol: "TCP", port: 80, targetPort: 80, nodePort: 30000 }],
    },
  },
  {
    name: "gives one node port to the same port over TCP and UDP",
    spec: {
      type: "NodePort",
      ports: [
        { name: "a", port: 53 },
        { name: "b", port: 53, protocol: "UDP" },
      ],
    },
    want: {
      ports: [
        {
          name: "a",
          protocol: "TCP",
          port: 53,
          targetPort: 53,
          nodePort: 30000,
        },
        {
          name: "b",
          protocol: "UDP",
          port: 53,
          targetPort: 53,
          nodePort: 30000,
        },
      ],
    },
  },
  {
    name: "gives a LoadBalancer with policy Local a health check port",
    spec: {
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      ports: [{ port: 80 }],
    },
    want: { healthCheckNodePort: 30001, allocateLoadBalancerNodePorts: true },
  },
  {
    name: "gives no node port where a LoadBalancer wants none",
    spec: {
      type: "LoadBalancer",
      allocateLoadBalancerNodePorts: false,
      ports: [{ port: 80 }],
    },
    want: { ports: [{ protocol: "TCP", port: 80, targetPort: 80 }] },
  },
  {
    name: "gives an ExternalName nothing",
    spec: { type: "ExternalName", externalName: "example.com" },
    want: { clusterIP: undefined, ipFamilies: undefined },
  },
  {
    name: "gives an address of each family when told to",
    dual: true,
    spec: { ipFamilyPolicy: "PreferDualStack", ports: [{ port: 80 }] },
    want: {
      clusterIPs: ["10.96.1.0", "fd00:96::100"],
      ipFamilies: ["IPv4", "IPv6"],
    },
  },
  {
    name: "gives an IPv6 address to an IPv6 Service",
    dual: true,
    spec: { ipFamilies: ["IPv6"], ports: [{ port: 80 }] },
    want: { clusterIP: "fd00:96::100", ipFamilyPolicy: "SingleStack" },
  },
  {
    name: "writes an IPv6 address the one right way",
    dual: true,
    spec: { clusterIP: "FD00:0096:0::5", ports: [{ port: 80 }] },
    want: { clusterIPs: ["fd00:96::5"], ipFamilies: ["IPv6"] },
  },
  {
    name: "prefers dual-stack in vain in a single-stack cluster",
    spec: { ipFamilyPolicy: "PreferDualStack", ports: [{ port: 80 }] },
    want: { ipFamilies: ["IPv4"], ipFamilyPolicy: "PreferDualStack" },
  },
  {
    name: "takes loopback external IPs, for the demo",
    spec: { externalIPs: ["127.0.0.9"], ports: [{ port: 80 }] },
    want: { externalIPs: ["127.0.0.9"], externalTrafficPolicy: "Cluster" },
  },
  // What is wrong.
  {
    name: "wants a port",
    spec: {},
    errors: [["spec.ports", "Required value"]],
  },
  {
    name: "wants a port in range, and tells it once",
    spec: { ports: [{ port: 99999 }] },
    errors: [[
      "spec.ports[0].port",
      "Invalid value: 99999: must be between 1 and 65535, inclusive",
    ]],
  },
  {
    name: "wants names for several ports",
    spec: { ports: [{ port: 80 }, { port: 81, name: "b" }] },
    errors: [["spec.ports[0].name", "Required value"]],
  },
  {
    name: "wants different names",
    spec: { ports: [{ port: 80, name: "a" }, { port: 81, name: "a" }] },
    errors: [["spec.ports[1].name", 'Duplicate value: "a"']],
  },
  {
    name: "wants different ports",
    spec: { ports: [{ port: 80, name: "a" }, { port: 80, name: "b" }] },
    errors: [[
      "spec.ports[1]",
      'Duplicate value: {"protocol":"TCP","port":80}',
    ]],
  },
  {
    name: "knows three protocols",
    spec: { ports: [{ port: 80, protocol: "QUIC" }] },
    errors: [[
      "spec.ports[0].protocol",
      'Unsupported value: "QUIC": supported values: "SCTP", "TCP", "UDP"',
    ]],
  },
  {
    name: "knows four types",
    spec: { type: "Magic", ports: [{ port: 80 }] },
    errors: [[
      "spec.type",
      'Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
    ]],
  },
  {
    name: "gives a ClusterIP Service no node port",
    spec: { ports: [{ port: 80, nodePort: 30000 }] },
    errors: [[
      "spec.ports[0].nodePort",
      "Forbidden: may not be used when `type` is 'ClusterIP'",
    ]],
  },
  {
    name: "wants a node port in range",
    spec: { type: "NodePort", ports: [{ port: 80, nodePort: 80 }] },
    errors: [[
      "spec.ports[0].nodePort",
      "Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
    ]],
  },
  {
    name: "wants a clusterIP in range",
    spec: { clusterIP: "10.97.0.1", ports: [{ port: 80 }] },
    errors: [[
      "spec.clusterIPs",
      'Invalid value: []string{"10.97.0.1"}: failed to allocate IP 10.97.0.1: the provided IP (10.97.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16',
    ]],
  },
  {
    name: "wants a clusterIP that is free",
    spec: { clusterIP: "10.96.0.1", ports: [{ port: 80 }] },
    errors: [[
      "spec.clusterIPs",
      'Invalid value: []string{"10.96.0.1"}: failed to allocate IP 10.96.0.1: provided IP is already allocated',
    ]],
  },
  {
    name: "wants an address for clusterIP",
    spec: { clusterIP: "web", ports: [{ port: 80 }] },
    errors: [[
      "spec.clusterIPs[0]",
      'Invalid value: "web": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
    ]],
  },
  {
    name: "has no IPv6 in an IPv4 cluster",
    spec: { ipFamilies: ["IPv6"], ports: [{ port: 80 }] },
    errors: [[
      "spec.ipFamilies[0]",
      'Invalid value: "IPv6": not configured on this cluster',
    ]],
  },
  {
    name: "cannot require dual-stack of a single-stack cluster",
    spec: { ipFamilyPolicy: "RequireDualStack", ports: [{ port: 80 }] },
    errors: [[
      "spec.ipFamilyPolicy",
      'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
    ]],
  },
  {
    name: "wants an external policy only where there is an outside",
    spec: { externalTrafficPolicy: "Local", ports: [{ port: 80 }] },
    errors: [[
      "spec.externalTrafficPolicy",
      'Invalid value: "Local": may only be set for externally-accessible services',
    ]],
  },
  {
    name: "wants an affinity timeout within a day",
    spec: {
      sessionAffinity: "ClientIP",
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } },
      ports: [{ port: 80 }],
    },
    errors: [[
      "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
      "Invalid value: 0: must be greater than 0 and less than 86400",
    ]],
  },
  {
    name: "wants source ranges that are CIDRs",
    spec: {
      type: "LoadBalancer",
      loadBalancerSourceRanges: ["10.0.0.0"],
      ports: [{ port: 80 }],
    },
    errors: [[
      "spec.loadBalancerSourceRanges[0]",
      'Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
    ]],
  },
  {
    name: "wants a name for an ExternalName",
    spec: { type: "ExternalName" },
    errors: [["spec.externalName", "Required value"]],
  },
];

for (const { name, spec, want, errors, dual } of TABLE) {
  Deno.test(`creating a Service ${name}`, async () => {
    await using server = createApiServer(dual ? DUAL : {});
    const before = server.resourceVersion;
    const answer = await call(server, NAMESPACED, {
      method: "POST",
      body: { metadata: { name: "web" }, spec },
    });
    if (errors === undefined) {
      assert.equal(answer.status, 201, answer.body.message);
      for (const [field, value] of Object.entries(want)) {
        assert.deepEqual(answer.body.spec[field], value, field);
      }
      return;
    }
    assert.equal(answer.status, 422);
    const { details, message } = answer.body;
    assert.equal(details.kind, "Service");
    assert.equal(details.name, "web");
    assert.deepEqual(
      details.causes.map((cause: Json) => [cause.field, cause.message]),
      errors,
    );
    assert.equal(
      message,
      `Service "web" is invalid: ${errors[0]![0]}: ${errors[0]![1]}`,
    );
    assert.equal(server.resourceVersion, before, "it changes nothing");
  });
}

Deno.test("several errors stand in brackets", async () => {
  await using server = createApiServer();
  const { body } = await call(server, NAMESPACED, {
    method: "POST",
    body: serviceManifest("Web_1", { ports: [{ port: 0 }] }),
  });
  assert.match(
    body.message,
    /^Service "Web_1" is invalid: \[metadata\.name: .*, spec\.ports\[0\]\.port: .*\]$/,
  );
  assert.equal(body.details.causes.length, 2);
});

const CHANGES: {
  name: string;
  before: Json;
  after: Json;
  want?: Json;
  error?: RegExp;
}[] = [
  {
    name: "keeps the address that a manifest leaves out",
    before: { ports: [{ port: 80 }] },
    after: { ports: [{ port: 81 }] },
    want: { clusterIP: "10.96.1.0", clusterIPs: ["10.96.1.0"] },
  },
  {
    name: "keeps the node port that a manifest leaves out",
    before: { type: "NodePort", ports: [{ port: 80, nodePort: 30123 }] },
    after: { type: "NodePort", ports: [{ port: 80, targetPort: 8080 }] },
    want: {
      ports: [{ protocol: "TCP", port: 80, targetPort: 8080, nodePort: 30123 }],
    },
  },
  {
    name: "refuses another address",
    before: { ports: [{ port: 80 }] },
    after: { clusterIP: "10.96.3.3", ports: [{ port: 80 }] },
    error:
      /spec\.clusterIPs\[0\]: Invalid value: \[\]string\{"10\.96\.3\.3"\}: may not change once set/,
  },
  {
    name: "drops node ports and policy of a type that has none",
    before: {
      type: "NodePort",
      externalTrafficPolicy: "Local",
      ports: [{ port: 80 }],
    },
    after: {
      type: "ClusterIP",
      externalTrafficPolicy: "Local",
      ports: [{ port: 80, nodePort: 30000 }],
    },
    want: {
      externalTrafficPolicy: undefined,
      ports: [{ protocol: "TCP", port: 80, targetPort: 80 }],
    },
  },
  {
    name: "gives an ExternalName that becomes a ClusterIP an address",
    before: { type: "ExternalName", externalName: "example.com" },
    after: { type: "ClusterIP", ports: [{ port: 80 }] },
    want: { clusterIP: "10.96.1.0", ipFamilies: ["IPv4"] },
  },
  {
    name: "takes the address of a ClusterIP that becomes an ExternalName",
    before: { ports: [{ port: 80 }] },
    after: { type: "ExternalName", externalName: "example.com" },
    want: { clusterIP: undefined, clusterIPs: undefined },
  },
  {
    name: "keeps the health check port",
    before: {
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      healthCheckNodePort: 31000,
      ports: [{ port: 80 }],
    },
    after: {
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      ports: [{ port: 80 }],
    },
    want: { healthCheckNodePort: 31000 },
  },
];

for (const { name, before, after, want = {}, error } of CHANGES) {
  Deno.test(`replacing a Service ${name}`, async () => {
    await using server = createApiServer();
    server.create("services", serviceManifest("web", before));
    const body = { metadata: { name: "web" }, spec: after };
    const path = `${NAMESPACED}/web`;
    const answer = await call(server, path, { method: "PUT", body });
    if (error !== undefined) {
      assert.equal(answer.status, 422);
      assert.match(answer.body.message, error);
      return;
    }
    assert.equal(answer.status, 200, answer.body.message);
    for (const [field, value] of Object.entries(want)) {
      assert.deepEqual(answer.body.spec[field], value, field);
    }
  });
}

Deno.test("a deleted Service's address and ports are free again", async () => {
  await using server = createApiServer();
  const spec = {
    type: "NodePort",
    clusterIP: "10.96.9.9",
    ports: [{ port: 80, nodePort: 30009 }],
  };
  server.create("services", serviceManifest("a", spec));
  assert.throws(
    () => server.create("services", serviceManifest("b", spec)),
    /provided IP is already allocated.*provided port is already allocated/,
  );
  server.delete("services", { namespace: "default", name: "a" });
  server.create("services", serviceManifest("b", spec));
});

Deno.test("a Service that is refused or only tried takes no address", async () => {
  await using server = createApiServer();
  const dry = await call(server, `${NAMESPACED}?dryRun=All`, {
    method: "POST",
    body: serviceManifest("a", { clusterIP: "10.96.9.9" }),
  });
  assert.equal(dry.status, 201);
  assert.equal(dry.body.spec.clusterIP, "10.96.9.9");
  const b = server.create(
    "services",
    serviceManifest("b", { clusterIP: "10.96.9.9" }),
  );
  assert.equal((b.spec as Json).clusterIP, "10.96.9.9");
  assert.equal((await call(server, `${NAMESPACED}/a`)).status, 404);
});

Deno.test("a full Service CIDR is told", async () => {
  await using server = createApiServer({ serviceCIDRs: ["10.0.0.0/30"] });
  server.create("services", serviceManifest("a"));
  assert.throws(
    () => server.create("services", serviceManifest("b")),
    /failed to allocate a serviceIP: range is full/,
  );
});

Deno.test("ten thousand Services and slices are made in seconds", async () => {
  await using server = createApiServer();
  const begin = performance.now();
  for (let index = 0; index < 10_000; index++) {
    server.create("services", serviceManifest(`s${index}`));
    server.create("endpointslices", {
      metadata: {
        name: `s${index}-1`,
        labels: { "kubernetes.io/service-name": `s${index}` },
      },
      addressType: "IPv4",
      endpoints: [{ addresses: ["127.0.0.1"] }],
      ports: [{ port: 8080 }],
    });
  }
  assert.equal(server.list("services").length, 10_001);
  const { body } = await call(server, "/api/v1/services");
  assert.equal(body.items.length, 10_001);
  // Far from what it takes; a cost per object that grows would show.
  assert.ok(performance.now() - begin < 20_000);
});

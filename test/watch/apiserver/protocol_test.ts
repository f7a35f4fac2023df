import assert from "node:assert/strict";
import { createApiServer } from "../../../watch/apiserver/mod.ts";
import { call, type Json, serviceManifest } from "./support.ts";

const ALL = "/api/v1/services";
const NAMESPACED = "/api/v1/namespaces/default/services";

Deno.test("the server begins with default/kubernetes and little else", async () => {
  await using server = createApiServer();
  const { body } = await call(server, ALL);
  assert.equal(body.items.length, 1);
  const [{ metadata, spec }] = body.items;
  assert.equal(`${metadata.namespace}/${metadata.name}`, "default/kubernetes");
  assert.equal(spec.clusterIP, "10.96.0.1");
  assert.deepEqual(server.list("endpointslices"), []);
  const cidrs = await call(
    server,
    "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
  );
  assert.deepEqual(cidrs.body.spec.cidrs, ["10.96.0.0/16"]);
  const namespaces = await call(server, "/api/v1/namespaces");
  assert.deepEqual(
    namespaces.body.items.map(({ metadata }: Json) => metadata.name),
    ["default", "kube-system"],
  );
});

Deno.test("unknown fields are kept, told, or refused", async () => {
  await using server = createApiServer();
  const post = (name: string, validation: string) =>
    call(server, `${NAMESPACED}?fieldValidation=${validation}`, {
      method: "POST",
      body: serviceManifest(name, { ports: [{ port: 80, prot: 1 }], x: {} }),
    });
  const warned = await post("a", "");
  assert.equal(warned.status, 201);
  assert.deepEqual(warned.body.spec.x, {});
  assert.equal(warned.body.spec.ports[0].prot, 1);
  assert.equal(
    warned.headers.get("warning"),
    String
      .raw`299 - "unknown field \"spec.ports[0].prot\"", 299 - "unknown field \"spec.x\""`,
  );
  assert.equal((await post("b", "Ignore")).headers.get("warning"), null);
  const strict = await post("c", "Strict");
  assert.equal(strict.status, 400);
  assert.match(
    strict.body.message,
    /strict decoding error: unknown field "spec\.ports\[0\]\.prot"/,
  );
  assert.equal((await post("d", "Sometimes")).status, 400);
});

const BAD_BODIES: {
  name: string;
  body: unknown;
  code: number;
  want: RegExp;
}[] = [
  { name: "no JSON", body: "{", code: 400, want: /cannot be read/ },
  { name: "no object", body: "[]", code: 400, want: /not an object/ },
  {
    name: "another kind",
    body: { kind: "Node", apiVersion: "v1", metadata: { name: "a" } },
    code: 400,
    want: /must be of type Service/,
  },
  {
    name: "another version",
    body: { kind: "Service", apiVersion: "v2", metadata: { name: "a" } },
    code: 400,
    want: /API version in the data \(v2\) does not match/,
  },
  {
    name: "another namespace",
    body: serviceManifest("a", {}, { namespace: "other" }),
    code: 400,
    want: /namespace of the provided object does not match/,
  },
  {
    name: "a wrong type",
    body: serviceManifest("a", { ports: [{ port: "80" }] }),
    code: 400,
    want:
      /cannot unmarshal string into Go struct field Service\.spec\.ports\.port of type int32/,
  },
  {
    name: "a resourceVersion",
    body: serviceManifest("a", {}, { resourceVersion: "5" }),
    code: 400,
    want: /resourceVersion should not be set/,
  },
  {
    name: "no name",
    body: { spec: { ports: [{ port: 80 }] } },
    code: 422,
    want: /name or generateName is required/,
  },
  {
    name: "a bad label",
    body: serviceManifest("a", {}, { labels: { "a b": "c" } }),
    code: 422,
    want: /metadata\.labels: Invalid value: "a b"/,
  },
  {
    name: "an existing name",
    body: serviceManifest("kubernetes", { clusterIP: "10.96.0.1" }),
    code: 409,
    want: /^services "kubernetes" already exists$/,
  },
  {
    name: "3 MiB",
    body: serviceManifest("a", {}, {
      annotations: { a: "x".repeat(3 * 1024 * 1024) },
    }),
    code: 413,
    want: /limit is 3145728/,
  },
];

for (const { name, body, code, want } of BAD_BODIES) {
  Deno.test(`POST of ${name} is refused, and changes nothing`, async () => {
    await using server = createApiServer();
    const before = server.resourceVersion;
    const answer = await call(server, NAMESPACED, { method: "POST", body });
    assert.equal(answer.body.kind, "Status");
    assert.equal(answer.body.code, code);
    assert.equal(answer.status, code);
    assert.match(answer.body.message, want);
    assert.equal(server.resourceVersion, before);
  });
}

Deno.test("methods and media types that do not fit are refused", async () => {
  await using server = createApiServer();
  const post = await call(server, ALL, { method: "POST", body: {} });
  assert.equal(post.status, 405);
  const cidr = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
  assert.equal((await call(server, cidr, { method: "DELETE" })).status, 405);
  const path = `${NAMESPACED}/kubernetes`;
  const patch = { method: "PATCH", body: {}, type: "application/json" };
  assert.equal((await call(server, path, patch)).status, 415);
  const text = { method: "POST", body: "a", type: "text/plain" };
  assert.equal((await call(server, NAMESPACED, text)).status, 415);
});

Deno.test("PUT with an old resourceVersion is a Conflict", async () => {
  await using server = createApiServer();
  const first = server.create("services", serviceManifest("web"));
  const put = (object: unknown) =>
    call(server, `${NAMESPACED}/web`, { method: "PUT", body: object });
  const changed = structuredClone(first) as Json;
  changed.metadata.labels = { a: "b" };
  const second = await put(changed);
  assert.equal(second.status, 200);
  assert.notEqual(
    second.body.metadata.resourceVersion,
    first.metadata.resourceVersion,
  );
  assert.equal(second.body.metadata.uid, first.metadata.uid);
  const stale = await put(changed);
  assert.equal(stale.status, 409);
  assert.deepEqual(stale.body, {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message:
      'Operation cannot be fulfilled on services "web": the object has been modified; please apply your changes to the latest version and try again',
    reason: "Conflict",
    details: { name: "web", kind: "services" },
    code: 409,
  });
  const uid = structuredClone(second.body);
  uid.metadata.uid = "another";
  assert.match((await put(uid)).body.message, /Precondition failed: UID/);
  const name = structuredClone(second.body);
  name.metadata.name = "other";
  assert.equal((await put(name)).status, 400);
});

Deno.test("writing what is there already is no change", async () => {
  await using server = createApiServer();
  const first = server.create("services", serviceManifest("web"));
  const { body } = await call(server, `${NAMESPACED}/web`, {
    method: "PUT",
    body: serviceManifest("web"),
  });
  assert.deepEqual(body, first);
});

Deno.test("a status is written by itself, and only there", async () => {
  await using server = createApiServer();
  const status = { loadBalancer: { ingress: [{ ip: "192.0.2.1" }] } };
  const made = server.create("services", { ...serviceManifest("web"), status });
  assert.deepEqual(made.status, { loadBalancer: {} });
  const path = `${NAMESPACED}/web`;
  const put = await call(server, `${path}/status`, {
    method: "PUT",
    body: {
      ...serviceManifest("web", { ports: [{ port: 99 }] }),
      status,
    },
  });
  assert.deepEqual(put.body.status, status);
  assert.equal(put.body.spec.ports[0].port, 80);
  const spec = await call(server, path, {
    method: "PUT",
    body: serviceManifest("web", { ports: [{ port: 81 }] }),
  });
  assert.deepEqual(spec.body.status, status);
  const patch = await call(server, `${path}/status`, {
    method: "PATCH",
    type: "application/merge-patch+json",
    body: { status: { loadBalancer: { ingress: null } } },
  });
  assert.deepEqual(patch.body.status, { loadBalancer: {} });
});

Deno.test("a slice counts its changes outside of metadata", async () => {
  await using server = createApiServer();
  const slice = { metadata: { name: "a" }, addressType: "IPv4" };
  const generation = (object: Json) => object.metadata.generation;
  assert.equal(generation(server.create("endpointslices", slice)), 1);
  const labels = { a: "b" };
  const name = { namespace: "default", name: "a" };
  const labelled = server.patch("endpointslices", name, {
    metadata: { labels },
  });
  assert.equal(generation(labelled), 1);
  const ports = [{ port: 80 }];
  const changed = server.patch("endpointslices", name, { ports });
  assert.equal(generation(changed), 2);
  assert.throws(
    () => server.patch("endpointslices", name, { addressType: "IPv6" }),
    /EndpointSlice\.discovery\.k8s\.io "a" is invalid: addressType: Invalid value: "IPv6": field is immutable/,
  );
});

Deno.test("generateName makes a name", async () => {
  await using server = createApiServer();
  const { body } = await call(server, NAMESPACED, {
    method: "POST",
    body: {
      metadata: { generateName: "web-" },
      spec: { ports: [{ port: 1 }] },
    },
  });
  assert.match(body.metadata.name, /^web-[a-z0-9]{5}$/);
});

Deno.test("DELETE heeds preconditions, dry runs and finalizers", async () => {
  await using server = createApiServer();
  const made = server.create(
    "services",
    serviceManifest("web", {}, { finalizers: ["example.com/wait"] }),
  );
  const path = `${NAMESPACED}/web`;
  const remove = (body: unknown, query = "") =>
    call(server, path + query, { method: "DELETE", body });
  const wrong = await remove({ preconditions: { uid: "another" } });
  assert.equal(wrong.status, 409);
  assert.match(wrong.body.message, /the UID in the precondition \(another\)/);
  assert.equal((await remove({}, "?dryRun=All")).status, 200);
  assert.equal(server.resourceVersion, made.metadata.resourceVersion);
  const marked = await remove({ preconditions: { uid: made.metadata.uid } });
  assert.ok(marked.body.metadata.deletionTimestamp);
  const again = await remove({});
  assert.deepEqual(again.body, marked.body);
  const released = await call(server, path, {
    method: "PATCH",
    type: "application/merge-patch+json",
    body: { metadata: { finalizers: null } },
  });
  assert.equal(released.status, 200);
  assert.equal((await call(server, path)).status, 404);
});

Deno.test("DELETE of a collection takes those that were asked for", async () => {
  await using server = createApiServer();
  for (const name of ["a", "b", "c"]) {
    const labels = { keep: String(name === "b") };
    server.create("services", serviceManifest(name, {}, { labels }));
  }
  const path = `${NAMESPACED}?labelSelector=keep%3Dfalse`;
  const { body } = await call(server, path, { method: "DELETE" });
  assert.equal(body.kind, "ServiceList");
  assert.equal(body.items.length, 2);
  assert.deepEqual(
    server.list("services").map(({ metadata }) => metadata.name),
    ["b", "kubernetes"],
  );
});

Deno.test("a namespace comes with its first object, and goes with all", async () => {
  await using server = createApiServer();
  server.create("services", serviceManifest("web", {}, { namespace: "shop" }));
  const path = "/api/v1/namespaces/shop";
  assert.equal((await call(server, path)).body.status.phase, "Active");
  assert.equal((await call(server, path, { method: "DELETE" })).status, 200);
  assert.equal((await call(server, `${path}/services/web`)).status, 404);
  const fixed = await call(server, "/api/v1/namespaces/default", {
    method: "DELETE",
  });
  assert.equal(fixed.status, 403);
});

Deno.test("only the latest Events are kept", async () => {
  await using server = createApiServer();
  for (let index = 0; index < 1005; index++) {
    server.create("events", {
      metadata: { name: `e${index}` },
      involvedObject: { kind: "Service", name: "web", namespace: "default" },
    });
  }
  const names = server.list("events").map(({ metadata }) => metadata.name);
  assert.equal(names.length, 1000);
  assert.ok(!names.includes("e4") && names.includes("e5"));
  const query = "fieldSelector=involvedObject.name%3Dnobody";
  const { body } = await call(server, `/api/v1/events?${query}`);
  assert.deepEqual(body.items, []);
});

Deno.test("selectors choose by labels and fields", async () => {
  await using server = createApiServer();
  const labels: Record<string, Record<string, string>> = {
    a: { app: "web", tier: "front" },
    b: { app: "web" },
    c: { app: "db", "example.com/x": "" },
  };
  for (const [name, own] of Object.entries(labels)) {
    server.create("services", serviceManifest(name, {}, { labels: own }));
  }
  const table: [string, string, string][] = [
    ["labelSelector", "app=web", "a b"],
    ["labelSelector", "app==web,tier", "a"],
    ["labelSelector", "app!=web", "c kubernetes"],
    ["labelSelector", "app in (web, db)", "a b c"],
    ["labelSelector", "app notin (web),app", "c"],
    ["labelSelector", "!app", "kubernetes"],
    ["labelSelector", "example.com/x=", "c"],
    ["labelSelector", "!example.com/x,app", "a b"],
    ["fieldSelector", "metadata.name=b", "b"],
    ["fieldSelector", "metadata.name!=b,spec.type=ClusterIP", "a c kubernetes"],
    ["fieldSelector", "spec.clusterIP=10.96.0.1", "kubernetes"],
    ["fieldSelector", "metadata.namespace=other", ""],
  ];
  for (const [parameter, selector, want] of table) {
    const query = new URLSearchParams({ [parameter]: selector });
    const { body } = await call(server, `${ALL}?${query}`);
    const names = body.items.map(({ metadata }: Json) => metadata.name);
    assert.equal(names.join(" "), want, selector);
  }
  for (
    const query of ["labelSelector=a%3D%3D%3Db", "fieldSelector=spec.x%3D1"]
  ) {
    assert.equal((await call(server, `${ALL}?${query}`)).status, 400);
  }
});

Deno.test("pages of one list are pages of one state", async () => {
  await using server = createApiServer();
  for (const name of ["a", "b", "c", "d"]) {
    server.create("services", serviceManifest(name));
  }
  const first = (await call(server, `${ALL}?limit=2`)).body;
  assert.deepEqual(first.metadata.remainingItemCount, 3);
  server.delete("services", { namespace: "default", name: "c" });
  server.create("services", serviceManifest("bb"));
  const token = first.metadata.continue;
  const second = (await call(server, `${ALL}?limit=9&continue=${token}`)).body;
  assert.deepEqual(
    second.items.map(({ metadata }: Json) => metadata.name),
    ["c", "d", "kubernetes"],
  );
  assert.equal(
    second.metadata.resourceVersion,
    first.metadata.resourceVersion,
  );
  assert.equal(second.metadata.continue, undefined);
});

Deno.test("an expired page offers to go on without consistency", async () => {
  await using server = createApiServer();
  for (const name of ["a", "b"]) {
    server.create("services", serviceManifest(name));
  }
  const first = (await call(server, `${ALL}?limit=1`)).body;
  server.create("services", serviceManifest("c"));
  server.faults.compact();
  const token = first.metadata.continue;
  const gone = await call(server, `${ALL}?continue=${token}`);
  assert.equal(gone.status, 410);
  assert.equal(gone.body.reason, "Expired");
  const rest = await call(
    server,
    `${ALL}?continue=${gone.body.metadata.continue}`,
  );
  assert.deepEqual(
    rest.body.items.map(({ metadata }: Json) => metadata.name),
    ["b", "c", "kubernetes"],
  );
});

Deno.test("a list from the future is a Timeout to retry", async () => {
  await using server = createApiServer();
  const answer = await call(server, `${ALL}?resourceVersion=999999`);
  assert.equal(answer.status, 504);
  assert.equal(answer.headers.get("retry-after"), "1");
  const { reason, details } = answer.body;
  assert.equal(reason, "Timeout");
  assert.equal(details.causes[0].reason, "ResourceVersionTooLarge");
  assert.equal((await call(server, `${ALL}?resourceVersion=0`)).status, 200);
});

Deno.test("an exact list is the list as it was", async () => {
  await using server = createApiServer();
  const before = server.resourceVersion;
  server.create("services", serviceManifest("a"));
  const { body } = await call(
    server,
    `${ALL}?resourceVersion=${before}&resourceVersionMatch=Exact`,
  );
  assert.equal(body.items.length, 1);
  assert.equal(body.metadata.resourceVersion, before);
});

Deno.test("YAML goes in and comes out", async () => {
  await using server = createApiServer();
  const made = await call(server, NAMESPACED, {
    method: "POST",
    type: "application/yaml",
    body: "metadata: {name: web}\nspec: {ports: [{port: 80}]}\n",
    headers: { Accept: "application/yaml" },
  });
  assert.equal(made.status, 201);
  assert.match(made.body, /^ {2}clusterIP: 10\.96\.1\.0$/m);
});

Deno.test("discovery leads to every resource", async () => {
  await using server = createApiServer();
  const groups = (await call(server, "/apis")).body.groups;
  const versions = [
    "/api/v1",
    ...groups.map((group: Json) =>
      `/apis/${group.preferredVersion.groupVersion}`
    ),
  ];
  const found: string[] = [];
  for (const path of versions) {
    const { body } = await call(server, path);
    assert.equal(body.kind, "APIResourceList");
    for (const { name, verbs } of body.resources) {
      found.push(name);
      if (!verbs.includes("list")) continue;
      assert.equal((await call(server, `${path}/${name}`)).status, 200);
    }
  }
  assert.ok(found.includes("services/status"));
  assert.ok(found.includes("selfsubjectaccessreviews"));
});

Deno.test("everybody may do everything", async () => {
  await using server = createApiServer();
  const path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
  const { status, body } = await call(server, path, {
    method: "POST",
    body: { kind: "SelfSubjectAccessReview", spec: {} },
  });
  assert.equal(status, 201);
  assert.equal(body.status.allowed, true);
});

import assert from "node:assert/strict";
import { createApiServer } from "../../../watch/apiserver/mod.ts";
import {
  call,
  type Json,
  recording,
  serviceManifest,
  watch,
} from "./support.ts";

const SERVICES = "/api/v1/services";
const SLICES = "/apis/discovery.k8s.io/v1/endpointslices";

/** Errors whose whole body has to be the recorded one. */
const ERRORS: { name: string; path: string }[] = [
  {
    name: "error-404-object",
    path: "/api/v1/namespaces/default/services/doesnotexist",
  },
  {
    name: "error-404-path",
    path: "/apis/discovery.k8s.io/v1beta1/endpointslices",
  },
  {
    name: "error-422-badquery",
    path: `${SERVICES}?watch=1&sendInitialEvents=true`,
  },
  { name: "error-500-badrv", path: `${SERVICES}?watch=1&resourceVersion=abc` },
  {
    name: "error-410-list-exact",
    path: `${SERVICES}?resourceVersion=2&resourceVersionMatch=Exact&limit=5`,
  },
];

for (const { name, path } of ERRORS) {
  Deno.test(`the API server answers as recorded in ${name}`, async () => {
    await using server = createApiServer();
    server.faults.compact();
    const [own, real] = [await call(server, path), await recording(name)];
    assert.equal(own.status, real.status);
    assert.deepEqual(own.body, real.body);
    assert.equal(
      own.headers.get("content-type"),
      real.headers.get("content-type"),
    );
  });
}

Deno.test("the API server refuses a bad continue token as recorded", async () => {
  await using server = createApiServer();
  const own = await call(server, `${SERVICES}?limit=2&continue=notatoken`);
  const real = await recording("services-bad-continue");
  assert.equal(own.status, real.status);
  assert.equal(own.body.reason, real.body.reason);
  assert.match(own.body.message, /^invalid continue token: continue key/);
});

Deno.test("the API server accepts what it can write, else answers 406", async () => {
  await using server = createApiServer();
  const headers = { Accept: "text/html" };
  const own = await call(server, SERVICES, { headers });
  const real = await recording("error-406-accept");
  assert.equal(own.status, real.status);
  assert.equal(own.body.reason, real.body.reason);
});

Deno.test("an expired watch is a 200 with the recorded ERROR event", async () => {
  await using server = createApiServer();
  server.create("services", serviceManifest("a"));
  server.faults.compact();
  await using reader = await watch(server, SERVICES, "resourceVersion=1");
  const [real] = (await recording("error-410-watch-rv1")).body;
  const event = await reader.next();
  assert.equal(reader.status, 200);
  const message = `too old resource version: 1 (${server.resourceVersion})`;
  assert.deepEqual(event, {
    ...real,
    object: { ...real.object, message },
  });
  assert.equal(await reader.next(), undefined);
});

Deno.test("the recorded Services, without what the server gave, come back as recorded", async () => {
  await using server = createApiServer();
  const real = (await recording("services-list")).body;
  for (const item of real.items) {
    if (item.metadata.name === "kubernetes") continue;
    const { name, namespace, annotations, labels } = item.metadata;
    const applied = annotations?.[
      "kubectl.kubernetes.io/last-applied-configuration"
    ];
    if (applied === undefined) continue;
    const given = JSON.parse(applied);
    given.metadata = { name, namespace, annotations, labels };
    server.create("services", given);
    server.update("services", { ...item, metadata: { name, namespace } }, {
      subresource: "status",
    });
  }
  const own = (await call(server, SERVICES)).body;
  assert.equal(own.kind, real.kind);
  assert.equal(own.apiVersion, real.apiVersion);
  for (const item of own.items) {
    const wanted = real.items.find((other: Json) =>
      other.metadata.name === item.metadata.name
    );
    assert.deepEqual(Object.keys(item), Object.keys(wanted));
    assert.deepEqual(
      withoutRandom(item.spec),
      withoutRandom(wanted.spec),
      item.metadata.name,
    );
    assert.deepEqual(item.status, wanted.status);
  }
});

/** Ports the server chose, and how a field is spelt that is no list. */
function withoutRandom(spec: Json): Json {
  const { healthCheckNodePort: _, ...rest } = structuredClone(spec);
  for (const port of rest.ports ?? []) delete port.nodePort;
  return rest;
}

Deno.test("the recorded EndpointSlices come back as recorded", async () => {
  await using server = createApiServer();
  const real = (await recording("endpointslices-list")).body;
  for (const item of real.items) {
    const { name, namespace, labels } = item.metadata;
    server.create("endpointslices", {
      ...item,
      metadata: { name, namespace, labels },
    });
  }
  const own = (await call(server, SLICES)).body;
  assert.equal(own.items.length, real.items.length);
  for (const [index, item] of own.items.entries()) {
    const wanted = real.items[index];
    assert.equal(item.metadata.name, wanted.metadata.name);
    const { metadata: _own, ...content } = item;
    const { metadata: _real, ...recorded } = wanted;
    assert.deepEqual(content, recorded);
  }
});

Deno.test("a Table has the recorded columns and cells", async () => {
  await using server = createApiServer();
  const real = (await recording("services-table")).body;
  server.create(
    "services",
    serviceManifest("dns-udp", {
      clusterIP: "10.96.20.60",
      ports: [{ port: 53, protocol: "UDP" }],
    }),
  );
  server.create(
    "services",
    serviceManifest("extip-local", {
      type: "NodePort",
      clusterIP: "10.96.20.40",
      externalIPs: ["198.51.100.40"],
      externalTrafficPolicy: "Local",
      ports: [{ port: 80, nodePort: 30040 }],
    }),
  );
  const headers = { Accept: "application/json;as=Table;v=v1;g=meta.k8s.io" };
  const own = (await call(server, SERVICES, { headers })).body;
  const columns = ({ columnDefinitions }: Json) =>
    columnDefinitions.map(({ name, type, format, priority }: Json) => ({
      name,
      type,
      format,
      priority,
    }));
  assert.deepEqual(columns(own), columns(real));
  for (const name of ["dns-udp", "extip-local"]) {
    const row = ({ rows }: Json) =>
      rows.find(({ cells }: Json) => cells[0] === name);
    const withoutAge = (cells: Json) => cells.toSpliced(5, 1);
    assert.deepEqual(
      withoutAge(row(own).cells),
      withoutAge(row(real).cells),
    );
    assert.equal(row(own).object.kind, row(real).object.kind);
    assert.equal(row(own).object.apiVersion, row(real).object.apiVersion);
  }
});

Deno.test("metadata alone has the recorded shape", async () => {
  await using server = createApiServer();
  const real = (await recording("services-metadata-only")).body;
  const headers = {
    Accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
  };
  const own = (await call(server, `${SERVICES}?limit=2`, { headers })).body;
  assert.equal(own.kind, real.kind);
  assert.equal(own.apiVersion, real.apiVersion);
  assert.deepEqual(Object.keys(own.items[0]), Object.keys(real.items[0]));
});

Deno.test("a streaming list ends with the recorded bookmark", async () => {
  await using server = createApiServer();
  server.create("endpointslices", {
    metadata: { name: "a" },
    addressType: "IPv4",
  });
  await using reader = await watch(
    server,
    SLICES,
    "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan",
  );
  const added = await reader.next();
  assert.equal(added.type, "ADDED");
  assert.equal(added.object.kind, "EndpointSlice");
  const bookmark = await reader.next();
  const events = (await recording("streaming-list-endpointslices")).body;
  const real = events.find(({ type }: Json) => type === "BOOKMARK");
  real.object.metadata.resourceVersion = server.resourceVersion;
  delete real.object.metadata.creationTimestamp;
  assert.deepEqual(bookmark, real);
});

Deno.test("a bookmark is the recorded empty object", async () => {
  await using server = createApiServer();
  const query =
    `allowWatchBookmarks=true&resourceVersion=${server.resourceVersion}`;
  await using reader = await watch(server, SERVICES, query);
  server.faults.bookmark();
  const [real] = (await recording("watch-services-bookmark-70s")).body;
  real.object.metadata.resourceVersion = server.resourceVersion;
  assert.deepEqual(await reader.next(), real);
});

import assert from "node:assert/strict";
import { createApiServer } from "../../../watch/apiserver/mod.ts";
import { call, serviceManifest, watch } from "./support.ts";

const SERVICES = "/api/v1/services";
const WEB = { namespace: "default", name: "web" };

Deno.test("a watch without resourceVersion begins with what there is", async () => {
  await using server = createApiServer();
  await using reader = await watch(server, SERVICES);
  server.create("services", serviceManifest("web"));
  assert.deepEqual(await reader.names(2), ["ADDED kubernetes", "ADDED web"]);
});

Deno.test("a watch from a resourceVersion tells everything after it", async () => {
  await using server = createApiServer();
  const query = `resourceVersion=${server.resourceVersion}`;
  server.create("services", serviceManifest("web"));
  server.create("nodes", { metadata: { name: "n" } });
  const changed = server.patch("services", WEB, {
    metadata: { labels: { a: "b" } },
  });
  await using reader = await watch(server, SERVICES, query);
  server.delete("services", WEB);
  const events = [
    await reader.next(),
    await reader.next(),
    await reader.next(),
  ];
  assert.deepEqual(events.map(({ type }) => type), [
    "ADDED",
    "MODIFIED",
    "DELETED",
  ]);
  assert.deepEqual(events[1].object, changed);
  assert.equal(
    events[2].object.metadata.resourceVersion,
    server.resourceVersion,
  );
  assert.deepEqual(events[2].object.metadata.labels, { a: "b" });
});

Deno.test("a watch of a namespace sees no other", async () => {
  await using server = createApiServer();
  const path = "/api/v1/namespaces/shop/services";
  const query = `resourceVersion=${server.resourceVersion}`;
  await using reader = await watch(server, path, query);
  server.create("services", serviceManifest("a"));
  server.create("services", serviceManifest("b", {}, { namespace: "shop" }));
  assert.deepEqual(await reader.names(1), ["ADDED b"]);
});

Deno.test("an object that leaves the selector is DELETED, and may come back", async () => {
  await using server = createApiServer();
  const selector = encodeURIComponent("!hidden");
  await using reader = await watch(
    server,
    SERVICES,
    `labelSelector=${selector}&resourceVersion=${server.resourceVersion}`,
  );
  server.create("services", serviceManifest("web"));
  const hide = (hidden: string | null) =>
    server.patch("services", WEB, { metadata: { labels: { hidden } } });
  hide("yes");
  server.patch("services", WEB, { metadata: { labels: { x: "y" } } });
  hide(null);
  assert.deepEqual(await reader.names(3), [
    "ADDED web",
    "DELETED web",
    "ADDED web",
  ]);
});

Deno.test("finalizers show as MODIFIED, then DELETED", async () => {
  await using server = createApiServer();
  const finalizers = ["example.com/wait"];
  server.create("services", serviceManifest("web", {}, { finalizers }));
  const query = `resourceVersion=${server.resourceVersion}`;
  await using reader = await watch(server, SERVICES, query);
  server.delete("services", WEB);
  const modified = await reader.next();
  assert.equal(modified.type, "MODIFIED");
  assert.ok(modified.object.metadata.deletionTimestamp);
  server.patch("services", WEB, { metadata: { finalizers: [] } });
  assert.deepEqual(await reader.names(1), ["DELETED web"]);
});

Deno.test("a watch ends at its timeout, after a last bookmark", async () => {
  await using server = createApiServer();
  await using reader = await watch(
    server,
    SERVICES,
    `allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion=${server.resourceVersion}`,
  );
  assert.equal((await reader.next()).type, "BOOKMARK");
  assert.equal(await reader.next(), undefined);
  assert.equal(server.openWatches, 0);
});

Deno.test("bookmarks come at intervals", async () => {
  await using server = createApiServer({ bookmarkIntervalMs: 10 });
  const query = "allowWatchBookmarks=true&sendInitialEvents=false" +
    "&resourceVersionMatch=NotOlderThan";
  await using reader = await watch(server, SERVICES, query);
  assert.deepEqual(await reader.names(2), ["BOOKMARK -", "BOOKMARK -"]);
});

Deno.test("a watch from the future waits for it", async () => {
  await using server = createApiServer();
  const future = Number(server.resourceVersion) + 1;
  const query = `resourceVersion=${future}`;
  await using reader = await watch(server, SERVICES, query);
  server.create("services", serviceManifest("a"));
  server.create("services", serviceManifest("b"));
  assert.deepEqual(await reader.names(1), ["ADDED b"]);
});

Deno.test("history that grew too long is a 410", async () => {
  await using server = createApiServer({ historyLimit: 5 });
  const query = `resourceVersion=${server.resourceVersion}`;
  for (let index = 0; index < 20; index++) {
    server.create("services", serviceManifest(`s${index}`));
  }
  await using reader = await watch(server, SERVICES, query);
  assert.equal((await reader.next()).object.code, 410);
});

Deno.test("what a server before it gave out is a 410 where resource versions begin later", async () => {
  await using before = createApiServer();
  for (const name of ["a", "b", "c"]) {
    before.create("services", serviceManifest(name));
  }
  await using server = createApiServer({
    firstRevision: Number(before.resourceVersion) + 1,
  });
  const query = `resourceVersion=${before.resourceVersion}`;
  await using reader = await watch(server, SERVICES, query);
  assert.equal((await reader.next()).object.code, 410);
});

Deno.test("a reader that goes away closes its watch", async () => {
  await using server = createApiServer();
  const reader = await watch(server, SERVICES);
  assert.equal(server.openWatches, 1);
  await reader[Symbol.asyncDispose]();
  assert.equal(server.openWatches, 0);
});

Deno.test("a watch can be of rows: only the first tells the columns", async () => {
  await using server = createApiServer();
  const query = `resourceVersion=${server.resourceVersion}`;
  const accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
  const headers = { Accept: accept };
  await using reader = await watch(server, SERVICES, query, headers);
  server.create("services", serviceManifest("a"));
  server.create("services", serviceManifest("b"));
  const [first, second] = [await reader.next(), await reader.next()];
  assert.equal(first.object.kind, "Table");
  assert.equal(first.object.rows[0].cells[0], "a");
  assert.ok(first.object.columnDefinitions.length > 0);
  assert.equal(second.object.columnDefinitions, null);
});

Deno.test("silence() holds events back until resume()", async () => {
  await using server = createApiServer();
  const query = `resourceVersion=${server.resourceVersion}`;
  await using before = await watch(server, SERVICES, query);
  server.faults.silence();
  await using during = await watch(server, SERVICES, query);
  server.create("services", serviceManifest("web"));
  const events = Promise.all([before.names(1), during.names(1)]);
  const early = Symbol();
  assert.equal(
    await Promise.race([
      events,
      call(server, SERVICES).then(() => early),
    ]),
    early,
    "lists are answered, watches say nothing",
  );
  server.faults.resume();
  assert.deepEqual(await events, [["ADDED web"], ["ADDED web"]]);
});

Deno.test("breakStreams() fails the reader, endStreams() ends it", async () => {
  await using server = createApiServer();
  const query = `resourceVersion=${server.resourceVersion}`;
  await using broken = await watch(server, SERVICES, query);
  server.faults.breakStreams();
  await assert.rejects(broken.next(), /The watch was cut/);
  await using ended = await watch(server, SERVICES, query);
  server.faults.endStreams();
  assert.equal(await ended.next(), undefined);
});

Deno.test("respondWith() answers the next requests that match", async () => {
  await using server = createApiServer();
  server.faults.respondWith({
    status: 429,
    times: 2,
    headers: { "Retry-After": "3" },
    match: ({ url }) => url.startsWith(SERVICES),
  });
  server.faults.respondWith({ status: 502, body: "<html>" });
  assert.equal((await call(server, "/version")).body, "<html>");
  for (let time = 0; time < 2; time++) {
    const { status, headers, body } = await call(server, SERVICES);
    assert.equal(status, 429);
    assert.equal(headers.get("retry-after"), "3");
    assert.equal(body.reason, "TooManyRequests");
  }
  assert.equal((await call(server, SERVICES)).status, 200);
  assert.deepEqual(
    server.requests.map(({ method, url }) => `${method} ${url}`),
    ["GET /version", ...Array(3).fill(`GET ${SERVICES}`)],
  );
});

Deno.test("watches can be refused, or held by a buffering proxy", async () => {
  await using server = createApiServer();
  server.faults.watchMode = "refuse";
  assert.equal((await call(server, `${SERVICES}?watch=1`)).status, 405);
  server.faults.watchMode = "buffer";
  const answer = call(server, `${SERVICES}?watch=1`);
  // Opened, but not answered before it ends.
  while (server.openWatches === 0) await Promise.resolve();
  server.faults.endStreams();
  assert.equal((await answer).status, 200);
});

Deno.test("rewind() goes back, addresses included", async () => {
  await using server = createApiServer();
  const before = server.resourceVersion;
  const spec = { clusterIP: "10.96.9.9" };
  server.create("services", serviceManifest("web", spec));
  await using reader = await watch(server, SERVICES);
  await reader.names(2);
  server.faults.rewind(before);
  await assert.rejects(reader.next());
  assert.equal(server.resourceVersion, before);
  assert.equal(server.list("services").length, 1);
  server.create("services", serviceManifest("other", spec));
  assert.throws(() => server.faults.rewind("999"), RangeError);
});

Deno.test("a watch of a quiet resource begins at once, over a socket too", async () => {
  await using server = createApiServer();
  await using listening = await server.listen();
  const leaving = new AbortController();
  const { status, body } = await fetch(
    `${listening.url}/api/v1/services?watch=1&resourceVersion=${server.resourceVersion}`,
    { signal: AbortSignal.any([leaving.signal, AbortSignal.timeout(10_000)]) },
  );
  assert.equal(status, 200);
  await body?.cancel();
  leaving.abort();
});

import assert from "node:assert/strict";
import fc from "fast-check";
import { createApiServer } from "../../../watch/apiserver/mod.ts";
import { jsonPatch, mergePatch } from "../../../watch/apiserver/patch.ts";
import { list, object, string } from "../../../watch/apiserver/schema.ts";
import {
  applyMerge,
  strategicMerge,
} from "../../../watch/apiserver/strategic_merge.ts";
import { call, type Json, serviceManifest } from "./support.ts";

const WEB = "/api/v1/namespaces/default/services/web";

const MERGES: [target: Json, patch: Json, want: Json][] = [
  [{ a: 1, b: 2 }, { b: null, c: 3 }, { a: 1, c: 3 }],
  [{ a: { x: 1 } }, { a: { y: 2 } }, { a: { x: 1, y: 2 } }],
  [{ a: [1, 2] }, { a: [3] }, { a: [3] }],
  [{ a: 1 }, { b: { c: null, d: 1 } }, { a: 1, b: { d: 1 } }],
  [{ a: "x" }, { a: { b: 1 } }, { a: { b: 1 } }],
];

Deno.test("mergePatch() does as RFC 7396 says", () => {
  for (const [target, patch, want] of MERGES) {
    assert.deepEqual(mergePatch(target, patch), want);
  }
});

const OPERATIONS: {
  target: Json;
  patch: Json[];
  want?: Json;
}[] = [
  {
    target: { a: 1 },
    patch: [{ op: "add", path: "/b", value: 2 }],
    want: { a: 1, b: 2 },
  },
  {
    target: { a: [1, 3] },
    patch: [
      { op: "add", path: "/a/1", value: 2 },
      { op: "add", path: "/a/-", value: 4 },
    ],
    want: { a: [1, 2, 3, 4] },
  },
  {
    target: { "a/b": { "c~d": 1 } },
    patch: [{ op: "replace", path: "/a~1b/c~0d", value: 2 }],
    want: { "a/b": { "c~d": 2 } },
  },
  {
    target: { a: { b: 1 } },
    patch: [
      { op: "copy", from: "/a", path: "/c" },
      { op: "move", from: "/a/b", path: "/d" },
    ],
    want: { a: {}, c: { b: 1 }, d: 1 },
  },
  {
    target: { a: [1] },
    patch: [
      { op: "test", path: "/a", value: [1] },
      { op: "remove", path: "/a/0" },
    ],
    want: { a: [] },
  },
  { target: { a: 1 }, patch: [{ op: "add", path: "", value: 5 }], want: 5 },
  { target: { a: 1 }, patch: [{ op: "test", path: "/a", value: 2 }] },
  { target: { a: 1 }, patch: [{ op: "remove", path: "/b" }] },
  { target: { a: 1 }, patch: [{ op: "replace", path: "/b", value: 1 }] },
  { target: { a: 1 }, patch: [{ op: "add", path: "/b/c", value: 1 }] },
  { target: { a: [] }, patch: [{ op: "add", path: "/a/1", value: 1 }] },
  { target: { a: [] }, patch: [{ op: "add", path: "/a/01", value: 1 }] },
  { target: {}, patch: [{ op: "add", path: "/__proto__", value: {} }] },
  { target: {}, patch: [{ op: "sing", path: "/a" }] },
];

for (const { target, patch, want } of OPERATIONS) {
  const end = want === undefined ? "is refused" : "works";
  Deno.test(`jsonPatch() ${JSON.stringify(patch)} ${end}`, () => {
    const run = () => jsonPatch(structuredClone(target), patch);
    if (want === undefined) assert.throws(run, /error in our request/);
    else assert.deepEqual(run(), want);
  });
}

const SCHEMA = object({
  items: list(object({ key: string, value: string }), { mergeKey: "key" }),
  words: list(string, { isSet: true }),
  plain: list(string),
  nested: object({ a: string }),
});
const item = (key: string, value?: string) =>
  value === undefined ? { key } : { key, value };

const STRATEGIC: { name: string; target: Json; patch: Json; want: Json }[] = [
  {
    name: "merges items by their key",
    target: { items: [item("a", "1"), item("b", "2")] },
    patch: { items: [item("b", "3"), item("c", "4")] },
    want: { items: [item("a", "1"), item("b", "3"), item("c", "4")] },
  },
  {
    name: "deletes an item by its key",
    target: { items: [item("a"), item("b")] },
    patch: { items: [{ key: "a", $patch: "delete" }] },
    want: { items: [item("b")] },
  },
  {
    name: "replaces a list when told to",
    target: { items: [item("a"), item("b")] },
    patch: { items: [item("c"), { $patch: "replace" }] },
    want: { items: [item("c")] },
  },
  {
    name: "replaces an object when told to",
    target: { nested: { a: "1", b: "2" } },
    patch: { nested: { $patch: "replace", c: "3" } },
    want: { nested: { c: "3" } },
  },
  {
    name: "orders items, and leaves others between their neighbours",
    target: { items: [item("a"), item("own"), item("b")] },
    patch: {
      "$setElementOrder/items": [{ key: "b" }, { key: "a" }, { key: "new" }],
      items: [item("new")],
    },
    want: { items: [item("own"), item("b"), item("a"), item("new")] },
  },
  {
    name: "orders a list the patch leaves alone",
    target: { items: [item("a"), item("b")] },
    patch: { "$setElementOrder/items": [{ key: "b" }, { key: "a" }] },
    want: { items: [item("b"), item("a")] },
  },
  {
    name: "keeps only the fields to retain",
    target: { nested: { a: "1", b: "2" } },
    patch: { nested: { $retainKeys: ["a"], a: "3" } },
    want: { nested: { a: "3" } },
  },
  {
    name: "adds to and takes from a set",
    target: { words: ["a", "b"] },
    patch: { words: ["c", "a"], "$deleteFromPrimitiveList/words": ["b"] },
    want: { words: ["a", "c"] },
  },
  {
    name: "replaces a plain list",
    target: { plain: ["a", "b"] },
    patch: { plain: ["c"] },
    want: { plain: ["c"] },
  },
  {
    name: "takes null for: no such field",
    target: { nested: { a: "1" }, plain: ["a"] },
    patch: { nested: { a: null, c: null }, plain: null },
    want: { nested: {} },
  },
  {
    name: "leaves no directive in what is new",
    target: {},
    patch: {
      nested: { $retainKeys: ["a"], a: "1", b: null },
      items: [{ key: "a", $patch: "delete" }, item("b")],
      "$setElementOrder/items": [{ key: "b" }],
    },
    want: { nested: { a: "1" }, items: [item("b")] },
  },
];

for (const { name, target, patch, want } of STRATEGIC) {
  Deno.test(`strategicMerge() ${name}`, () => {
    assert.deepEqual(strategicMerge(target, patch, SCHEMA), want);
  });
}

const APPLIES: {
  name: string;
  live: Json;
  last: Json;
  next: Json;
  want: Json;
}[] = [
  {
    name: "removes what is no longer applied, and nothing else",
    live: { nested: { a: "1", other: "2" }, plain: ["x"], b: 1 },
    last: { nested: { a: "1" }, plain: ["x"] },
    next: {},
    want: { nested: { other: "2" }, b: 1 },
  },
  {
    name: "keeps the items of others in a keyed list",
    live: { items: [item("a", "1"), item("b", "2"), item("c", "3")] },
    last: { items: [item("a", "1"), item("b", "2")] },
    next: { items: [item("b", "4")] },
    want: { items: [item("b", "4"), item("c", "3")] },
  },
  {
    name: "replaces a plain list",
    live: { plain: ["a", "b"] },
    last: {},
    next: { plain: ["c"] },
    want: { plain: ["c"] },
  },
];

for (const { name, live, last, next, want } of APPLIES) {
  Deno.test(`applyMerge() ${name}`, () => {
    assert.deepEqual(applyMerge(live, last, next, SCHEMA), want);
  });
}

const PLAIN = { noNullPrototype: true };

Deno.test("applying the same twice changes nothing the second time", () => {
  const value = fc.record({
    items: fc.uniqueArray(
      fc.record({ key: fc.string(), value: fc.string() }, PLAIN),
      { selector: ({ key }) => key },
    ),
    words: fc.uniqueArray(fc.string()),
    nested: fc.record({ a: fc.string() }, PLAIN),
  }, { requiredKeys: [], ...PLAIN });
  fc.assert(fc.property(value, value, value, (live, last, next) => {
    const once = applyMerge(live, last, next, SCHEMA);
    assert.deepEqual(applyMerge(once, next, next, SCHEMA), once);
  }));
});

async function patched(type: string, body: unknown, query = "") {
  const server = createApiServer();
  await using _server = server;
  const ports = [
    { name: "tcp", port: 53 },
    { name: "udp", port: 53, protocol: "UDP" },
    { name: "http", port: 80 },
  ];
  server.create("services", serviceManifest("web", { ports }));
  const answer = await call(server, WEB + query, {
    method: "PATCH",
    type: `application/${type}`,
    body,
  });
  return {
    ...answer,
    stored: server.get("services", {
      namespace: "default",
      name: "web",
    }) as Json,
  };
}

Deno.test("PATCH finds the port of the same number and protocol", async () => {
  const { stored } = await patched("strategic-merge-patch+json", {
    spec: { ports: [{ port: 53, protocol: "UDP", targetPort: 5353 }] },
  });
  assert.deepEqual(
    stored.spec.ports.map(({ targetPort }: Json) => targetPort),
    [53, 5353, 80],
  );
});

Deno.test("PATCH with an old resourceVersion is a Conflict", async () => {
  const metadata = { resourceVersion: "1" };
  const { status, body } = await patched("merge-patch+json", { metadata });
  assert.equal(status, 409);
  assert.equal(body.reason, "Conflict");
});

Deno.test("PATCH to something invalid changes nothing", async () => {
  const { status, stored } = await patched("json-patch+json", [
    { op: "replace", path: "/spec/ports/0/port", value: 0 },
  ]);
  assert.equal(status, 422);
  assert.equal(stored.spec.ports[0].port, 53);
  const type = await patched("merge-patch+json", { spec: { ports: 5 } });
  assert.equal(type.status, 400);
  const name = await patched("merge-patch+json", { metadata: { name: "x" } });
  assert.equal(name.status, 422);
});

Deno.test("PATCH as a dry run changes nothing", async () => {
  const body = { metadata: { labels: { a: "b" } } };
  const answer = await patched("merge-patch+json", body, "?dryRun=All");
  assert.deepEqual(answer.body.metadata.labels, { a: "b" });
  assert.equal(answer.stored.metadata.labels, undefined);
});

Deno.test("server-side apply creates, changes, and takes back what it set", async () => {
  await using server = createApiServer();
  const apply = (body: string, query = "?fieldManager=me") =>
    call(server, WEB + query, {
      method: "PATCH",
      type: "application/apply-patch+yaml",
      body,
    });
  const head = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n";
  const ports = "spec: {ports: [{port: 80}, {port: 81, name: b}]}\n";
  const bad = await apply(head + ports);
  assert.equal(bad.status, 422, "two ports, one without a name");
  const first = await apply(
    `${head}  labels: {a: b}\nspec: {ports: [{name: a, port: 80}]}\n`,
  );
  assert.equal(first.status, 201);
  server.patch("services", { namespace: "default", name: "web" }, {
    metadata: { labels: { other: "x" } },
  });
  const second = await apply(
    `${head}spec: {ports: [{name: b, port: 81}], sessionAffinity: ClientIP}\n`,
  );
  assert.equal(second.status, 200);
  assert.deepEqual(second.body.metadata.labels, { other: "x" });
  assert.deepEqual(
    second.body.spec.ports.map(({ port }: Json) => port),
    [81],
  );
  assert.equal((await apply(head, "")).status, 422, "no fieldManager");
});

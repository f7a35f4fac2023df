import assert from "node:assert/strict";
import {
  createApiServer,
  loadManifests,
} from "../../../watch/apiserver/mod.ts";
import type { Json } from "./support.ts";

async function load(files: Record<string, string>) {
  const dir = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries(files)) {
      await Deno.writeTextFile(`${dir}/${name}`, text);
    }
    const server = createApiServer();
    return { server, result: await loadManifests(server, dir) };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const SERVICE = `apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 127.0.0.7}]}}
`;

Deno.test("loadManifests() loads YAML, JSON and Lists, in order", async () => {
  const { server, result } = await load({
    "a.yaml": `${SERVICE}---\n# nothing\n---\n${
      SERVICE.replace("web", "other")
    }`,
    "b.json": JSON.stringify({
      kind: "List",
      apiVersion: "v1",
      items: [{ kind: "Node", apiVersion: "v1", metadata: { name: "n" } }],
    }),
    "c.yml": `kind: EndpointSliceList
apiVersion: discovery.k8s.io/v1
items: [{metadata: {name: web-1}, addressType: IPv4}]
`,
    "notes.txt": "not a manifest",
  });
  await using _server = server;
  assert.deepEqual(result, { count: 4, problems: [] });
  const web = server.get("services", {
    namespace: "default",
    name: "web",
  }) as Json;
  assert.deepEqual(web.status.loadBalancer.ingress, [{ ip: "127.0.0.7" }]);
});

Deno.test("loadManifests() tells what is wrong, in one line each, and loads the rest", async () => {
  const { server, result } = await load({
    "a.yaml": `a: [\n---\n${SERVICE}---\nkind: Pod\napiVersion: v1\n`,
    "b.yaml": SERVICE.replace("port: 80", "port: 0").replace("web", "bad"),
    "c.yaml": "just text\n",
    "d.yaml": "kind: Service\nmetadata: {name: x}\n",
  });
  await using _server = server;
  assert.equal(result.count, 1);
  const messages = result.problems.map(({ message }) => message);
  assert.match(messages[0]!, /^Cannot load "a\.yaml" line 1: /);
  assert.deepEqual(messages.slice(1), [
    'Cannot load "a.yaml" line 9: this server has no "Pod" in "v1"',
    'Cannot load "b.yaml" line 1: Service "bad" is invalid: spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive',
    'Cannot load "c.yaml" line 1: it is not an object',
    'Cannot load "d.yaml" line 1: it has no kind or no apiVersion',
  ]);
  assert.ok(messages.every((message) => !message.includes("\n")));
});

Deno.test("loadManifests() takes what a cluster has exported, again and again", async () => {
  const exported = `apiVersion: v1
kind: Service
metadata:
  name: kubernetes
  namespace: default
  uid: 8e6f4c7c-8f94-4d21-99d7-3c6ae0216da3
  resourceVersion: "247"
  creationTimestamp: "2026-11-22T06:58:54Z"
  labels: {from: file}
spec: {clusterIP: 10.96.0.1, ports: [{port: 443}]}
`;
  const { server, result } = await load({ "a.yaml": exported });
  await using _server = server;
  assert.deepEqual(result, { count: 1, problems: [] });
  const [{ metadata }] = server.list("services") as [Json];
  assert.deepEqual(metadata.labels, { from: "file" });
});

Deno.test("loadManifests() rejects for a folder that is not there", async () => {
  await using server = createApiServer();
  await assert.rejects(
    loadManifests(server, "/nowhere/at/all"),
    Deno.errors.NotFound,
  );
});

/** What throws where nothing should: it is named, and no other Service loses. */
import assert from "node:assert/strict";
import { serviceState } from "../../proxy/desired_state.ts";
import { Proxier } from "../../proxy/proxier.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import { FakeSteering } from "../support/fake_steering.ts";
import { collectLog } from "../support/log_lines.ts";
import { service, slice } from "../support/objects.ts";

const { signal } = new AbortController();

function state(name: string, clusterIP: string, ports: readonly number[]) {
  const named = ports.map((port) => ({ name: `p${port}`, port }));
  const given = service(`default/${name}`, { clusterIP, ports: named });
  const slices = [
    slice(`default/${name}-1`, {
      ports: named.map(({ name }) => ({ name, port: 8080 })),
      endpoints: [{ ip: "10.0.0.1" }],
    }),
  ];
  return serviceState(given, { slices, node: { name: "n1", zone: "" } });
}

const A = state("a", "10.96.0.1", [80, 443]);
const B = state("b", "10.96.0.2", [80]);
const C = state("c", "10.96.0.3", [80]);
const ALL = ["10.96.0.1:443", "10.96.0.1:80", "10.96.0.2:80", "10.96.0.3:80"];

function start() {
  const engine = new FakeEngine();
  const steering = new FakeSteering();
  const proxier = new Proxier({ engine, steering });
  const sync = (
    changed: readonly ReturnType<typeof state>[] = [],
    removed: readonly string[] = [],
  ) => proxier.sync({ changed, removed }, signal);
  return { engine, steering, proxier, sync };
}

Deno.test("a ServicePort that cannot be made is named, tried again, and costs no other one", async () => {
  await using log = await collectLog("error");
  const { engine, sync } = start();
  engine.broken.add("default/a:p80");
  assert.equal(await sync([A, B, C]), "again");
  assert.equal(await sync(), "again");
  assert.deepEqual(engine.listening, ALL.filter((each) => each !== ALL[1]));
  assert.equal(log.lines.length, 1);
  assert.match(log.lines[0] ?? "", /Cannot serve default\/a:p80.*a test says/);
  engine.broken.clear();
  assert.equal(await sync(), "done");
  assert.deepEqual(engine.listening, ALL);
});

Deno.test("a ServicePort that cannot be changed keeps no other one from it, nor from other addresses of the node", async () => {
  await using _log = await collectLog("error");
  const { engine, proxier, sync } = start();
  await sync([A, B]);
  engine.broken.add("default/a:p80");
  const node = { nodePortIps: ["192.0.2.1"], nodeIps: [], clusterSources: [] };
  proxier.setNode(node);
  assert.equal(await sync([A, C]), "again");
  assert.deepEqual(engine.listening, ALL);
  // What is gone is no longer tried.
  assert.equal(await sync([], ["default/a"]), "done");
  assert.deepEqual(engine.listening, ALL.slice(2));
});

Deno.test("what steering threw at is told to it again", async () => {
  const { engine, steering, sync } = start();
  await sync([C]);
  steering.throws.prepare = new Error("a test says so");
  await assert.rejects(sync([A]), /a test says so/);
  steering.throws.sync = new Error("a test says so");
  await assert.rejects(sync([B]), /a test says so/);
  steering.throws.sync = new Error("a test says so");
  await assert.rejects(sync([], ["default/c"]), /a test says so/);
  engine.forwarders[0]?.drained.resolve();
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(await sync(), "done");
  assert.deepEqual(engine.listening, ALL.slice(0, 3));
  const keys = ALL.slice(0, 3).map((each) => `${each}/TCP`);
  assert.deepEqual([...steering.wanted].sort(), keys);
  assert.deepEqual([...steering.open].sort(), keys);
});

/** Listeners by difference: what stays open, what changes hands, what fails. */
import assert from "node:assert/strict";
import type { ServiceState } from "../../proxy/desired_state.ts";
import { serviceState } from "../../proxy/desired_state.ts";
import { Proxier } from "../../proxy/proxier.ts";
import { NoSteering } from "../../proxy/rules/none.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import { collectLog } from "../support/log_lines.ts";
import { service, slice } from "../support/objects.ts";

const NODE = { name: "n1", zone: "" };
const signal = new AbortController().signal;

function state(
  name: string,
  options: { clusterIP?: string; ports?: number[]; endpoints?: string[] } = {},
): ServiceState {
  const { clusterIP = "10.96.0.1", ports = [80], endpoints = ["10.0.0.1"] } =
    options;
  const named = ports.map((port) => ({ name: `p${port}`, port }));
  return serviceState(service(name, { clusterIP, ports: named }), {
    slices: [
      slice(`${name}-1`, {
        ports: named.map(({ name }) => ({ name, port: 8080 })),
        endpoints: endpoints.map((ip) => ({ ip })),
      }),
    ],
    node: NODE,
  });
}

async function proxier() {
  const engine = new FakeEngine();
  const steering = new NoSteering({
    os: "linux",
    interfaceAddresses: () => ["10.96.0.1", "10.96.0.2"],
  });
  await steering.start();
  const proxier = new Proxier({ engine, steering });
  const sync = (changed: ServiceState[], removed: string[] = []) =>
    proxier.sync({ changed, removed }, signal);
  return { engine, proxier, sync };
}

Deno.test("Proxier opens a listener for every port of a Service", async () => {
  const { engine, sync } = await proxier();
  assert.equal(
    await sync([state("default/web", { ports: [80, 443] })]),
    "done",
  );
  assert.deepEqual(engine.listening, ["10.96.0.1:443", "10.96.0.1:80"]);
  assert.deepEqual(engine.endpointsAt("10.96.0.1:80"), ["10.0.0.1:8080"]);
});

Deno.test("Proxier names each listener that it opens, but not of hundreds", async () => {
  const { sync } = await proxier();
  await using log = await collectLog("info");
  const ports = Array.from({ length: 101 }, (_, n) => 1 + n);
  await sync([state("default/large", { ports })]);
  assert.equal(log.lines.length, 1);
  assert.match(log.lines[0]!, /added many service ports.* listeners=101/);
  const web = state("default/web", { clusterIP: "10.96.0.2" });
  await sync([web]);
  assert.match(log.lines[1]!, /added service port default\/web:p80/);
});

Deno.test("Proxier keeps the listener of a Service whose endpoints change", async () => {
  const { engine, sync } = await proxier();
  await sync([state("default/web")]);
  await sync([state("default/web", { endpoints: ["10.0.0.2", "10.0.0.3"] })]);
  assert.deepEqual(engine.events, ["open 10.96.0.1:80"]);
  assert.deepEqual(engine.endpointsAt("10.96.0.1:80"), [
    "10.0.0.2:8080",
    "10.0.0.3:8080",
  ]);
});

Deno.test("[0.1] Proxier has no listener for a port without endpoints", async () => {
  const { engine, sync } = await proxier();
  await sync([state("default/web", { endpoints: [] })]);
  assert.deepEqual(engine.listening, []);
  await sync([state("default/web")]);
  assert.deepEqual(engine.listening, ["10.96.0.1:80"]);
  await sync([state("default/web", { endpoints: [] })]);
  assert.deepEqual(engine.listening, []);
});

Deno.test("Proxier lets an address change hands within one sync", async () => {
  const { engine, sync } = await proxier();
  await sync([state("default/old")]);
  const result = await sync([state("default/new")], ["default/old"]);
  assert.equal(result, "done");
  assert.deepEqual(engine.events, [
    "open 10.96.0.1:80",
    "close 10.96.0.1:80",
    "open 10.96.0.1:80",
  ]);
});

Deno.test("Proxier serves the others where one address cannot be had", async () => {
  const { engine, proxier: it, sync } = await proxier();
  engine.refused.set("10.96.0.1:80", new Deno.errors.AddrInUse("in use"));
  const changes = [
    state("default/taken"),
    state("default/fine", { clusterIP: "10.96.0.2" }),
  ];
  assert.equal(await sync(changes), "again");
  assert.deepEqual(engine.listening, ["10.96.0.2:80"]);
  const failures = [...it.ports].flatMap((port) => [...port.failures]);
  assert.deepEqual(
    failures.map(({ address, reason }) => [address.name, reason]),
    [
      [
        "default/taken:p80",
        "the address and port are in use by another process",
      ],
    ],
  );

  engine.refused.clear();
  assert.equal(await sync([]), "done");
  assert.deepEqual(engine.listening, ["10.96.0.1:80", "10.96.0.2:80"]);
  assert.deepEqual([...it.ports].flatMap((port) => [...port.failures]), []);
});

Deno.test("[0.5] Proxier lets connections of a removed Service go on", async () => {
  const { engine, proxier: it, sync } = await proxier();
  await sync([state("default/web")]);
  await sync([], ["default/web"]);
  assert.deepEqual(engine.listening, []);
  let hasClosed = false;
  const closing = it.close(new AbortController().signal).then(() => {
    hasClosed = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(hasClosed, false);
  engine.forwarders[0]?.drained.resolve();
  await closing;
});

Deno.test("Proxier cuts what is left when it may wait no longer", async () => {
  const { engine, proxier: it, sync } = await proxier();
  await sync([state("default/web"), state("default/gone")]);
  await sync([], ["default/gone"]);
  await it.close(AbortSignal.abort());
  assert.deepEqual(engine.listening, []);
  assert.ok(engine.forwarders.every((forwarder) => forwarder.isClosed));
});

/** Many addresses of one Service, and several Services that want the same. */
import assert from "node:assert/strict";
import { serviceState } from "../../proxy/desired_state.ts";
import type { NodeAddresses } from "../../proxy/node_addresses.ts";
import { Proxier } from "../../proxy/proxier.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import { FakeSteering } from "../support/fake_steering.ts";
import { collectLog } from "../support/log_lines.ts";
import {
  type EndpointOverrides,
  service,
  type ServiceOverrides,
  slice,
} from "../support/objects.ts";

const { signal } = new AbortController();

const NODE: NodeAddresses = {
  nodePortIps: ["127.0.0.1", "192.0.2.7"],
  nodeIps: ["192.0.2.7"],
  clusterSources: ["127.0.0.0/8", "192.0.2.7/32"],
};

const LOCAL: EndpointOverrides = { ip: "10.1.0.1", nodeName: "n1" };
const REMOTE: EndpointOverrides = { ip: "10.1.0.2", nodeName: "n2" };

function state(
  name: string,
  overrides: ServiceOverrides & {
    readonly endpoints?: readonly EndpointOverrides[];
    readonly created?: string;
  } = {},
) {
  const { endpoints = [LOCAL], created, ...given } = overrides;
  const metadata = created === undefined
    ? {}
    : { metadata: { creationTimestamp: created } };
  return serviceState(service(name, { ...given, ...metadata }), {
    slices: [
      slice(`${name}-1`, {
        endpoints,
        ...(given.ports === undefined ? {} : {
          ports: given.ports.map(({ name = "", protocol = "TCP" }) => ({
            name,
            protocol,
          })),
        }),
      }),
    ],
    node: { name: "n1", zone: "" },
  });
}

function start(node: NodeAddresses = NODE) {
  const engine = new FakeEngine();
  const steering = new FakeSteering();
  const proxier = new Proxier({ engine, steering });
  proxier.setNode(node);
  const sync = (
    changed: readonly ReturnType<typeof state>[],
    removed: readonly string[] = [],
  ) => proxier.sync({ changed, removed }, signal);
  const failures = () =>
    [...proxier.ports].flatMap((port) => [...port.failures])
      .map(({ address, reason }) => `${address.name} ${address.ip}: ${reason}`);
  return { engine, steering, proxier, sync, failures };
}

const NODE_PORT: ServiceOverrides = {
  type: "NodePort",
  ports: [{ port: 80, nodePort: 30_080 }],
};

Deno.test("[6.14, 6.24, 6.29] Proxier listens on every address, each in its own way", async () => {
  const { engine, steering, sync } = start();
  const all = state("default/web", {
    ...NODE_PORT,
    type: "LoadBalancer",
    externalIPs: ["198.51.100.1"],
    ingress: ["203.0.113.1"],
    loadBalancerSourceRanges: ["203.0.113.128/25"],
  });
  assert.equal(await sync([all]), "done");
  const external = { scope: "external", sourceRanges: [] };
  assert.deepEqual(Object.fromEntries(engine.options), {
    "10.96.0.10:80": { scope: "internal", sourceRanges: [] },
    "127.0.0.1:30080": external,
    "192.0.2.7:30080": external,
    "198.51.100.1:80": external,
    "203.0.113.1:80": {
      scope: "external",
      sourceRanges: ["203.0.113.128/25"],
    },
  });
  assert.equal(engine.forwarders.length, 1, "one rotation for all of them");
  assert.equal(steering.wanted.size, 5);
});

Deno.test("[5.47, 5.80] Proxier keeps external listeners where nothing is local, with no endpoint for outsiders", async () => {
  const { engine, sync } = start();
  const given = { ...NODE_PORT, externalTrafficPolicy: "Local" } as const;
  await sync([state("default/web", { ...given, endpoints: [REMOTE] })]);
  assert.ok(engine.listening.includes("192.0.2.7:30080"));
  const { endpoints } = engine.forwarders[0]?.policy ?? {};
  assert.deepEqual(endpoints?.external, []);
  assert.equal(endpoints?.externalFromCluster.length, 1);
  await sync([state("default/web", { ...given, endpoints: [] })]);
  assert.deepEqual(engine.listening, []);
});

Deno.test("[6.5] Proxier follows the addresses of the node", async () => {
  const { engine, proxier, sync } = start();
  await sync([state("default/web", NODE_PORT)]);
  engine.events.length = 0;
  const clusterSources = ["127.0.0.0/8", "192.0.2.8/32"];
  const moved = {
    nodePortIps: ["127.0.0.1", "192.0.2.8"],
    nodeIps: [],
    clusterSources,
  };
  proxier.setNode(moved);
  await sync([]);
  assert.deepEqual(engine.events, [
    "close 192.0.2.7:30080",
    "open 192.0.2.8:30080",
  ]);
  assert.deepEqual(engine.clusterSources, clusterSources);
  const updates = engine.forwarders[0]?.updates;
  proxier.setNode({ ...moved });
  assert.equal(engine.forwarders[0]?.updates, updates, "same addresses");
});

Deno.test("[6.16] Proxier retries the one address that a process has, and serves the others", async () => {
  const { engine, sync, failures } = start();
  engine.refused.set("192.0.2.7:30080", new Deno.errors.AddrInUse("in use"));
  assert.equal(await sync([state("default/web", NODE_PORT)]), "again");
  assert.deepEqual(engine.listening, ["10.96.0.10:80", "127.0.0.1:30080"]);
  assert.deepEqual(failures(), [
    "default/web 192.0.2.7: the address and port are in use by another process",
  ]);
  engine.refused.clear();
  assert.equal(await sync([]), "done");
  assert.equal(engine.listening.length, 3);
  assert.deepEqual(failures(), []);
});

Deno.test("[6.17, 12.19] Proxier has no listener left when the Service is gone", async () => {
  const { engine, steering, sync } = start();
  await sync([state("default/web", NODE_PORT)]);
  await sync([], ["default/web"]);
  assert.deepEqual(engine.listening, []);
  assert.equal(steering.wanted.size, 3, "connections may go on");
  engine.forwarders[0]?.drained.resolve();
  await new Promise((resolve) => setTimeout(resolve));
  await sync([]);
  assert.equal(steering.wanted.size, 0);
});

Deno.test("[6.19] Proxier serves TCP and UDP on one node port", async () => {
  const { engine, sync } = start();
  await sync([state("default/dns", {
    type: "NodePort",
    ports: [
      { name: "tcp", protocol: "TCP", port: 53, nodePort: 30_053 },
      { name: "udp", protocol: "UDP", port: 53, nodePort: 30_053 },
    ],
  })]);
  assert.ok(engine.open.has("192.0.2.7:30053"));
  assert.ok(engine.open.has("192.0.2.7:30053/UDP"));
});

Deno.test("Proxier opens a load-balancer IP anew where its source ranges change, and only there", async () => {
  const { engine, sync } = start();
  const given: ServiceOverrides = {
    type: "LoadBalancer",
    ingress: ["203.0.113.1"],
  };
  const ranges = (...loadBalancerSourceRanges: string[]) =>
    state("default/web", { ...given, loadBalancerSourceRanges });
  await sync([ranges("198.51.100.0/24")]);
  engine.events.length = 0;
  await sync([ranges("198.51.100.0/25")]);
  assert.deepEqual(engine.events, [
    "close 203.0.113.1:80",
    "open 203.0.113.1:80",
  ]);
  assert.deepEqual(engine.options.get("203.0.113.1:80")?.sourceRanges, [
    "198.51.100.0/25",
  ]);
});

const EXTERNAL = { externalIPs: ["198.51.100.1"] };
const OLD = state("default/old", {
  ...EXTERNAL,
  clusterIP: "10.96.0.1",
  created: "2025-01-01T00:00:00Z",
});
const YOUNG = state("default/young", {
  ...EXTERNAL,
  clusterIP: "10.96.0.2",
  created: "2026-01-01T00:00:00Z",
  endpoints: [REMOTE],
});
const CONFLICT = 'default/young 198.51.100.1: "default/old" has this address';

Deno.test("[6.26] Proxier gives an address to the older Service in any order, and tells the other once", async () => {
  for (const order of [[[OLD, YOUNG]], [[YOUNG], [OLD]], [[OLD], [YOUNG]]]) {
    await using log = await collectLog();
    const { engine, sync, failures } = start();
    for (const changed of order) assert.equal(await sync(changed), "done");
    await sync([]);
    await sync([YOUNG]);
    assert.deepEqual(engine.endpointsAt("198.51.100.1:80"), ["10.1.0.1:8080"]);
    assert.ok(engine.open.has("10.96.0.2:80"), "the rest of it is served");
    assert.deepEqual(failures(), [CONFLICT]);
    assert.equal(log.lines.length, 1);
    assert.match(log.lines[0] ?? "", /default\/young.*default\/old/s);
  }
});

Deno.test("[6.26] Proxier hands an address on at once when its Service gives it up", async () => {
  const gone = [
    [[], ["default/old"]],
    [[state("default/old", { clusterIP: "10.96.0.1" })], []],
  ] as const;
  for (const [changed, removed] of gone) {
    const { engine, steering, sync, failures } = start();
    await sync([YOUNG, OLD]);
    await sync(changed, removed);
    assert.deepEqual(engine.endpointsAt("198.51.100.1:80"), ["10.1.0.2:8080"]);
    assert.deepEqual(failures(), []);
    assert.ok(steering.open.has("198.51.100.1:80/TCP"));
  }
});

Deno.test("[6.26] an older Service keeps its address while it has no endpoint", async () => {
  const { engine, sync, failures } = start();
  const empty = state("default/old", {
    ...EXTERNAL,
    clusterIP: "10.96.0.1",
    created: "2025-01-01T00:00:00Z",
    endpoints: [],
  });
  await sync([YOUNG, empty]);
  assert.deepEqual(engine.listening, ["10.96.0.2:80"]);
  assert.deepEqual(failures(), [CONFLICT]);
});

Deno.test("Proxier asks steering once about an address that does not come here, until it is repaired", async () => {
  await using log = await collectLog();
  const { engine, steering, proxier, sync, failures } = start();
  steering.nowhere.add("198.51.100.1");
  assert.equal(await sync([OLD]), "done");
  assert.deepEqual(engine.listening, ["10.96.0.1:80"]);
  assert.deepEqual(failures(), [
    "default/old 198.51.100.1: the address is not local to this machine, and steering by route does not lead it here",
  ]);
  steering.nowhere.clear();
  await sync([YOUNG]);
  assert.ok(!engine.open.has("198.51.100.1:80"));
  await proxier.repair(signal);
  await sync([]);
  assert.ok(engine.open.has("198.51.100.1:80"));
  assert.deepEqual(failures(), [CONFLICT]);
  assert.equal(log.lines.length, 2);
});

Deno.test("[5.51, 5.52] an external address that is listened on counts as the node's own", async () => {
  const { engine, sync } = start();
  await sync([OLD]);
  assert.deepEqual(engine.clusterSources, [
    ...NODE.clusterSources,
    "198.51.100.1/32",
  ]);
  await sync([], ["default/old"]);
  assert.deepEqual(engine.clusterSources, NODE.clusterSources);
});

Deno.test("Proxier says each problem of a Service once, and each failure of steering", async () => {
  await using log = await collectLog();
  const { steering, proxier, sync } = start();
  const bad = (value: string) =>
    serviceState(
      service("default/bad", {
        ports: [{ name: "a" }, { name: "b", protocol: "SCTP", port: 132 }],
        metadata: { annotations: { "kube-portal.dev/balancer": value } },
      }),
      { slices: [], node: { name: "n1", zone: "" } },
    );
  await sync([bad("x")]);
  assert.equal(log.lines.length, 2);
  await sync([bad("x")]);
  assert.equal(log.lines.length, 2);
  await sync([bad("y")]);
  assert.equal(log.lines.length, 3);
  steering.failing.add("10.96.0.1");
  await sync([OLD]);
  await proxier.repair(signal);
  await proxier.repair(signal);
  assert.equal(log.lines.length, 4, log.lines.join("\n"));
});

Deno.test("Proxier does the work of what changed, whatever else there is", async () => {
  const { engine, steering, proxier, sync } = start();
  const many = Array.from(
    { length: 300 },
    (_, i) =>
      state(`default/s${i}`, { clusterIP: `10.97.${i >> 8}.${i & 255}` }),
  );
  await sync(many);
  steering.calls.length = 0;
  const updates = () =>
    engine.forwarders.reduce((sum, each) => sum + each.updates, 0);
  const before = updates();
  await sync([OLD]);
  assert.deepEqual(steering.calls.sort(), [
    "opened 10.96.0.1:80/TCP",
    "opened 198.51.100.1:80/TCP",
    "prepare 10.96.0.1:80/TCP",
    "prepare 198.51.100.1:80/TCP",
  ]);
  assert.equal(updates(), before);
  steering.calls.length = 0;
  await sync([
    state("default/s7", { clusterIP: "10.97.0.7", endpoints: [REMOTE] }),
  ]);
  assert.deepEqual(steering.calls, []);
  assert.equal(updates(), before + 1);
  await proxier.close(AbortSignal.abort());
});

Deno.test("Proxier makes a first pass even for nothing, so that leftovers go", async () => {
  const { steering, sync } = start();
  let passes = 0;
  const plain = steering.sync.bind(steering);
  steering.sync = (changes) => {
    passes++;
    return plain(changes);
  };
  await sync([]);
  await sync([]);
  assert.equal(passes, 1);
});

Deno.test("Proxier tells the engine which address clients use, where they are steered to another", async () => {
  const engine = new FakeEngine();
  const steering = Object.assign(new FakeSteering(), {
    bindAddress: () => ({ ip: "127.0.0.1", port: 34_567 }),
  });
  const proxier = new Proxier({ engine, steering });
  await proxier.sync({ changed: [state("default/web")], removed: [] }, signal);
  const { serviceAddress } = engine.options.get("127.0.0.1:34567") ?? {};
  assert.equal(serviceAddress?.ip, "10.96.0.10");
  assert.equal(serviceAddress?.port, 80);
});

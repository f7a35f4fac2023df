import assert from "node:assert/strict";
import type { NamespaceOpener } from "../../../proxy/engine/engine.ts";
import {
  type PortalOptions,
  PortalSteering,
} from "../../../proxy/rules/portal.ts";
import type { ServiceAddress } from "../../../proxy/steering.ts";
import { FakePortal } from "../../support/fake_portal.ts";
import { address, NOTHING } from "../../support/redirect_machine.ts";

const { signal } = new AbortController();
const PATH = "/run/netns/kube-portal";
const CIDR = "10.96.0.0/16";
const PROBED = "169.254.107.4/32";

const NAMESPACES: NamespaceOpener = {
  whyNot: () => undefined,
  openIn: (_path, open) => open(),
  writeIn: () => {},
};

function portalOn(
  machine: FakePortal,
  more: Partial<PortalOptions> = {},
): PortalSteering {
  return new PortalSteering({
    cidrs: [CIDR],
    clusterFacts: () => ({
      apiServers: new Set(),
      podCidrs: ["10.244.0.0/24"],
      endpoints: new Set(["203.0.113.9"]),
    }),
    runner: machine,
    os: "linux",
    namespaces: NAMESPACES,
    probe: () => Promise.resolve({ node: undefined, forwarded: undefined }),
    mustForward: true,
    ...more,
  });
}

const FAR: ServiceAddress = address("198.51.100.9", 80, { kind: "ExternalIP" });

Deno.test("portal leads the CIDR to a namespace, and binds Services there", async () => {
  const machine = new FakePortal();
  const steering = portalOn(machine);
  await steering.start(signal);
  assert.deepEqual([...machine.routed], [CIDR, PROBED]);
  assert.deepEqual([...machine.local], [CIDR, PROBED]);
  const before = machine.changes;
  const cluster = address("10.96.0.10");
  const prepared = await steering.prepare([cluster], signal);
  assert.deepEqual(prepared, { written: 0, failures: [] });
  assert.equal(machine.changes, before);
  const want = { ip: "10.96.0.10", port: 80, namespace: PATH };
  assert.deepEqual(steering.bindAddress(cluster), want);
});

Deno.test("portal binds on the node what the node has", async () => {
  const steering = portalOn(new FakePortal());
  await steering.start(signal);
  for (const kind of ["NodePort", "ExternalIP", "LoadBalancerIP"] as const) {
    const own = address("192.0.2.7", 30_080, { kind });
    assert.deepEqual(await steering.prepare([own], signal), {
      written: 0,
      failures: [],
    });
    assert.deepEqual(steering.bindAddress(own), {
      ip: "192.0.2.7",
      port: 30_080,
    });
  }
});

Deno.test("portal leads an external address in until it is released", async () => {
  const machine = new FakePortal();
  const steering = portalOn(machine);
  await steering.start(signal);
  assert.equal(steering.bindAddress(FAR), undefined);
  const other = { ...FAR, port: 443 };
  assert.equal((await steering.prepare([FAR, other], signal)).written, 1);
  assert.ok(machine.routed.has("198.51.100.9/32"));
  assert.equal(steering.bindAddress(FAR)?.namespace, PATH);
  await steering.sync({ ...NOTHING, released: [FAR] }, signal);
  assert.ok(machine.local.has("198.51.100.9/32"));
  const last = await steering.sync({ ...NOTHING, released: [other] }, signal);
  assert.equal(last.written, 1);
  assert.deepEqual([...machine.routed], [CIDR, PROBED]);
  assert.deepEqual([...machine.local], [CIDR, PROBED]);
});

Deno.test("portal adopts what an earlier run left, and sweeps the rest with its first pass", async () => {
  const machine = new FakePortal();
  const first = portalOn(machine);
  await first.start(signal);
  await first.prepare([FAR], signal);
  const before = machine.changes;
  const next = portalOn(machine);
  await next.start(signal);
  assert.equal(machine.changes, before);
  assert.ok(machine.routed.has("198.51.100.9/32"));
  assert.equal((await next.sync(NOTHING, signal)).written, 1);
  assert.deepEqual([...machine.routed], [CIDR, PROBED]);
});

Deno.test("portal has its listeners opened again where the namespace had to be made anew", async () => {
  const machine = new FakePortal();
  const steering = portalOn(machine);
  await steering.start(signal);
  await steering.sync(NOTHING, signal);
  assert.equal((await steering.repair(signal)).isMoved, false);
  machine.namespaces.clear();
  machine.local.clear();
  const repaired = await steering.repair(signal);
  assert.equal(repaired.isMoved, true);
  assert.ok(repaired.written > 0);
  assert.deepEqual([...machine.local], [CIDR, PROBED]);
});

Deno.test("portal refuses what would cut the node off, and goes on with the others", async () => {
  for (const cidr of ["192.0.2.0/24", "10.0.0.0/8", "203.0.113.0/24"]) {
    const machine = new FakePortal();
    await assert.rejects(
      portalOn(machine, { cidrs: [cidr] }).start(signal),
      /^SteeringError: Cannot steer by portal: .* must not be led away: /,
    );
    assert.equal(machine.changes, 0);
  }
  const steering = portalOn(new FakePortal());
  await steering.start(signal);
  const endpoint = address("203.0.113.9", 80, { kind: "ExternalIP" });
  const { failures } = await steering.prepare([endpoint, FAR], signal);
  assert.deepEqual(failures.map((each) => each.address), [endpoint]);
  assert.match(failures[0]?.error.message ?? "", /it is the endpoint address/);
  assert.equal(steering.bindAddress(endpoint), undefined);
});

Deno.test("portal takes back what it made where the probe does not answer", async () => {
  const forwarded = () =>
    Promise.resolve({ node: undefined, forwarded: "nothing is forwarded" });
  const machine = new FakePortal();
  await assert.rejects(
    portalOn(machine, { probe: forwarded }).start(signal),
    /Cannot steer by portal: nothing is forwarded/,
  );
  assert.equal(machine.hasPair, false);
  assert.deepEqual([...machine.namespaces, ...machine.routed], []);
  await portalOn(machine, { probe: forwarded, mustForward: false })
    .start(signal);
  assert.equal(machine.hasPair, true);
});

Deno.test("portal says in one sentence what it is missing", async () => {
  const unprivileged = new FakePortal();
  unprivileged.privileged = false;
  const noFfi = { ...NAMESPACES, whyNot: () => "it needs --allow-ffi" };
  const table: readonly [PortalSteering, RegExp][] = [
    [portalOn(unprivileged), /needs CAP_NET_ADMIN and CAP_SYS_ADMIN/],
    [portalOn(new FakePortal(), { namespaces: noFfi }), /needs --allow-ffi/],
    [portalOn(new FakePortal(), { os: "darwin" }), /this is darwin/],
    [portalOn(new FakePortal(), { cidrs: ["10.96"] }), /"10.96" is not a CIDR/],
  ];
  for (const [steering, want] of table) {
    await assert.rejects(steering.start(signal), want);
  }
});

Deno.test("portal cleans up twice", async () => {
  const machine = new FakePortal();
  await portalOn(machine).start(signal);
  for (let i = 0; i < 2; i++) {
    await portalOn(machine).cleanup(signal);
    assert.equal(machine.hasPair, false);
    assert.deepEqual([...machine.namespaces, ...machine.routed], []);
  }
});

import assert from "node:assert/strict";
import fc from "fast-check";
import type { ClusterFacts } from "../../../proxy/rules/route_refusal.ts";
import { RouteSteering } from "../../../proxy/rules/route.ts";
import type {
  ListenerChanges,
  ServiceAddress,
} from "../../../proxy/steering.ts";
import { FakeIp, programMissing } from "../../support/fake_ip.ts";

const V4 = "10.96.0.0/16";
const V6 = "fd00:96::/112";
const { signal } = new AbortController();

function routeSteering(
  runner: FakeIp,
  cidrs: readonly string[],
  facts: Partial<ClusterFacts> = {},
): RouteSteering {
  const none = { apiServers: new Set<string>(), endpoints: new Set<string>() };
  const clusterFacts = () => ({ podCidrs: [], ...none, ...facts });
  return new RouteSteering({ cidrs, runner, clusterFacts, os: "linux" });
}

function address(
  ip: string,
  port = 80,
  kind: ServiceAddress["kind"] = "ClusterIP",
): ServiceAddress {
  return { kind, ip, port, protocol: "TCP", name: "default/web:http" };
}

function released(...ips: readonly string[]): ListenerChanges {
  return { opened: [], closed: [], released: ips.map((ip) => address(ip)) };
}

Deno.test("route adds one marked local route for each Service CIDR", async () => {
  const ip = new FakeIp().addNode("192.0.2.7", "192.0.2.1");
  await routeSteering(ip, ["10.96.3.4/016", V6]).start(signal);
  assert.deepEqual(ip.written, [
    `route add local ${V4} dev lo proto 107`,
    `route add local ${V6} dev lo proto 107`,
  ]);
});

Deno.test("route adopts what an earlier run left and writes nothing", async () => {
  const ip = new FakeIp();
  const first = routeSteering(ip, [V4, V6]);
  await first.start(signal);
  await first.prepare([address("fd00:96::a")], signal);
  ip.commands.length = 0;
  const second = routeSteering(ip, [V4, V6]);
  await second.start(signal);
  const addresses = [address("10.96.0.10"), address("fd00:96::a")];
  const prepared = await second.prepare(addresses, signal);
  assert.deepEqual(prepared, { written: 0, failures: [] });
  assert.deepEqual(ip.written, []);
});

Deno.test("route runs no program in a pass that changes nothing", async () => {
  const ip = new FakeIp();
  const steering = routeSteering(ip, [V4, V6]);
  await steering.start(signal);
  const addresses = [address("10.96.0.10"), address("fd00:96::a")];
  await steering.prepare(addresses, signal);
  ip.commands.length = 0;
  await steering.prepare(addresses, signal);
  await steering.sync(released(), signal);
  assert.deepEqual(ip.commands, []);
});

Deno.test("route gives each IPv6 Service address to lo, and takes it back", async () => {
  const ip = new FakeIp();
  const steering = routeSteering(ip, [V4, V6]);
  await steering.start(signal);
  ip.commands.length = 0;
  await steering.prepare(
    [address("fd00:96::a"), address("fd00:96::a", 443), address("fd00:96::b")],
    signal,
  );
  assert.deepEqual(ip.written, [
    "addr add fd00:96::a/128 dev lo metric 10701 nodad preferred_lft 0",
    "addr add fd00:96::b/128 dev lo metric 10701 nodad preferred_lft 0",
  ]);
  assert.ok(steering.isOurs("fd00:96::a"));
  ip.commands.length = 0;
  await steering.sync(released("fd00:96::a"), signal);
  assert.deepEqual(ip.written, [], "another port of it is still wanted");
  const last = address("fd00:96::a", 443);
  const changes = { opened: [], closed: [], released: [last] };
  const synced = await steering.sync(changes, signal);
  assert.deepEqual(synced, { written: 1, failures: [] });
  assert.ok(!steering.isOurs("fd00:96::a"));
  assert.deepEqual(ip.written, [
    "addr del fd00:96::a/128 dev lo metric 10701",
  ]);
});

Deno.test("route keeps an address until it is released", async () => {
  const ip = new FakeIp();
  const steering = routeSteering(ip, []);
  await steering.start(signal);
  await steering.prepare([address("10.96.0.10")], signal);
  ip.commands.length = 0;
  const closed = [address("10.96.0.10")];
  await steering.sync({ opened: [], closed, released: [] }, signal);
  assert.deepEqual(ip.written, []);
  await steering.sync(released("10.96.0.10"), signal);
  assert.deepEqual(ip.written, [
    "route del local 10.96.0.10/32 dev lo proto 107",
  ]);
});

Deno.test("route adds one route for each address where the CIDR is unknown", async () => {
  const ip = new FakeIp().addNode("192.0.2.7", "192.0.2.1");
  const steering = routeSteering(ip, []);
  await steering.start(signal);
  await steering.prepare([
    address("10.96.0.10"),
    address("10.96.0.10", 443),
    address("10.96.0.11"),
    address("fd00:96::a"),
    address("127.96.0.1"),
    address("192.0.2.7"),
  ], signal);
  assert.deepEqual(ip.written, [
    "route add local 10.96.0.10/32 dev lo proto 107",
    "route add local 10.96.0.11/32 dev lo proto 107",
    "addr add fd00:96::a/128 dev lo metric 10701 nodad preferred_lft 0",
  ]);
});

Deno.test("route serves an address outside of the known CIDRs by a route of its own", async () => {
  const ip = new FakeIp();
  const steering = routeSteering(ip, [V4]);
  await steering.start(signal);
  ip.commands.length = 0;
  await steering.prepare([address("10.96.0.10"), address("10.97.0.1")], signal);
  assert.deepEqual(ip.written, [
    "route add local 10.97.0.1/32 dev lo proto 107",
  ]);
});

Deno.test("route needs nothing for a CIDR that is local already", async () => {
  const ip = new FakeIp();
  ip.privileged = false;
  ip.routes.push({ type: "2", dst: V4, dev: "lo", protocol: "3" });
  const steering = routeSteering(ip, ["127.96.0.0/16", V4]);
  await steering.start(signal);
  await steering.prepare([address("127.96.0.1"), address("10.96.0.1")], signal);
  assert.deepEqual(ip.written, []);
  await steering.cleanup(signal);
  assert.deepEqual(ip.written, []);
});

Deno.test("route removes what an earlier run with other CIDRs left, with its first pass", async () => {
  const ip = new FakeIp();
  await routeSteering(ip, ["10.0.0.0/16"]).start(signal);
  const steering = routeSteering(ip, [V4]);
  await steering.start(signal);
  await steering.prepare([address("10.96.0.10")], signal);
  ip.commands.length = 0;
  await steering.sync(released(), signal);
  assert.deepEqual(ip.written, [
    "route del local 10.0.0.0/16 dev lo proto 107",
  ]);
});

Deno.test("route puts back what somebody removed", async () => {
  const ip = new FakeIp();
  const steering = routeSteering(ip, [V4, V6]);
  await steering.start(signal);
  await steering.prepare([address("fd00:96::a")], signal);
  ip.routes.length = 0;
  ip.addresses.length = 0;
  assert.deepEqual(await steering.repair(signal), { written: 3, failures: [] });
  assert.deepEqual(await steering.repair(signal), { written: 0, failures: [] });
});

Deno.test("route cleans up twice and touches nothing that is not its own", async () => {
  const ip = new FakeIp().addNode("192.0.2.7", "192.0.2.1");
  ip.routes.push({ type: "2", dst: "10.1.0.0/16", dev: "lo", protocol: "3" });
  ip.addresses.push({ dev: "lo", local: "fd00:1::1", prefixlen: 128 });
  const before = structuredClone([ip.routes, ip.addresses]);
  const steering = routeSteering(ip, [V4, V6]);
  await steering.start(signal);
  await steering.prepare([address("fd00:96::a"), address("10.97.0.1")], signal);
  assert.notDeepEqual([ip.routes, ip.addresses], before);
  await steering.cleanup(signal);
  assert.deepEqual([ip.routes, ip.addresses], before);
  await steering.cleanup(signal);
  assert.deepEqual([ip.routes, ip.addresses], before);
});

Deno.test("route leaves an address alone that somebody else took in the meantime", async () => {
  const ip = new FakeIp();
  const steering = routeSteering(ip, []);
  await steering.start(signal);
  await steering.prepare([address("fd00:96::a")], signal);
  const foreign = { dev: "lo", local: "fd00:96::a", prefixlen: 128 };
  ip.addresses.splice(-1, 1, foreign);
  await steering.sync(released("fd00:96::a"), signal);
  assert.deepEqual(ip.addresses.at(-1), foreign);
});

Deno.test("route refuses a CIDR that would cut the node off, and changes nothing", async () => {
  const table: readonly [string, Partial<ClusterFacts>, string][] = [
    ["192.0.2.0/29", {}, "it contains the node's own address 192.0.2.7"],
    ["192.0.2.0/30", {}, "it contains the gateway 192.0.2.1"],
    [
      V4,
      { apiServers: new Set(["10.96.0.1"]) },
      "it contains the API server's address 10.96.0.1",
    ],
    [
      V4,
      { endpoints: new Set(["10.244.0.1", "10.96.9.9"]) },
      "it contains the endpoint address 10.96.9.9",
    ],
    [V4, { podCidrs: ["10.0.0.0/8"] }, "it overlaps the pod CIDR 10.0.0.0/8"],
    [
      V6,
      { podCidrs: ["fd00:96::f0/124"] },
      "overlaps the pod CIDR fd00:96::f0",
    ],
  ];
  for (const [cidr, facts, why] of table) {
    const ip = new FakeIp().addNode("192.0.2.7", "192.0.2.1");
    const steering = routeSteering(ip, ["10.50.0.0/16", cidr], facts);
    await assert.rejects(steering.start(signal), (error: Error) => {
      assert.equal(error.name, "SteeringError");
      assert.ok(error.message.includes(why), error.message);
      assert.ok(!error.message.includes("\n"));
      return true;
    });
    assert.deepEqual(ip.written, []);
  }
});

Deno.test("route refuses one address without stopping the others", async () => {
  const ip = new FakeIp();
  const steering = routeSteering(ip, [], { endpoints: new Set(["10.96.0.9"]) });
  await steering.start(signal);
  const addresses = [address("10.96.0.9"), address("10.96.0.10")];
  for (let pass = 0; pass < 2; pass++) {
    const { failures } = await steering.prepare(addresses, signal);
    assert.deepEqual(
      failures.map((each) => [each.address, each.error.message]),
      [
        [
          addresses[0],
          "Cannot steer by route: 10.96.0.9/32 must not become local: it is the endpoint address",
        ],
      ],
    );
  }
  assert.deepEqual(ip.written, [
    "route add local 10.96.0.10/32 dev lo proto 107",
  ]);
});

Deno.test("route goes on with IPv4 where the node has no IPv6", async () => {
  const ip = new FakeIp();
  ip.ipv6 = false;
  const steering = routeSteering(ip, [V4, V6]);
  await steering.start(signal);
  const { failures } = await steering.prepare(
    [address("10.96.0.10"), address("fd00:96::a")],
    signal,
  );
  assert.deepEqual(failures.map((each) => each.address.ip), ["fd00:96::a"]);
  ip.ipv6 = true;
  assert.deepEqual(await steering.repair(signal), { written: 2, failures: [] });
});

Deno.test("route says in one sentence what it is missing", async () => {
  const unprivileged = new FakeIp();
  unprivileged.privileged = false;
  const missing = new FakeIp();
  missing.broken = programMissing("ip");
  const table: readonly [FakeIp, string[], string][] = [
    [
      unprivileged,
      [V4],
      "Cannot add the local route 10.96.0.0/16: needs CAP_NET_ADMIN (run as root)",
    ],
    [
      unprivileged,
      [],
      "Cannot steer by route: needs CAP_NET_ADMIN (run as root)",
    ],
    [
      missing,
      [V4],
      'Cannot steer by route: Cannot run "ip": no such program on the PATH',
    ],
    [
      new FakeIp(),
      ["10.96.0.0/33"],
      'Cannot steer by route: "10.96.0.0/33" is not a CIDR',
    ],
  ];
  for (const [ip, cidrs, message] of table) {
    await assert.rejects(routeSteering(ip, cidrs).start(signal), {
      name: "SteeringError",
      message,
    });
    assert.deepEqual(ip.routes, new FakeIp().routes);
  }
});

Deno.test("route tells each address when ip has gone, and recovers", async () => {
  const ip = new FakeIp();
  const steering = routeSteering(ip, [V4]);
  await steering.start(signal);
  ip.broken = programMissing("ip");
  const wanted = [address("10.96.0.10"), address("10.97.0.1")];
  const { failures } = await steering.prepare(wanted, signal);
  assert.deepEqual(failures.map((each) => each.address.ip), ["10.97.0.1"]);
  assert.equal((await steering.repair(signal)).failures.length, 1);
  ip.broken = undefined;
  assert.deepEqual(await steering.repair(signal), { written: 1, failures: [] });
});

Deno.test("route cleans up without a privilege where there is nothing of its own", async () => {
  const unprivileged = new FakeIp();
  unprivileged.privileged = false;
  await routeSteering(unprivileged, []).cleanup(signal);
  const missing = new FakeIp();
  missing.broken = programMissing("ip");
  await routeSteering(missing, []).cleanup(signal);
});

Deno.test("route says what it could not remove", async () => {
  const ip = new FakeIp();
  const steering = routeSteering(ip, [V4]);
  await steering.start(signal);
  ip.privileged = false;
  await assert.rejects(steering.cleanup(signal), {
    name: "SteeringError",
    message:
      "Cannot remove the local route 10.96.0.0/16: needs CAP_NET_ADMIN (run as root)",
  });
});

Deno.test("route rejects with the reason of its signal", async () => {
  const reason = new Error("enough");
  const aborted = AbortSignal.abort(reason);
  const steering = routeSteering(new FakeIp(), [V4]);
  await assert.rejects(steering.start(aborted), reason);
  await assert.rejects(steering.cleanup(aborted), reason);
});

Deno.test("route binds the Service address itself and has no other", () => {
  const steering = routeSteering(new FakeIp(), [V4]);
  assert.deepEqual(steering.bindAddress(address("10.96.0.10", 443)), {
    ip: "10.96.0.10",
    port: 443,
  });
  assert.equal(steering.fallbackAddress(), undefined);
});

Deno.test("[3.41] route makes no address local but cluster IPs", async () => {
  const ip = new FakeIp().addNode("192.0.2.7", "192.0.2.1");
  ip.routes.push({ type: "2", dst: "203.0.113.9", dev: "lo", protocol: "3" });
  const steering = routeSteering(ip, [V4]);
  await steering.start(signal);
  ip.commands.length = 0;
  const table: readonly [string, ServiceAddress["kind"], boolean][] = [
    ["192.0.2.7", "NodePort", true],
    ["fd00:2::7", "NodePort", true],
    ["192.0.2.7", "ExternalIP", true],
    ["203.0.113.9", "LoadBalancerIP", true],
    ["10.96.7.7", "ExternalIP", true],
    ["198.51.100.1", "ExternalIP", false],
    ["2001:db8::1", "LoadBalancerIP", false],
  ];
  for (const [text, kind, isServed] of table) {
    const given = address(text, 80, kind);
    const prepared = await steering.prepare([given], signal);
    assert.deepEqual(prepared, { written: 0, failures: [] });
    const want = isServed ? { ip: text, port: 80 } : undefined;
    assert.deepEqual(steering.bindAddress(given), want, `${kind} ${text}`);
  }
  assert.deepEqual(ip.written, []);
});

Deno.test("route sees at repair that an external address became local", async () => {
  const ip = new FakeIp().addNode("192.0.2.7", "192.0.2.1");
  const steering = routeSteering(ip, [V4]);
  await steering.start(signal);
  const external = address("198.51.100.1", 80, "ExternalIP");
  await steering.prepare([external], signal);
  assert.equal(steering.bindAddress(external), undefined);
  ip.addresses.push({ dev: "lo", local: "198.51.100.1", prefixlen: 32 });
  await steering.repair(signal);
  assert.ok(steering.bindAddress(external));
});

Deno.test("route tells only the failures of what it was asked for, and all at repair", async () => {
  const ip = new FakeIp();
  const taken = new Set(["10.96.0.8", "10.96.0.9"]);
  const steering = routeSteering(ip, [], { endpoints: taken });
  await steering.start(signal);
  const failing = async (given: string[]) => {
    const added = given.map((each) => address(each));
    const { failures } = await steering.prepare(added, signal);
    return failures.map((each) => each.address.ip);
  };
  assert.deepEqual(await failing(["10.96.0.8", "10.96.0.1"]), ["10.96.0.8"]);
  assert.deepEqual(await failing(["10.96.0.9"]), ["10.96.0.9"]);
  assert.deepEqual(await failing(["10.96.0.2"]), []);
  assert.equal((await steering.repair(signal)).failures.length, 2);
  await steering.sync(released("10.96.0.8"), signal);
  taken.clear();
  assert.deepEqual(await steering.repair(signal), { written: 1, failures: [] });
});

Deno.test("route works on Linux only", async () => {
  const runner = new FakeIp();
  const steering = new RouteSteering({
    cidrs: [V4],
    runner,
    clusterFacts: () => ({
      apiServers: new Set(),
      podCidrs: [],
      endpoints: new Set(),
    }),
    os: "darwin",
  });
  await assert.rejects(steering.start(signal), {
    message:
      "Cannot steer by route: AnyIP routes need Linux, and this is darwin",
  });
  assert.deepEqual(runner.commands, []);
});

Deno.test("route says that it needs iproute2 where ip prints something else", async () => {
  const steering = new RouteSteering({
    cidrs: [V4],
    runner: { run: () => Promise.resolve("1: lo: <LOOPBACK,UP>") },
    clusterFacts: () => ({
      apiServers: new Set(),
      podCidrs: [],
      endpoints: new Set(),
    }),
    os: "linux",
  });
  await assert.rejects(steering.start(signal), {
    name: "SteeringError",
    message:
      'Cannot read the routes: "ip" does not print JSON, iproute2 is needed',
  });
});

Deno.test("route ends with exactly what the last pass wants, whatever came before", async () => {
  const ips = [
    "10.96.0.1",
    "10.96.0.2",
    "10.97.0.1",
    "fd00:96::1",
    "fd00:97::1",
  ];
  const passes = fc.array(
    fc.record({
      wanted: fc.subarray(ips),
      lose: fc.constantFrom("nothing", "routes", "addresses", "restart"),
    }),
    { minLength: 1, maxLength: 6 },
  );
  const property = fc.asyncProperty(passes, async (sequence) => {
    const ip = new FakeIp();
    const untouched = structuredClone([ip.routes, ip.addresses]);
    let steering = routeSteering(ip, [V4, V6]);
    await steering.start(signal);
    let held: readonly string[] = [];
    for (const { wanted, lose } of sequence) {
      if (lose === "routes") ip.routes.splice(3);
      if (lose === "addresses") ip.addresses.splice(2);
      if (lose === "restart") {
        steering = routeSteering(ip, [V4, V6]);
        await steering.start(signal);
        held = [];
      } else if (lose !== "nothing") await steering.repair(signal);
      const added = wanted.filter((each) => !held.includes(each));
      const gone = held.filter((each) => !wanted.includes(each));
      await steering.prepare(added.map((each) => address(each)), signal);
      await steering.sync(released(...gone), signal);
      held = wanted;
      // The rest is put back once in a sync period.
      await steering.repair(signal);
      const routes = ip.routes.slice(3).map((route) => route.dst).sort();
      const own = wanted.filter((each) => each === "10.97.0.1");
      assert.deepEqual(routes, [V4, V6, ...own].sort());
      const addresses = ip.addresses.slice(2).map((each) => each.local).sort();
      assert.deepEqual(addresses, wanted.filter((each) => each.includes(":")));
    }
    await steering.cleanup(signal);
    assert.deepEqual([ip.routes, ip.addresses], untouched);
  });
  await fc.assert(property);
});

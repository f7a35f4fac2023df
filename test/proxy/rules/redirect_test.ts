import assert from "node:assert/strict";
import fc from "fast-check";
import { addressKey } from "../../../proxy/listen_addresses.ts";
import type { PortRange } from "../../../proxy/rules/proxy_ports.ts";
import { RedirectSteering } from "../../../proxy/rules/redirect.ts";
import { REDIRECT_TARGETS } from "../../../proxy/rules/redirection.ts";
import type {
  ListenerChanges,
  ServiceAddress,
} from "../../../proxy/steering.ts";
import { FakeIp } from "../../support/fake_ip.ts";
import { FakeIptables } from "../../support/fake_iptables.ts";
import { type Packet, tracePacket } from "../../support/packet_tracer.ts";

const { signal } = new AbortController();
const NOTHING: ListenerChanges = { opened: [], closed: [], released: [] };

class Machine {
  readonly ip = new FakeIp().addNode("192.0.2.7", "192.0.2.1");
  readonly iptables = new FakeIptables(this.ip);

  steering(
    more: { ports?: PortRange; sharedTcpPort?: number } = {},
  ): RedirectSteering {
    return new RedirectSteering({
      runner: this.iptables,
      os: "linux",
      ...more,
    });
  }

  async started(more?: Parameters<Machine["steering"]>[0]) {
    const steering = this.steering(more);
    await steering.start(signal);
    return steering;
  }

  trace(packet: Partial<Packet> & { to: string }): string {
    const isV6 = packet.to.includes(":");
    const program = isV6 ? "ip6tables-nft" : "iptables-nft";
    const machine = {
      addresses: [
        ...this.ip.addresses.map(({ local }) => local),
        ...this.ip.routes.filter(({ type }) => type === "2")
          .map(({ dst }) => dst),
      ],
      primary: isV6 ? "fd00:2::7" : "192.0.2.7",
    };
    const rest = { from: "pod", port: 80, protocol: "TCP" } as const;
    return tracePacket(
      { ...rest, ...packet },
      this.iptables.ruleset(program),
      machine,
    );
  }

  /** Everything that is ours, or was changed. */
  get state() {
    const saved = ["iptables-nft", "ip6tables-nft", "iptables-legacy"].map(
      (name) => this.iptables.save(name).split("\n").sort(),
    );
    return structuredClone([saved, this.ip.routes, this.ip.addresses]);
  }
}

function address(
  ip: string,
  port = 80,
  more: Partial<ServiceAddress> = {},
): ServiceAddress {
  return {
    kind: "ClusterIP",
    ip,
    port,
    protocol: "TCP",
    name: "default/web:http",
    ...more,
  };
}

/** A pass in which every listener can be opened. */
async function serve(
  steering: RedirectSteering,
  addresses: readonly ServiceAddress[],
) {
  await steering.prepare(addresses);
  const opened = addresses.flatMap((address) => {
    const listen = steering.bindAddress(address);
    return listen === undefined ? [] : [{ address, listen }];
  });
  const result = await steering.sync({ ...NOTHING, opened }, signal);
  return { opened, result };
}

const WEB = [
  address("10.96.0.10"),
  address("fd00:96::a"),
  address("10.96.0.10", 53, { protocol: "UDP" }),
  address("192.0.2.7", 30_080, { kind: "NodePort" }),
  address("198.51.100.9", 80, { kind: "ExternalIP" }),
];

Deno.test("redirect leads clients from everywhere to the listener, and nobody to its port", async () => {
  const machine = new Machine();
  const steering = await machine.started();
  const { opened, result } = await serve(steering, WEB);
  assert.deepEqual(result.failures, []);
  assert.equal(opened.length, WEB.length);
  for (const { address: { ip, port, protocol }, listen } of opened) {
    const isV6 = ip.includes(":");
    assert.equal(listen.ip, REDIRECT_TARGETS[isV6 ? "IPv6" : "IPv4"]);
    const target = isV6 ? `[${listen.ip}]` : listen.ip;
    for (const from of ["pod", "node", "outside"] as const) {
      const packet = { from, to: ip, port, protocol };
      assert.equal(machine.trace(packet), `local ${target}:${listen.port}`);
    }
    const direct = { to: listen.ip, port: listen.port, protocol };
    assert.equal(machine.trace({ ...direct, from: "outside" }), "dropped");
    assert.equal(machine.trace({ ...direct, from: "pod" }), "dropped");
  }
  const others = { to: "10.96.0.10", port: 81 };
  assert.equal(machine.trace(others), "routed 10.96.0.10:81");
  assert.equal(
    machine.trace({ to: "192.0.2.7", port: 22 }),
    "local 192.0.2.7:22",
  );
});

Deno.test("redirect gives each address a port of its own, in the range", async () => {
  const machine = new Machine();
  const steering = await machine.started({ ports: { first: 100, last: 120 } });
  const { opened } = await serve(steering, WEB);
  const ports = opened.filter(({ address }) => address.protocol === "TCP")
    .map(({ listen }) => listen.port);
  assert.deepEqual(ports, [100, 101, 102, 103]);
});

Deno.test("redirect leads an address without a listener to where nobody listens", async () => {
  const machine = new Machine();
  const steering = await machine.started({ ports: { first: 100, last: 102 } });
  const [a, b, c] = ["10.96.0.1", "10.96.0.2", "10.96.0.3"].map((ip) =>
    address(ip)
  );
  assert.ok(a && b && c);
  const { opened } = await serve(steering, [a]);
  await steering.prepare([b, c]);
  await steering.sync(NOTHING, signal);
  assert.equal(opened[0]?.listen.port, 100);
  assert.equal(machine.trace({ to: b.ip }), "local 169.254.107.1:101");
  // The range is full: it shares the last port, on which nobody ever listens.
  assert.equal(steering.bindAddress(c), undefined);
  assert.equal(machine.trace({ to: c.ip }), "local 169.254.107.1:102");

  const before = machine.iptables.transactions.length;
  await steering.sync({ ...NOTHING, closed: [a] }, signal);
  assert.equal(machine.trace({ to: a.ip }), "local 169.254.107.1:100");
  assert.equal(machine.iptables.transactions.length, before);

  await steering.sync({ ...NOTHING, released: [b] }, signal);
  assert.equal(machine.trace({ to: b.ip }), "routed 10.96.0.2:80");
  assert.deepEqual(steering.bindAddress(c), {
    ip: "169.254.107.1",
    port: 101,
  });
});

Deno.test("redirect takes one port for all TCP addresses, where the engine can tell them apart", async () => {
  const machine = new Machine();
  const steering = await machine.started({ sharedTcpPort: 19_999 });
  const { opened } = await serve(steering, WEB);
  const ports = opened.map(({ listen }) => listen.port);
  assert.deepEqual(ports, [19_999, 19_999, 20_000, 19_999, 19_999]);
  const closed = WEB.slice(0, 1);
  await steering.sync({ ...NOTHING, closed }, signal);
  assert.equal(
    machine.trace({ to: "10.96.0.10" }),
    "local 169.254.107.1:29999",
  );
  assert.equal(
    machine.trace({ to: "198.51.100.9" }),
    "local 169.254.107.1:19999",
  );
});

Deno.test("redirect writes one change among 1,000 Services as one change", async () => {
  const machine = new Machine();
  const steering = await machine.started();
  const all = Array.from(
    { length: 1_000 },
    (_, n) =>
      address(`10.96.${n >> 8}.${n & 255}`, 80, { name: `default/s${n}:http` }),
  );
  const { result } = await serve(steering, all);
  // 5 chains, 8 rules around them.
  assert.equal(result.written, 1_000 + 5 + 8);
  const { transactions } = machine.iptables;
  const probes = transactions.length - 1;
  const [gone] = all;
  assert.ok(gone !== undefined);
  await serve(steering, [address("10.97.0.1", 443)]);
  const last = await steering.sync({ ...NOTHING, released: [gone] }, signal);
  assert.equal(last.written, 1);
  assert.deepEqual(transactions.slice(probes + 1), [
    `*nat
-A KUBE-PORTALS-CONTAINER -d 10.97.0.1/32 -p tcp -m comment --comment default/web:http -m tcp --dport 443 -j DNAT --to-destination 169.254.107.1:21000
COMMIT
`,
    `*nat
-D KUBE-PORTALS-CONTAINER -d 10.96.0.0/32 -p tcp -m comment --comment default/s0:http -m tcp --dport 80 -j DNAT --to-destination 169.254.107.1:20000
COMMIT
`,
  ]);
});

Deno.test("redirect runs no program in a pass that changes nothing", async () => {
  const machine = new Machine();
  const steering = await machine.started();
  await serve(steering, WEB);
  const { commands } = machine.iptables;
  const before = commands.length + machine.ip.commands.length;
  const closed = WEB.slice(0, 2);
  await steering.sync({ ...NOTHING, closed }, signal);
  await serve(steering, closed);
  assert.equal(commands.length + machine.ip.commands.length, before);
});

Deno.test("redirect adopts what an earlier run left: the same ports, nothing written", async () => {
  const machine = new Machine();
  const first = await serve(await machine.started(), WEB);
  const installed = machine.state;
  const steering = await machine.started();
  assert.deepEqual(machine.state, installed);
  // In another order, so that ports would be others.
  const second = await serve(steering, [...WEB].reverse());
  assert.equal(second.result.written, 0);
  assert.deepEqual(second.opened.reverse(), first.opened);
  assert.deepEqual(machine.state, installed);
});

Deno.test("redirect removes with the first pass what nobody wants any more", async () => {
  const machine = new Machine();
  await serve(await machine.started(), WEB);
  const steering = await machine.started();
  const { result } = await serve(steering, WEB.slice(0, 1));
  assert.equal(result.written, WEB.length - 1);
  assert.equal(
    machine.trace({ to: "10.96.0.10" }),
    "local 169.254.107.1:20000",
  );
  assert.equal(machine.trace({ to: "198.51.100.9" }), "routed 198.51.100.9:80");
});

Deno.test("redirect takes another port where somebody holds the one it had", async () => {
  const steering = await new Machine().started();
  const [web] = WEB;
  assert.ok(web !== undefined);
  await steering.prepare([web]);
  const before = steering.bindAddress(web);
  const inUse = new Deno.errors.AddrInUse("in use");
  const instead = steering.fallbackAddress(web, inUse);
  assert.notDeepEqual(instead, before);
  assert.deepEqual(steering.bindAddress(web), instead);
  const denied = new Deno.errors.PermissionDenied("no");
  assert.equal(steering.fallbackAddress(web, denied), undefined);
});

Deno.test("redirect puts the address of its ports back when a bind finds it gone", async () => {
  const machine = new Machine();
  const steering = await machine.started();
  await serve(steering, WEB);
  machine.ip.routes.splice(
    machine.ip.routes.findIndex(({ dst }) => dst === "169.254.107.1"),
    1,
  );
  const [web] = WEB;
  assert.ok(web !== undefined);
  const gone = new Deno.errors.AddrNotAvailable("gone");
  assert.equal(steering.fallbackAddress(web, gone), undefined);
  await steering.sync(NOTHING, signal);
  assert.ok(machine.ip.routes.some(({ dst }) => dst === "169.254.107.1"));
});

Deno.test("redirect cannot start without privilege, Linux or programs, and changes nothing", async () => {
  const table: readonly [string, RegExp, (machine: Machine) => void][] = [
    ["linux", /needs CAP_NET_ADMIN \(run as root\)$/, (machine) => {
      machine.iptables.privileged = false;
    }],
    ["linux", /no such program on the PATH$/, (machine) => {
      machine.iptables.missing = /./;
    }],
    ["linux", /another program holds the lock of the rules/, (machine) => {
      machine.iptables.locked = true;
    }],
    ["linux", /line \d+ failed$/, (machine) => {
      machine.iptables.refused = /./;
    }],
    ["darwin", /rules need Linux, and this is darwin$/, () => {}],
  ];
  for (const [os, message, prepare] of table) {
    const machine = new Machine();
    prepare(machine);
    const before = machine.state;
    const { iptables: runner } = machine;
    await assert.rejects(new RedirectSteering({ runner, os }).start(signal), {
      name: "SteeringError",
      message: new RegExp(`^Cannot steer by redirect: .*${message.source}`),
    });
    assert.deepEqual(machine.state[1], before[1]);
    assert.doesNotMatch(JSON.stringify(machine.state), /KUBE-/);
  }
});

Deno.test("redirect goes on with one IP family, and names the addresses of the other", async () => {
  const machine = new Machine();
  machine.iptables.missing = /^ip6/;
  const steering = await machine.started();
  const prepared = await steering.prepare(WEB);
  assert.deepEqual(
    prepared.failures.map(({ address }) => addressKey(address)),
    ["[fd00:96::a]:80/TCP"],
  );
  const six = WEB[1] ?? assert.fail();
  assert.equal(steering.bindAddress(six), undefined);
  const { result } = await serve(steering, WEB);
  assert.equal(result.failures.length, 1);

  machine.iptables.missing = undefined;
  const repaired = await steering.repair(signal);
  assert.deepEqual(repaired.failures, []);
  await serve(steering, [six]);
  assert.match(machine.trace({ to: six.ip }), /^local \[fd6b:/);
});

Deno.test("one Service that the kernel does not take keeps no other out", async () => {
  const machine = new Machine();
  const steering = await machine.started();
  machine.iptables.refused = /-d 10\.96\.0\.(13|77)\//;
  const all = Array.from({ length: 100 }, (_, n) => address(`10.96.0.${n}`));
  const { result } = await serve(steering, all);
  assert.deepEqual(result.failures.map(({ address }) => address.ip), [
    "10.96.0.13",
    "10.96.0.77",
  ]);
  assert.match(
    result.failures[0]?.error.message ?? "",
    /^Cannot write rules with iptables-nft-restore: .*line \d+ failed$/,
  );
  assert.match(machine.trace({ to: "10.96.0.12" }), /^local/);
  assert.match(machine.trace({ to: "10.96.0.99" }), /^local/);
  assert.equal(machine.trace({ to: "10.96.0.13" }), "routed 10.96.0.13:80");

  machine.iptables.refused = undefined;
  assert.deepEqual(await steering.repair(signal), { written: 2, failures: [] });
  assert.match(machine.trace({ to: "10.96.0.13" }), /^local/);
});

Deno.test("redirect gives up early on a kernel that takes nothing any more", async () => {
  const machine = new Machine();
  const steering = await machine.started();
  machine.iptables.refused = /./;
  const before = machine.iptables.transactions.length;
  const all = Array.from(
    { length: 1_000 },
    (_, n) => address(`10.96.${n >> 8}.${n & 255}`),
  );
  const { result } = await serve(steering, all);
  assert.equal(result.failures.length, 1_000);
  assert.ok(machine.iptables.transactions.length - before < 200);
});

Deno.test("redirect says that the lock is held, and tries again", async () => {
  const machine = new Machine();
  const steering = await machine.started();
  machine.iptables.locked = true;
  const { result } = await serve(steering, WEB);
  assert.equal(result.written, 0);
  assert.equal(result.failures.length, WEB.length);
  assert.equal(
    result.failures[0]?.error.message,
    "Cannot write rules with iptables-nft-restore: another program holds the lock of the rules (xtables lock)",
  );
  machine.iptables.locked = false;
  const repaired = await steering.repair(signal);
  assert.deepEqual(repaired.failures, []);
  assert.match(machine.trace({ to: "10.96.0.10" }), /^local/);
});

Deno.test("redirect does with bare rules where the kernel is poor", async () => {
  const table: readonly [RegExp, RegExp][] = [
    [/-m comment/, /-d 10\.96\.0\.10\/32 -p tcp -m tcp --dport 80 -j DNAT/],
    [/-m addrtype/, /-A PREROUTING -m comment .* -j KUBE-NODEPORT-CONTAINER/],
    [/! -i lo/, /-j DNAT/],
    [
      /DNAT|-m (comment|addrtype|conntrack)/,
      /-d 10\.96\.0\.10\/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 20000$/m,
    ],
  ];
  for (const [refused, want] of table) {
    const machine = new Machine();
    machine.iptables.refused = refused;
    const steering = await machine.started();
    const { opened, result } = await serve(steering, WEB);
    assert.deepEqual(result.failures, []);
    assert.match(machine.iptables.save("iptables-nft"), want);
    const listen = opened[0]?.listen ?? assert.fail();
    const canChoose = !refused.source.includes("DNAT");
    assert.equal(listen.ip, canChoose ? "169.254.107.1" : "0.0.0.0");
    const to = canChoose ? "169.254.107.1" : "192.0.2.7";
    assert.equal(
      machine.trace({ to: "10.96.0.10" }),
      `local ${to}:${listen.port}`,
    );
  }
});

Deno.test("redirect closes the port itself where it has no address of its own", async () => {
  const machine = new Machine();
  machine.ip.broken = undefined;
  machine.iptables.refused = /-j DNAT/;
  const steering = await machine.started();
  const { opened } = await serve(steering, WEB.slice(0, 1));
  const { port, ip } = opened[0]?.listen ?? assert.fail();
  assert.equal(ip, "0.0.0.0");
  const to = "192.0.2.7";
  assert.equal(machine.trace({ from: "outside", to, port }), "dropped");
  assert.equal(
    machine.trace({ from: "outside", to: "10.96.0.10" }),
    `local ${to}:${port}`,
  );
  // Nobody's business: it is only passed on.
  const far = { from: "pod", to: "203.0.113.5", port } as const;
  assert.equal(machine.trace(far), `routed 203.0.113.5:${port}`);
  assert.match(steering.description, /to the address that they came in by/);
});

Deno.test("redirect puts back what somebody flushed, and removes what they added", async () => {
  const machine = new Machine();
  const steering = await machine.started();
  await serve(steering, WEB);
  const installed = machine.state;
  const nothing = { written: 0, failures: [] };
  assert.deepEqual(await steering.repair(signal), nothing);
  machine.iptables.load(
    "iptables-nft",
    `*nat
-F PREROUTING
-F KUBE-PORTALS-CONTAINER
-A KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -j ACCEPT
-A KUBE-PORTALS-CONTAINER -d 10.96.0.66/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 22
-A OUTPUT -j KUBE-PORTALS-HOST
COMMIT
*raw
-F PREROUTING
-F KUBE-PORTALS-DIRECT
-X KUBE-PORTALS-DIRECT
COMMIT
`,
  );
  machine.ip.addresses.splice(-1);
  const repaired = await steering.repair(signal);
  assert.deepEqual(repaired.failures, []);
  assert.ok(repaired.written > 8);
  assert.deepEqual(machine.state, installed);
});

Deno.test("redirect gets along with somebody who changes its rules meanwhile", async () => {
  const machine = new Machine();
  const steering = await machine.started();
  await serve(steering, WEB);
  machine.iptables.beforeRestore = () => {
    machine.iptables.beforeRestore = () => {};
    machine.iptables.load(
      "iptables-nft",
      "*nat\n-F KUBE-PORTALS-CONTAINER\nCOMMIT\n",
    );
  };
  const released = WEB.slice(0, 1);
  const { failures } = await steering.sync({ ...NOTHING, released }, signal);
  assert.deepEqual(failures, []);
  assert.equal(machine.trace({ to: "10.96.0.10" }), "routed 10.96.0.10:80");
  await steering.repair(signal);
  assert.match(machine.trace({ to: "198.51.100.9" }), /^local/);
});

Deno.test("redirect's cleanup leaves the rules of others as they were, twice", async () => {
  const machine = new Machine();
  for (const name of ["iptables-nft", "ip6tables-nft", "iptables-legacy"]) {
    machine.iptables.load(name, FOREIGN);
  }
  const before = machine.state;
  await serve(await machine.started(), WEB);
  await machine.steering().cleanup(signal);
  assert.deepEqual(machine.state, before);
  await machine.steering().cleanup(signal);
  assert.deepEqual(machine.state, before);

  machine.iptables.missing = /./;
  await machine.steering().cleanup(signal);
});

Deno.test("redirect says why it cannot clean up", async () => {
  const machine = new Machine();
  await serve(await machine.started(), WEB);
  machine.iptables.privileged = false;
  await assert.rejects(machine.steering().cleanup(signal), {
    name: "SteeringError",
    message:
      "Cannot remove rules with iptables-nft-restore: needs CAP_NET_ADMIN (run as root)",
  });
});

Deno.test("any sequence of passes ends with the rules that one pass writes", async () => {
  const pool = [
    ...WEB,
    address("10.96.0.11"),
    address("fd00:96::b", 53, { protocol: "UDP" }),
  ];
  const passes = fc.array(
    fc.record({
      wanted: fc.subarray(pool),
      lose: fc.constantFrom("nothing", "rules", "restart", "locked"),
    }),
    { minLength: 1, maxLength: 5 },
  );
  const property = fc.asyncProperty(passes, async (sequence) => {
    const machine = new Machine();
    const untouched = machine.state;
    let steering = await machine.started();
    let held: readonly ServiceAddress[] = [];
    for (const { wanted, lose } of sequence) {
      if (lose === "rules") {
        machine.iptables.load("iptables-nft", "*nat\n-F OUTPUT\nCOMMIT\n");
      }
      if (lose === "restart") {
        steering = await machine.started();
        held = [];
      }
      machine.iptables.locked = lose === "locked";
      const added = wanted.filter((each) => !held.includes(each));
      const released = held.filter((each) => !wanted.includes(each));
      await serve(steering, added);
      await steering.sync({ ...NOTHING, released }, signal);
      machine.iptables.locked = false;
      held = wanted;
      const { failures } = await steering.repair(signal);
      assert.deepEqual(failures, []);
      for (const each of pool) {
        const isWanted = wanted.includes(each);
        const listen = isWanted ? steering.bindAddress(each) : undefined;
        const where = machine.trace({ ...each, to: each.ip });
        if (listen === undefined) assert.match(where, /routed|192\.0\.2\.7/);
        else assert.ok(where.endsWith(`:${listen.port}`), where);
      }
      const { length } = machine.iptables.ruleset("iptables-nft").rules;
      const v4 = wanted.filter(({ ip }) => !ip.includes(":")).length;
      // With nothing to lead anywhere, nobody misses what leads there.
      assert.ok(length === 8 + v4 || (length <= 8 && v4 === 0));
    }
    await steering.cleanup(signal);
    assert.doesNotMatch(JSON.stringify(machine.state), /KUBE-|107/);
    assert.deepEqual(machine.state.slice(1), untouched.slice(1));
  });
  await fc.assert(property, { numRuns: 50 });
});

const FOREIGN = `*filter
:FOREIGN - [0:0]
-A INPUT -p tcp -m tcp --dport 12345 -j FOREIGN
COMMIT
*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "like -j KUBE-PORTALS-HOST" -j KUBE-SERVICES
-A KUBE-SERVICES -p udp -m udp --dport 9 -j RETURN
COMMIT
*raw
-A PREROUTING -i eth9 -j ACCEPT
COMMIT
`;

import assert from "node:assert/strict";
import fc from "fast-check";
import { REDIRECT_TARGETS } from "../../../proxy/rules/redirection.ts";
import type { ServiceAddress } from "../../../proxy/steering.ts";
import {
  address,
  Machine,
  NOTHING,
  serve,
  WEB,
} from "../../support/redirect_machine.ts";

const { signal } = new AbortController();

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

Deno.test("[3.43] redirect takes one port for all TCP addresses, where the engine can tell them apart", async () => {
  const machine = new Machine();
  const steering = await machine.started({ sharesTcp: true });
  const { opened } = await serve(steering, WEB);
  const ports = opened.map(({ listen }) => listen.port);
  assert.deepEqual(ports, [20_000, 20_001, 20_000, 20_000, 20_000]);
  const closed = WEB.slice(0, 1);
  await steering.sync({ ...NOTHING, closed }, signal);
  assert.equal(
    machine.trace({ to: "10.96.0.10" }),
    "local 169.254.107.1:29999",
  );
  assert.equal(
    machine.trace({ to: "198.51.100.9" }),
    "local 169.254.107.1:20000",
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

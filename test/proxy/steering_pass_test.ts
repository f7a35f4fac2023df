import assert from "node:assert/strict";
import fc from "fast-check";
import { addressKey } from "../../proxy/listen_addresses.ts";
import type { ServiceAddress } from "../../proxy/steering.ts";
import { SteeringPass } from "../../proxy/steering_pass.ts";

function address(
  ip: string,
  kind: ServiceAddress["kind"] = "ClusterIP",
): ServiceAddress {
  return { kind, ip, port: 80, protocol: "TCP", name: "default/web" };
}

const A = address("10.96.0.1");
const NOTHING = { opened: [], closed: [], released: [] };

Deno.test("SteeringPass tells an address once, however many hold it", () => {
  const pass = new SteeringPass();
  pass.hold(A);
  pass.hold(A);
  assert.deepEqual(pass.takeAdded(), [A]);
  pass.release(A);
  assert.ok(pass.isEmpty);
  pass.release(A);
  assert.deepEqual(pass.takeChanges(), { ...NOTHING, released: [A] });
  assert.ok(pass.isEmpty);
  pass.release(A);
  assert.ok(pass.isEmpty);
});

Deno.test("SteeringPass tells nothing of what came and went", () => {
  const pass = new SteeringPass();
  pass.hold(A);
  pass.release(A);
  assert.ok(pass.isEmpty);
  pass.hold(A);
  pass.takeAdded();
  pass.release(A);
  pass.hold(A);
  assert.ok(pass.isEmpty);
});

Deno.test("SteeringPass tells again of an address that turned out to be a cluster IP", () => {
  const pass = new SteeringPass();
  pass.hold(address("10.96.0.1", "ExternalIP"));
  pass.takeAdded();
  pass.hold(A);
  assert.deepEqual(pass.takeAdded(), [A]);
  pass.hold(address("10.96.0.1", "ExternalIP"));
  assert.ok(pass.isEmpty);
});

Deno.test("SteeringPass tells the last that happened to a listener", () => {
  const pass = new SteeringPass();
  const binding = { address: A, listen: { ip: "10.96.0.1", port: 80 } };
  pass.hold(A);
  pass.takeAdded();
  pass.opened(binding);
  pass.closed(A);
  assert.deepEqual(pass.takeChanges(), { ...NOTHING, closed: [A] });
  pass.closed(A);
  pass.opened(binding);
  assert.deepEqual(pass.takeChanges(), { ...NOTHING, opened: [binding] });
  pass.closed(A);
  pass.release(A);
  assert.deepEqual(pass.takeChanges(), { ...NOTHING, released: [A] });
});

Deno.test("SteeringPass takes back what could not be told, as far as it is still so", () => {
  const pass = new SteeringPass();
  const [b, c] = [address("10.96.0.2"), address("10.96.0.3")];
  for (const each of [A, b, c]) {
    pass.hold(each);
    pass.takeAdded();
    pass.opened({ address: each, listen: each });
  }
  pass.takeChanges();
  pass.closed(A);
  pass.release(b);
  pass.release(c);
  const changes = pass.takeChanges();
  // Meanwhile.
  pass.opened({ address: A, listen: A });
  pass.hold(b);
  pass.putBack(changes);
  assert.deepEqual(pass.takeAdded(), [b]);
  const opened = [{ address: A, listen: A }];
  assert.deepEqual(pass.takeChanges(), { ...NOTHING, opened, released: [c] });
  pass.putBackAdded([b, c]);
  assert.deepEqual(pass.takeAdded(), [b]);
});

Deno.test("SteeringPass brings a strategy to what is held, whatever happened", () => {
  const ips = ["10.96.0.1", "10.96.0.2"];
  const steps = fc.array(
    fc.tuple(
      fc.constantFrom("hold", "release", "open", "close", "pass", "fail"),
      fc.constantFrom(...ips),
    ),
  );
  fc.assert(fc.property(steps, (history) => {
    const pass = new SteeringPass();
    const held = new Map<string, number>();
    const open = new Set<string>();
    const told = { wanted: new Set<string>(), open: new Set<string>() };
    const tell = () => {
      for (const each of pass.takeAdded()) told.wanted.add(addressKey(each));
      const { opened, closed, released } = pass.takeChanges();
      for (const each of opened) told.open.add(addressKey(each.address));
      for (const each of closed) told.open.delete(addressKey(each));
      for (const each of released) {
        told.open.delete(addressKey(each));
        assert.ok(told.wanted.delete(addressKey(each)));
      }
    };
    for (const [what, ip] of [...history, ["pass", ""] as const]) {
      const each = address(ip);
      const key = addressKey(each);
      const holders = held.get(key) ?? 0;
      if (what === "hold") {
        held.set(key, holders + 1);
        pass.hold(each);
      }
      if (
        what === "release" && holders > 0 && !(holders === 1 && open.has(key))
      ) {
        held.set(key, holders - 1);
        pass.release(each);
      }
      if (what === "open" && holders > 0 && !open.has(key)) {
        open.add(key);
        pass.opened({ address: each, listen: each });
      }
      if (what === "close" && open.delete(key)) pass.closed(each);
      if (what === "fail") {
        pass.putBackAdded(pass.takeAdded());
        pass.putBack(pass.takeChanges());
      }
      if (what !== "pass") continue;
      tell();
      const wanted = [...held].filter(([, count]) => count > 0);
      assert.deepEqual([...told.wanted].sort(), wanted.map(([k]) => k).sort());
      assert.deepEqual([...told.open].sort(), [...open].sort());
      assert.ok(pass.isEmpty);
    }
  }));
});

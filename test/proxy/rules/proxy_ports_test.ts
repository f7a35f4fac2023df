import assert from "node:assert/strict";
import fc from "fast-check";
import { ProxyPorts } from "../../../proxy/rules/proxy_ports.ts";

Deno.test("ProxyPorts gives a key its port as long as it is not released", () => {
  const ports = new ProxyPorts({ first: 100, last: 103 });
  assert.equal(ports.closed, 103);
  assert.deepEqual(["a", "b", "a"].map((key) => ports.take(key)), [
    100,
    101,
    100,
  ]);
  ports.release("a");
  ports.release("a");
  assert.equal(ports.take("c"), 102, "what was given back last comes last");
  assert.equal(ports.take("d"), 100);
  assert.equal(ports.take("e"), undefined);
  ports.release("b");
  assert.equal(ports.take("e"), 101);
});

Deno.test("ProxyPorts adopts a port that is free and in the range", () => {
  const ports = new ProxyPorts({ first: 100, last: 103 });
  ports.adopt("a", 102);
  ports.adopt("b", 102);
  ports.adopt("c", 103);
  ports.adopt("d", 99);
  ports.adopt("a", 100);
  assert.deepEqual(["a", "b", "c", "d"].map((key) => ports.take(key)), [
    102,
    100,
    101,
    undefined,
  ]);
});

Deno.test("ProxyPorts moves a key to another port, if there is one", () => {
  const ports = new ProxyPorts({ first: 100, last: 102 });
  assert.equal(ports.take("a"), 100);
  assert.equal(ports.move("a"), 101);
  assert.equal(ports.move("a"), 100);
  assert.equal(ports.take("b"), 101);
  assert.equal(ports.move("a"), undefined);
  assert.equal(ports.take("a"), 100);
});

Deno.test("ProxyPorts refuses what is no range", () => {
  for (const [first, last] of [[0, 10], [5, 5], [6, 5], [1, 65_536]]) {
    assert.throws(
      () => new ProxyPorts({ first: first ?? 0, last: last ?? 0 }),
      RangeError,
    );
  }
});

Deno.test("ProxyPorts never gives one port to two keys", () => {
  const key = fc.constantFrom("a", "b", "c", "d", "e");
  const port = fc.integer({ min: 99, max: 104 });
  const step = fc.record({
    verb: fc.constantFrom("take", "move", "release", "adopt"),
    key,
    port,
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const ports = new ProxyPorts({ first: 100, last: 104 });
    const held = new Map<string, number>();
    for (const { verb, key, port } of steps) {
      if (verb === "adopt") ports.adopt(key, port);
      else if (verb === "release") {
        ports.release(key);
        held.delete(key);
      } else {
        const got = ports[verb](key);
        if (got !== undefined) held.set(key, got);
      }
      for (const each of held.keys()) {
        assert.equal(ports.take(each), held.get(each));
      }
      assert.equal(new Set(held.values()).size, held.size);
      assert.ok(![...held.values()].includes(ports.closed));
    }
  }));
});

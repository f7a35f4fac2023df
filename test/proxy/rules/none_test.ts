import assert from "node:assert/strict";
import { interfaceAddresses, NoSteering } from "../../../proxy/rules/none.ts";
import type { ServiceAddress } from "../../../proxy/steering.ts";

function address(
  ip: string,
  kind: ServiceAddress["kind"] = "ClusterIP",
): ServiceAddress {
  return { kind, ip, port: 80, protocol: "TCP", name: "default/web:http" };
}

async function noSteering(os = "linux", addresses: readonly string[] = []) {
  const steering = new NoSteering({ os, interfaceAddresses: () => addresses });
  await steering.start();
  return steering;
}

Deno.test("none binds a Service address that is local, else a port on loopback", async () => {
  const table: readonly [string, string, boolean][] = [
    ["linux", "127.96.0.10", true],
    ["linux", "127.0.0.1", true],
    ["linux", "::1", true],
    ["linux", "192.0.2.7", true],
    ["linux", "fd00::7", true],
    ["linux", "10.96.0.10", false],
    ["linux", "fd00:96::a", false],
    ["darwin", "127.0.0.1", true],
    ["darwin", "::1", true],
    ["darwin", "127.96.0.10", false],
  ];
  for (const [os, ip, local] of table) {
    const steering = await noSteering(os, ["192.0.2.7", "FD00:0::7"]);
    const loopback = ip.includes(":") ? "::1" : "127.0.0.1";
    assert.deepEqual(
      steering.bindAddress(address(ip)),
      local ? { ip, port: 80 } : { ip: loopback, port: 0 },
      `${ip} on ${os}`,
    );
  }
});

Deno.test("none falls back to loopback for good reasons only", async () => {
  const steering = await noSteering();
  const { AddrInUse, AddrNotAvailable, PermissionDenied } = Deno.errors;
  const table: readonly [string, Error, boolean][] = [
    ["127.96.0.10", new PermissionDenied(), true],
    ["127.96.0.10", new AddrNotAvailable(), true],
    ["127.96.0.10", new AddrInUse(), false],
    ["127.96.0.10", new Deno.errors.NotCapable(), false],
    // It was bound to loopback in the first place.
    ["10.96.0.10", new AddrNotAvailable(), false],
  ];
  for (const [ip, error, falls] of table) {
    assert.deepEqual(
      steering.fallbackAddress(address(ip), error),
      falls ? { ip: "127.0.0.1", port: 0 } : undefined,
      `${ip}: ${error.name}`,
    );
  }
});

Deno.test("none has no place but their own for addresses with clients elsewhere", async () => {
  const steering = await noSteering("linux", ["192.0.2.7"]);
  const kinds = ["NodePort", "ExternalIP", "LoadBalancerIP"] as const;
  const denied = new Deno.errors.PermissionDenied();
  for (const kind of kinds) {
    const local = address("192.0.2.7", kind);
    assert.deepEqual(steering.bindAddress(local), {
      ip: "192.0.2.7",
      port: 80,
    });
    assert.equal(steering.fallbackAddress(local, denied), undefined);
  }
  for (const kind of kinds.slice(1)) {
    const foreign = address("198.51.100.7", kind);
    assert.equal(steering.bindAddress(foreign), undefined);
  }
  assert.equal(steering.isOurs(), false);
});

Deno.test("none sees new addresses of the machine at repair", async () => {
  const addresses: string[] = [];
  const steering = await noSteering("linux", addresses);
  addresses.push("192.0.2.7");
  assert.equal(steering.bindAddress(address("192.0.2.7"))?.port, 0);
  assert.deepEqual(await steering.repair(), { written: 0, failures: [] });
  assert.equal(steering.bindAddress(address("192.0.2.7"))?.port, 80);
});

Deno.test("none has nothing to write and nothing to clean up", async () => {
  const steering = await noSteering();
  assert.deepEqual(await steering.prepare(), { written: 0, failures: [] });
  assert.deepEqual(await steering.sync(), { written: 0, failures: [] });
  await steering.cleanup();
});

Deno.test("interfaceAddresses() knows the loopback address", () => {
  assert.ok(interfaceAddresses().includes("127.0.0.1"));
});

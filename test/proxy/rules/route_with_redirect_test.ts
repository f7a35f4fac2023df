import assert from "node:assert/strict";
import { RedirectSteering } from "../../../proxy/rules/redirect.ts";
import { RouteSteering } from "../../../proxy/rules/route.ts";
import { RouteWithRedirect } from "../../../proxy/rules/route_with_redirect.ts";
import type {
  ListenerChanges,
  ServiceAddress,
} from "../../../proxy/steering.ts";
import { FakeIp } from "../../support/fake_ip.ts";
import { FakeIptables } from "../../support/fake_iptables.ts";

const { signal } = new AbortController();
const NOTHING: ListenerChanges = { opened: [], closed: [], released: [] };
const IN_USE = new Deno.errors.AddrInUse("in use");
const RULE = /-A KUBE-PORTALS-CONTAINER -d 10\.96\.0\.10\/32 /;

const WEB: ServiceAddress = {
  kind: "ClusterIP",
  ip: "10.96.0.10",
  port: 80,
  protocol: "TCP",
  name: "default/web:http",
};
const OWN: ServiceAddress = { ...WEB, ip: "10.96.0.11" };

function machine() {
  const ip = new FakeIp();
  const runner = new FakeIptables(ip);
  const steering = () => {
    const clusterFacts = () => ({
      apiServers: new Set<string>(),
      podCidrs: [],
      endpoints: new Set<string>(),
    });
    const options = { runner, os: "linux" };
    const cidrs = ["10.96.0.0/16"];
    return new RouteWithRedirect(
      new RouteSteering({ ...options, cidrs, clusterFacts }),
      new RedirectSteering(options),
    );
  };
  const rules = () => runner.save("iptables-nft");
  return { ip, runner, steering, rules };
}

/** A pass in which somebody else holds port 80 of every address. */
async function passWhileTaken(
  steering: RouteWithRedirect,
  address: ServiceAddress,
) {
  assert.deepEqual(steering.bindAddress(address), {
    ip: address.ip,
    port: address.port,
  });
  const listen = steering.fallbackAddress(address, IN_USE);
  const opened = listen === undefined ? [] : [{ address, listen }];
  const result = await steering.sync({ ...NOTHING, opened }, signal);
  assert.deepEqual(result.failures, []);
  return listen;
}

Deno.test("route needs no rule as long as every port can be bound", async () => {
  const { runner, steering } = machine();
  const route = steering();
  await route.start(signal);
  await route.prepare([WEB], signal);
  assert.equal(
    route.fallbackAddress(WEB, new Deno.errors.PermissionDenied("no")),
    undefined,
  );
  const opened = [{ address: WEB, listen: WEB }];
  await route.sync({ ...NOTHING, opened }, signal);
  assert.deepEqual(runner.transactions, []);
  assert.equal(route.description, "all of 10.96.0.0/16 is local by AnyIP");
});

Deno.test("route redirects the one address whose port somebody holds", async () => {
  const { steering, rules } = machine();
  const route = steering();
  await route.start(signal);
  await route.prepare([WEB, OWN], signal);
  // Rules are tried out in the first pass that needs them.
  assert.equal(await passWhileTaken(route, WEB), undefined);
  assert.deepEqual(await passWhileTaken(route, WEB), {
    ip: "169.254.107.1",
    port: 20_000,
  });
  assert.match(rules(), RULE);
  assert.doesNotMatch(rules(), /10\.96\.0\.11/);
  assert.match(route.description, /where a port is taken$/);
  assert.ok(route.isOurs("169.254.107.1"));

  await route.sync({ ...NOTHING, closed: [WEB, OWN] }, signal);
  assert.match(rules(), RULE);
  const repaired = await route.repair(signal);
  assert.deepEqual(repaired, { written: 0, failures: [] });
  await route.sync({ ...NOTHING, released: [WEB, OWN] }, signal);
  assert.doesNotMatch(rules(), RULE);
});

Deno.test("route takes an address back when its port is free again", async () => {
  const { steering, rules } = machine();
  const route = steering();
  await route.start(signal);
  await route.prepare([WEB], signal);
  await passWhileTaken(route, WEB);
  await passWhileTaken(route, WEB);
  assert.match(rules(), RULE);
  const opened = [{ address: WEB, listen: { ip: WEB.ip, port: WEB.port } }];
  await route.sync({ ...NOTHING, opened }, signal);
  assert.doesNotMatch(rules(), RULE);
});

Deno.test("route adopts rules of an earlier run, and removes what nobody needs", async () => {
  const { runner, steering, rules } = machine();
  const redirect = new RedirectSteering({ runner, os: "linux" });
  await redirect.start(signal);
  await redirect.prepare([OWN, WEB]);
  await redirect.sync(NOTHING, signal);
  assert.match(rules(), /10\.96\.0\.11/);

  const route = steering();
  await route.start(signal);
  await route.prepare([WEB, OWN], signal);
  const listen = await passWhileTaken(route, WEB);
  assert.deepEqual(listen, { ip: "169.254.107.1", port: 20_001 });
  assert.match(rules(), RULE);
  assert.doesNotMatch(rules(), /10\.96\.0\.11/);
});

Deno.test("route goes on alone where no rule can be loaded, and tries again", async () => {
  const { runner, steering } = machine();
  runner.missing = /./;
  const route = steering();
  await route.start(signal);
  await route.prepare([WEB], signal);
  assert.equal(await passWhileTaken(route, WEB), undefined);
  assert.equal(await passWhileTaken(route, WEB), undefined);
  runner.missing = undefined;
  await route.repair(signal);
  assert.equal(await passWhileTaken(route, WEB), undefined);
  assert.notEqual(await passWhileTaken(route, WEB), undefined);
});

Deno.test("route cleans up both", async () => {
  const { ip, steering, rules } = machine();
  const before = structuredClone([ip.routes, ip.addresses]);
  const route = steering();
  await route.start(signal);
  await route.prepare([WEB], signal);
  await passWhileTaken(route, WEB);
  await passWhileTaken(route, WEB);
  await steering().cleanup(signal);
  assert.doesNotMatch(rules(), /KUBE-/);
  assert.deepEqual([ip.routes, ip.addresses], before);
});

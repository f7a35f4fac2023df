import assert from "node:assert/strict";
import {
  chooseSteering,
  cleanupSteering,
  type SteeringOptions,
  type SteeringRequest,
} from "../../../proxy/rules/mod.ts";
import type {
  LockHolder,
  SteeringLock,
  TakeLock,
} from "../../../proxy/rules/lock.ts";
import { FakeIptables } from "../../support/fake_iptables.ts";
import { collectLog } from "../../support/log_lines.ts";
import { FakeIp, programMissing } from "../../support/fake_ip.ts";

const { signal } = new AbortController();

/** A lock that is always free: the machine's own is not for tests. */
function freeLock(): Promise<SteeringLock> {
  return Promise.resolve({ [Symbol.dispose]: () => {} });
}

function options(
  runner: FakeIp,
  more: Partial<SteeringOptions> = {},
): SteeringOptions {
  return {
    cidrs: ["10.96.0.0/16"],
    serviceIps: [],
    clusterFacts: () => ({
      apiServers: new Set(),
      podCidrs: [],
      endpoints: new Set(),
    }),
    signal,
    runner,
    os: "linux",
    takeLock: freeLock,
    ...more,
  };
}

/** A machine with a default route: to it, every address is somewhere. */
function online(): FakeIp {
  return new FakeIp().addNode("192.0.2.7", "192.0.2.1");
}

/** Nothing here can open a socket in a namespace. */
const NO_PORTAL = {
  name: "portal",
  why:
    "Cannot steer by portal: listeners cannot be opened in a namespace: this program opens none",
};

Deno.test("chooseSteering() takes redirect where a rule can be loaded", async () => {
  const ip = online();
  const choice = await chooseSteering("auto", {
    ...options(ip),
    runner: new FakeIptables(ip),
  });
  assert.equal(choice.steering.name, "redirect");
  assert.match(choice.why, /^rules of iptables-nft \(the machine's default\)/);
  assert.deepEqual(choice.rejected, [NO_PORTAL]);
});

Deno.test("chooseSteering() takes route where only the route can be added", async () => {
  const ip = online();
  const choice = await chooseSteering("auto", options(ip));
  assert.equal(choice.steering.name, "route");
  assert.equal(choice.why, "all of 10.96.0.0/16 is local by AnyIP");
  assert.deepEqual(choice.rejected, [NO_PORTAL, {
    name: "redirect",
    why: "Cannot steer by redirect: no iptables and no nft on the PATH",
  }]);
  assert.equal(ip.written.length, 1);
});

Deno.test("chooseSteering() takes none otherwise, and says why not the others", async () => {
  const unprivileged = online();
  unprivileged.privileged = false;
  const missing = new FakeIp();
  missing.broken = programMissing("ip");
  const refused = new FakeIp().addNode("10.96.0.7", "10.96.0.1");
  for (
    const [ip, why] of [
      [unprivileged, /needs CAP_NET_ADMIN/],
      [missing, /no such program on the PATH/],
      [refused, /must not become local: it contains the node's own address/],
    ] as const
  ) {
    const choice = await chooseSteering("auto", options(ip));
    assert.equal(choice.steering.name, "none");
    assert.deepEqual(choice.rejected.map((each) => each.name), [
      "portal",
      "redirect",
      "route",
    ]);
    assert.match(choice.rejected[2]?.why ?? "", why);
    assert.equal(ip.written.filter((line) => line.includes("del")).length, 0);
  }
});

Deno.test("chooseSteering() needs nothing where every Service address is local", async () => {
  const table: readonly [Partial<SteeringOptions>, string][] = [
    [{ cidrs: ["127.96.0.0/16"] }, "none"],
    [{ cidrs: ["127.96.0.0/16", "fd00:96::/112"] }, "route"],
    [{ cidrs: ["126.0.0.0/7"] }, "route"],
    [{ cidrs: [], serviceIps: ["127.96.0.1"] }, "none"],
    [{ cidrs: [], serviceIps: ["127.96.0.1", "10.96.0.1"] }, "route"],
    [{ cidrs: [], serviceIps: [] }, "route"],
  ];
  for (const [more, want] of table) {
    const ip = new FakeIp();
    if (more.cidrs?.[0] === "126.0.0.0/7") ip.addresses.length = 0;
    const choice = await chooseSteering("auto", options(ip, more));
    assert.equal(choice.steering.name, want, JSON.stringify(more));
    if (want === "none") assert.deepEqual(ip.commands, []);
  }
});

Deno.test("chooseSteering() falls back on other systems", async () => {
  const more = { os: "darwin", cidrs: ["127.96.0.0/16"] };
  const choice = await chooseSteering("auto", options(new FakeIp(), more));
  assert.equal(choice.steering.name, "none");
  assert.match(choice.rejected[0]?.why ?? "", /need Linux, and this is darwin/);
});

Deno.test("chooseSteering() does what is asked, or rejects", async () => {
  const none = await chooseSteering("none", options(new FakeIp()));
  assert.equal(none.steering.name, "none");
  const route = await chooseSteering("route", options(new FakeIp()));
  assert.equal(route.steering.name, "route");
  const ip = new FakeIp();
  ip.privileged = false;
  for (const request of ["route", "redirect"] as const) {
    await assert.rejects(chooseSteering(request, options(ip)), {
      name: "SteeringError",
    });
  }
  const redirect = await chooseSteering("redirect", {
    ...options(ip),
    runner: new FakeIptables(new FakeIp()),
    proxyPorts: { first: 100, last: 200 },
  });
  assert.equal(redirect.steering.name, "redirect");
});

Deno.test("cleanupSteering() removes what an earlier run installed", async () => {
  const ip = new FakeIp();
  const before = structuredClone(ip.routes);
  await chooseSteering("route", options(ip));
  await cleanupSteering({ signal, runner: ip, takeLock: freeLock });
  assert.deepEqual(ip.routes, before);
  await cleanupSteering({ signal, runner: ip, takeLock: freeLock });
});

/** Remembers what it was taken for, and whether it was given back. */
class FakeLock {
  readonly taken: string[] = [];
  isHeld = false;
  /** Who has it, before it is to be had. */
  readonly holders: LockHolder[] = [];

  readonly take: TakeLock = (purpose) => {
    const holder = this.holders.shift();
    if (holder !== undefined) return Promise.resolve(holder);
    this.taken.push(purpose);
    this.isHeld = true;
    return Promise.resolve({ [Symbol.dispose]: () => this.isHeld = false });
  };
}

Deno.test("chooseSteering() takes the lock for what changes the machine, and only for that", async () => {
  const table: readonly [SteeringRequest, Partial<SteeringOptions>, boolean][] =
    [
      ["route", {}, true],
      ["auto", {}, true],
      ["none", {}, false],
      ["auto", { cidrs: ["127.96.0.0/16"] }, false],
      ["auto", { os: "darwin" }, false],
    ];
  for (const [request, more, want] of table) {
    const lock = new FakeLock();
    const ip = new FakeIp();
    const all = options(ip, { takeLock: lock.take, ...more });
    const choice = await chooseSteering(request, all);
    assert.equal(lock.isHeld, want, request);
    choice.lock?.[Symbol.dispose]();
    assert.equal(lock.isHeld, false);
  }
});

Deno.test("chooseSteering() gives the lock back where nothing can be steered", async () => {
  for (const request of ["route", "auto"] as const) {
    const lock = new FakeLock();
    const ip = new FakeIp();
    ip.privileged = false;
    const choosing = chooseSteering(
      request,
      options(ip, { takeLock: lock.take }),
    );
    if (request === "auto") assert.equal((await choosing).lock, undefined);
    else await assert.rejects(choosing, { name: "SteeringError" });
    assert.deepEqual(lock.taken, ["steer"]);
    assert.equal(lock.isHeld, false);
  }
});

Deno.test("chooseSteering() and cleanupSteering() say who holds the lock, and change nothing", async () => {
  const lock = new FakeLock();
  const ip = new FakeIp();
  lock.holders.push({ heldBy: "pid 7", purpose: "steer" });
  await assert.rejects(
    chooseSteering("auto", options(ip, { takeLock: lock.take })),
    {
      name: "SteeringError",
      message:
        "Cannot steer: kube-portal (pid 7) does so on this machine already; stop it first, or replace it with --take-over",
    },
  );
  lock.holders.push({ heldBy: "pid 7", purpose: "steer" });
  await assert.rejects(
    cleanupSteering({ signal, runner: ip, takeLock: lock.take }),
    {
      name: "SteeringError",
      message:
        "Cannot clean up: kube-portal (pid 7) is steering this machine; stop it first",
    },
  );
  assert.deepEqual(ip.commands, []);
});

Deno.test("chooseSteering() waits for a cleanup", async () => {
  const lock = new FakeLock();
  lock.holders.push({ heldBy: "pid 7", purpose: "clean" });
  const choice = await chooseSteering(
    "route",
    options(new FakeIp(), { takeLock: lock.take }),
  );
  assert.deepEqual(lock.taken, ["steer"]);
  choice.lock?.[Symbol.dispose]();
});

Deno.test("cleanupSteering() waits for another cleanup", async () => {
  const lock = new FakeLock();
  lock.holders.push({ heldBy: "pid 7", purpose: "clean" });
  await cleanupSteering({ signal, runner: new FakeIp(), takeLock: lock.take });
  assert.deepEqual(lock.taken, ["clean"]);
  assert.equal(lock.isHeld, false);
});

const OFFLINE = {
  name: "redirect",
  why:
    "Cannot steer the node's own clients by redirect: no route of the node leads to 10.96.0.0, so that they do not come to its rules",
};

Deno.test("chooseSteering() takes route before redirect where no route leads to Services", async () => {
  const ip = new FakeIp();
  const offline = { ...options(ip), runner: new FakeIptables(ip) };
  const choice = await chooseSteering("auto", offline);
  assert.equal(choice.steering.name, "route");
  assert.deepEqual(choice.rejected, [NO_PORTAL, OFFLINE]);
  // The next run finds the route of this one, and is not led astray by it.
  const next = await chooseSteering("auto", offline);
  assert.equal(next.steering.name, "route");
  assert.match(next.rejected[1]?.why ?? "", /but one of an earlier run/);
});

Deno.test("chooseSteering() takes redirect where a route of an earlier run hides a default one", async () => {
  const ip = online();
  await chooseSteering("route", options(ip));
  const more = { ...options(ip), runner: new FakeIptables(ip) };
  const choice = await chooseSteering("auto", more);
  assert.equal(choice.steering.name, "redirect");
});

Deno.test("chooseSteering() warns where redirect is all that works, and no route leads to Services", async () => {
  await using log = await collectLog();
  // Its own address makes `route` refuse.
  const ip = new FakeIp();
  ip.addresses.push({ dev: "eth0", local: "10.96.0.7", prefixlen: 32 });
  const offline = { ...options(ip), runner: new FakeIptables(ip) };
  for (const request of ["auto", "redirect"] as const) {
    const choice = await chooseSteering(request, offline);
    assert.equal(choice.steering.name, "redirect", request);
    assert.equal(log.lines.length, 1, log.lines.join(""));
    assert.match(
      log.lines.pop() ?? "",
      /Clients on the node itself do not come to Services reason="no route of the node leads to 10\.96\.0\.0"/,
    );
  }
});

Deno.test("redirect takes the place of an earlier run's routes", async () => {
  const ip = online();
  const before = structuredClone(ip.routes);
  await chooseSteering("route", options(ip));
  assert.notDeepEqual(ip.routes, before);
  const runner = new FakeIptables(ip);
  await chooseSteering("redirect", { ...options(ip), runner });
  const left = ip.routes.filter(({ dst }) => dst === "10.96.0.0/16");
  assert.deepEqual(left, []);
  // Its own address stays.
  assert.ok(ip.routes.some(({ dst }) => dst.startsWith("169.254.107.1")));
});

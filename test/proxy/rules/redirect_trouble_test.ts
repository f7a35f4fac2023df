/**
 * `redirect` where something is missing, held, refused or changed by others.
 */
import assert from "node:assert/strict";
import type { IpFamily } from "../../../proxy/ip.ts";
import { addressKey } from "../../../proxy/listen_addresses.ts";
import { IptablesWriter } from "../../../proxy/rules/iptables_writer.ts";
import { RedirectSteering } from "../../../proxy/rules/redirect.ts";
import type {
  InstalledRules,
  RulesAbilities,
  RulesResult,
  RulesWriter,
} from "../../../proxy/rules/rules_writer.ts";
import { SteeringError } from "../../../proxy/steering.ts";
import {
  address,
  Machine,
  NOTHING,
  serve,
  WEB,
} from "../../support/redirect_machine.ts";

const { signal } = new AbortController();

/** A writer of which only the calls matter. */
class FakeWriter implements RulesWriter {
  readonly family = "IPv4";
  readonly calls: string[] = [];
  hasRules = false;
  works = true;

  constructor(readonly description: string) {}

  isInstalled(): Promise<boolean> {
    return Promise.resolve(this.hasRules);
  }

  probe(): Promise<RulesAbilities> {
    this.calls.push("probe");
    return this.works
      ? Promise.resolve({ canChooseAddress: true })
      : Promise.reject(new SteeringError("Cannot probe: it does not work"));
  }

  use(): Promise<void> {
    this.calls.push("use");
    return Promise.resolve();
  }

  read(): Promise<InstalledRules> {
    this.calls.push("read");
    return Promise.resolve({ redirections: new Map(), ports: new Map() });
  }

  apply(): Promise<RulesResult> {
    this.calls.push("apply");
    return Promise.resolve({ written: 0, refused: new Map() });
  }

  cleanup(): Promise<void> {
    this.calls.push("cleanup");
    return Promise.resolve();
  }
}

Deno.test("redirect cannot start without privilege, Linux or programs, and changes nothing", async () => {
  const table: readonly [string, RegExp, (machine: Machine) => void][] = [
    ["linux", /needs CAP_NET_ADMIN \(run as root\)$/, (machine) => {
      machine.iptables.privileged = false;
    }],
    ["linux", /no iptables and no nft on the PATH$/, (machine) => {
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

Deno.test("redirect goes on with the writer that has rules already, and removes those of another", async () => {
  const machine = new Machine();
  const nft = new FakeWriter("nft");
  const writers = (family: IpFamily) => [
    new IptablesWriter({ family, runner: machine.iptables }),
    ...family === "IPv4" ? [nft] : [],
  ];
  const options = { runner: machine.iptables, os: "linux", writers };
  nft.hasRules = true;
  const adopting = new RedirectSteering(options);
  assert.ok(await adopting.isInstalled(signal));
  await adopting.start(signal);
  assert.match(adopting.description, /^rules of nft to/);
  await serve(adopting, WEB);
  assert.deepEqual(nft.calls, ["probe", "use", "read", "apply"]);

  nft.calls.length = 0;
  nft.works = false;
  const other = new RedirectSteering(options);
  await other.start(signal);
  assert.match(other.description, /^rules of iptables-nft/);
  assert.deepEqual(nft.calls, ["probe"]);
  await serve(other, WEB);
  assert.deepEqual(nft.calls, ["probe", "cleanup"]);
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

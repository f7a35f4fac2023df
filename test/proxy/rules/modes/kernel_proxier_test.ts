/** When what is written, whatever the mode: over a kernel that only listens. */
import assert from "node:assert/strict";
import {
  type DesiredState,
  type ServiceState,
  serviceState,
} from "../../../../proxy/desired_state.ts";
import {
  cleanupKernelMode,
  KernelProxier,
} from "../../../../proxy/rules/modes/kernel_proxier.ts";
import { type ModeSettings } from "../../../../proxy/rules/modes/mode_input.ts";
import { DEFAULT_MODE_SETTINGS } from "../../../support/mode_settings.ts";
import { FakeClock } from "../../../support/fake_clock.ts";
import { FakeDriver, FakeProc } from "../../../support/fake_kernel_mode.ts";
import { collectLog } from "../../../support/log_lines.ts";
import { node, service, slice } from "../../../support/objects.ts";

const { signal } = new AbortController();
const NOTHING = { changed: [], removed: [] };
const HOUR_MS = 3_600_000;
const LOCALNET = {
  name: "net.ipv4.conf.all.route_localnet",
  value: "1",
  without: "nothing works",
};
const LOCALNET_PATH = "/proc/sys/net/ipv4/conf/all/route_localnet";

class Bench {
  readonly driver = new FakeDriver();
  readonly proc = new FakeProc();
  readonly clock = new FakeClock();
  readonly state = new Map<string, ServiceState>();
  settings: ModeSettings = DEFAULT_MODE_SETTINGS;
  proxier!: KernelProxier;

  async start(): Promise<this> {
    this.proxier = await KernelProxier.start({
      driver: this.driver,
      settings: () => this.settings,
      nodeName: "n1",
      serviceCidrs: [],
      state: this.state as DesiredState,
      clock: this.clock,
      runner: this.proc,
    }, signal);
    return this;
  }

  /** Sets a Service, of UDP, with these endpoints; or removes it. */
  set(key: string, endpoints?: readonly string[]) {
    if (endpoints === undefined) {
      this.state.delete(key);
      return { changed: [], removed: [key] };
    }
    const next = serviceState(
      service(key, { ports: [{ port: 53, protocol: "UDP" }] }),
      {
        slices: [
          slice(`${key}-1`, {
            ports: [{ port: 5353, protocol: "UDP" }],
            endpoints,
          }),
        ],
        node: { name: "n1", zone: "" },
      },
    );
    this.state.set(key, next);
    return { changed: [next], removed: [] };
  }

  sync(changes: Parameters<KernelProxier["sync"]>[0] = NOTHING) {
    return this.proxier.sync(changes, signal);
  }
}

Deno.test("[9.9, 10.32] KernelProxier writes all at first, then what changed, then nothing", async () => {
  const bench = await new Bench().start();
  const { ipv4, ipv6 } = bench.driver;
  await bench.sync(bench.set("default/a", ["10.1.0.1"]));
  await bench.sync(bench.set("default/b", ["10.1.0.1"]));
  await bench.sync();
  await bench.sync(bench.set("default/a"));
  assert.deepEqual(ipv4.writes, ["all", "default/b", "default/a"]);
  assert.deepEqual(ipv6.writes, ipv4.writes);
});

Deno.test("[9.5, 9.9] KernelProxier writes all again after an hour, a flush and another node", async () => {
  await using _log = await collectLog("error");
  const bench = await new Bench().start();
  const { ipv4 } = bench.driver;
  await bench.sync(bench.set("default/a", ["10.1.0.1"]));
  await bench.proxier.repair(signal);
  await bench.sync();
  assert.deepEqual(ipv4.writes, ["all"]);
  ipv4.isThere = false;
  await bench.proxier.repair(signal);
  ipv4.isThere = true;
  await bench.sync();
  assert.deepEqual(ipv4.writes, ["all", "all"]);
  await bench.clock.advance(HOUR_MS);
  await bench.proxier.repair(signal);
  await bench.sync();
  assert.equal(ipv4.writes.length, 3);
  bench.proxier.setNode({ node: node("n1"), interfaceIps: ["192.0.2.1"] });
  await bench.sync();
  bench.settings = { ...bench.settings, masqueradeAll: true };
  await bench.sync();
  assert.deepEqual(ipv4.writes, ["all", "all", "all", "all", "all"]);
  assert.equal(ipv4.inputs.at(-1)?.masqueradeAll, true);
});

Deno.test("[9.9] one family that fails is tried again by all of it, and the other goes on", async () => {
  await using log = await collectLog("error");
  const bench = await new Bench().start();
  const { ipv4, ipv6 } = bench.driver;
  await bench.sync();
  ipv6.isBroken = true;
  assert.equal(await bench.sync(bench.set("default/a", [])), "again");
  assert.equal(await bench.sync(bench.set("default/b", [])), "again");
  assert.deepEqual(ipv4.writes, ["all", "default/a", "default/b"]);
  // Unhealthy, in time, is the one that fails.
  const now = bench.clock.now();
  const times = bench.proxier.times({ updatedAt: now });
  assert.equal(times.IPv4?.queuedAt, undefined);
  assert.equal(times.IPv6?.queuedAt, now);
  assert.equal(log.lines.length, 1);
  ipv6.isBroken = false;
  assert.equal(await bench.sync(), "done");
  assert.deepEqual(ipv6.writes, ["all", "all"]);
  assert.equal(
    bench.proxier.times({ updatedAt: now }).IPv6?.queuedAt,
    undefined,
  );
});

Deno.test("[8.77] a family that cannot be programmed is named and left out; none is an error", async () => {
  await using log = await collectLog("warn");
  const bench = new Bench();
  bench.driver.ipv6.why = "no ip6tables";
  await bench.start();
  await bench.sync();
  assert.deepEqual(bench.driver.ipv6.writes, []);
  assert.deepEqual(Object.keys(bench.proxier.times({ updatedAt: 0 })), [
    "IPv4",
  ]);
  assert.match(log.lines.join(), /IPv6: no ip6tables/);
  bench.driver.ipv4.why = "needs CAP_NET_ADMIN";
  await assert.rejects(bench.start(), {
    name: "SteeringError",
    message:
      "Cannot run iptables mode: IPv4: needs CAP_NET_ADMIN; IPv6: no ip6tables",
  });
});

Deno.test("[6.9] kernel parameters are listed, written, remembered and put back", async () => {
  await using log = await collectLog("info");
  const bench = new Bench();
  bench.driver.wanted = [LOCALNET];
  bench.proc.values.set(LOCALNET_PATH, "0");
  await bench.start();
  assert.match(
    log.lines.join(),
    /Setting kernel parameters.*net.ipv4.conf.all.route_localnet=1 \(was 0\)/,
  );
  assert.equal(bench.proc.values.get(LOCALNET_PATH), "1");
  // The next run finds 1, and must not take that for what was there.
  await bench.start();
  assert.equal(bench.driver.mark?.get(LOCALNET.name), "0");
  await bench.proxier.cleanup(signal);
  assert.equal(bench.proc.values.get(LOCALNET_PATH), "0");
  assert.equal(bench.driver.mark, undefined);
  assert.deepEqual(bench.driver.ipv4.writes, ["cleanup"]);
});

Deno.test("[6.9] a read-only /proc is named, with what does not work, and nothing else", async () => {
  await using log = await collectLog("warn");
  const bench = new Bench();
  bench.driver.wanted = [LOCALNET];
  bench.proc.values.set(LOCALNET_PATH, "0");
  bench.proc.isReadOnly = true;
  await bench.start();
  assert.equal(await bench.sync(), "done");
  assert.equal(log.lines.length, 1);
  assert.match(
    log.lines[0] ?? "",
    /Cannot set net.ipv4.conf.all.route_localnet: without it nothing works .*reason="?Read-only file system/,
  );
  assert.deepEqual([...bench.driver.mark ?? []], []);
});

Deno.test("cleanupKernelMode() leaves alone what has no mark", async () => {
  const driver = new FakeDriver();
  await cleanupKernelMode(driver, { runner: new FakeProc(), signal });
  assert.deepEqual(driver.ipv4.writes, []);
});

const FLOW = (from: string, to: string) =>
  `udp 17 29 src=${from} dst=10.96.0.10 sport=4000 dport=53 src=${to} dst=${from} sport=5353 dport=4000 mark=0 use=1\n`;
const DELETES = (from: string) =>
  `-D -p udp -f ipv4 -s ${from} --sport 4000 -d 10.96.0.10 --dport 53`;

Deno.test("[10.48, 10.49, 10.51, 10.52, 10.53] after a write, UDP flows to what no longer serves are forgotten", async () => {
  const bench = await new Bench().start();
  const { proc } = bench;
  proc.flows = FLOW("10.9.0.1", "10.1.0.1") + FLOW("10.9.0.2", "10.1.0.2") +
    FLOW("10.9.0.3", "10.96.0.10");
  // A flow from before the Service was there leads to no endpoint of it.
  await bench.sync(bench.set("default/dns", ["10.1.0.1", "10.1.0.2"]));
  assert.deepEqual(proc.deleted.splice(0), [DELETES("10.9.0.3")]);
  await bench.sync(bench.set("default/dns", ["10.1.0.1"]));
  assert.deepEqual(proc.deleted.splice(0), [
    DELETES("10.9.0.2"),
    DELETES("10.9.0.3"),
  ]);
  await bench.sync(bench.set("default/dns", []));
  assert.equal(proc.deleted.splice(0).length, 3);
  await bench.sync(bench.set("default/dns", ["10.1.0.1", "10.1.0.2"]));
  proc.deleted.splice(0);
  await bench.sync(bench.set("default/dns"));
  assert.equal(proc.deleted.length, 3);
});

Deno.test("[10.54] without conntrack rules are written all the same, and that is said once", async () => {
  await using log = await collectLog("warn");
  const bench = await new Bench().start();
  bench.proc.hasConntrack = false;
  for (const ip of ["10.1.0.1", "10.1.0.2"]) {
    const changes = bench.set("default/dns", [ip]);
    assert.equal(await bench.sync(changes), "done");
  }
  // The Service has no IPv6, so that nobody asks for flows of it.
  assert.equal(log.lines.length, 1);
  assert.match(log.lines[0] ?? "", /Cannot forget UDP flows.*family=IPv4/);
});

Deno.test("a mark that cannot be written keeps no Service waiting, and is tried again", async () => {
  await using log = await collectLog("error");
  const bench = await new Bench().start();
  const { driver, proc } = bench;
  await bench.sync();
  proc.values.set(LOCALNET_PATH, "0");
  driver.wanted = [LOCALNET];
  driver.isMarkBroken = true;
  assert.equal(await bench.sync(bench.set("default/a", [])), "again");
  assert.equal(await bench.sync(bench.set("default/b", [])), "again");
  assert.deepEqual(driver.ipv4.writes, ["all", "default/a", "default/b"]);
  assert.equal(log.lines.length, 1);
  driver.isMarkBroken = false;
  assert.equal(await bench.sync(), "done");
  assert.equal(proc.values.get(LOCALNET_PATH), "1");
  assert.equal(driver.mark?.get(LOCALNET.name), "0");
});

Deno.test("flows that could not be forgotten are looked at again until they can", async () => {
  await using log = await collectLog("warn");
  const bench = await new Bench().start();
  const { proc } = bench;
  await bench.sync(bench.set("default/dns", ["10.1.0.1", "10.1.0.2"]));
  proc.flows = FLOW("10.9.0.1", "10.1.0.1") + FLOW("10.9.0.2", "10.1.0.2") +
    FLOW("10.9.0.3", "10.1.0.3");
  proc.isBusy = true;
  // It moves on, and is gone in the end: what it had is not forgotten here.
  for (const endpoints of [["10.1.0.2"], ["10.1.0.3"], undefined]) {
    const changes = bench.set("default/dns", endpoints);
    assert.equal(await bench.sync(changes), "again");
  }
  await bench.sync(bench.set("default/dns", ["10.1.0.3"]));
  assert.equal(log.lines.length, 1);
  assert.deepEqual(proc.deleted, []);
  proc.isBusy = false;
  assert.equal(await bench.sync(), "done");
  assert.deepEqual(proc.deleted, [DELETES("10.9.0.1"), DELETES("10.9.0.2")]);
  assert.equal(await bench.sync(), "done");
  assert.equal(proc.deleted.length, 2);
  // The rules themselves were written each time.
  assert.equal(bench.driver.ipv4.writes.length, 5);
});

Deno.test("an error of any kind in one family is no matter for the other", async () => {
  await using log = await collectLog("error");
  const bench = await new Bench().start();
  const { driver } = bench;
  await bench.sync();
  driver.ipv6.error = new TypeError("a bug");
  assert.equal(await bench.sync(bench.set("default/a", [])), "again");
  await bench.proxier.repair(signal);
  assert.equal(await bench.sync(bench.set("default/b", [])), "again");
  assert.deepEqual(driver.ipv4.writes, ["all", "default/a", "default/b"]);
  assert.match(log.lines.join(), /Cannot program IPv6; trying again.*a bug/);
  driver.ipv6.error = undefined;
  assert.equal(await bench.sync(), "done");
  assert.deepEqual(driver.ipv6.writes, ["all", "all"]);
});

Deno.test("a family that cannot tell whether its rules are there writes all of them", async () => {
  await using _log = await collectLog("error");
  const bench = await new Bench().start();
  const { ipv4, ipv6 } = bench.driver;
  await bench.sync();
  ipv4.error = new TypeError("a bug");
  ipv6.isThere = false;
  await bench.proxier.repair(signal);
  ipv4.error = undefined;
  await bench.sync();
  assert.deepEqual(ipv4.writes, ["all", "all"]);
  assert.deepEqual(ipv6.writes, ["all", "all"]);
});

Deno.test("kernel parameters that fail in an unknown way lose no change of a Service", async () => {
  await using _log = await collectLog("error");
  const bench = await new Bench().start();
  await bench.sync();
  bench.driver.sysctls = () => {
    throw new TypeError("a bug");
  };
  assert.equal(await bench.sync(bench.set("default/a", [])), "again");
  assert.deepEqual(bench.driver.ipv4.writes, ["all", "default/a"]);
});

/**
 * `route` with the real `ip` in a node's namespace, and what packets then do.
 * The same promises as in `test/proxy/rules/route_test.ts`, so that the fake
 * there stays honest.
 */
import assert from "node:assert/strict";
import { chooseSteering } from "../../proxy/rules/mod.ts";
import { RouteSteering } from "../../proxy/rules/route.ts";
import type { ServiceAddress } from "../../proxy/steering.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import { testWith } from "../support/needs.ts";

const V4 = "10.96.0.0/16";
const V6 = "fd00:96::/112";
const { signal } = new AbortController();

const NO_FACTS = {
  apiServers: new Set<string>(),
  podCidrs: [],
  endpoints: new Set<string>(),
};

function routeOn(node: Namespace, cidrs: readonly string[]): RouteSteering {
  const { runner } = node;
  return new RouteSteering({
    cidrs,
    runner,
    clusterFacts: () => NO_FACTS,
    os: "linux",
  });
}

function address(ip: string): ServiceAddress {
  return {
    kind: "ClusterIP",
    ip,
    port: 80,
    protocol: "TCP",
    name: "default/web:http",
  };
}

/** All routes and addresses, byte for byte, without what counts down. */
async function dump(node: Namespace): Promise<string> {
  const parts = [
    await node.run(["ip", "-4", "route", "show", "table", "all"]),
    await node.run(["ip", "-6", "route", "show", "table", "all"]),
    await node.run(["ip", "addr", "show", "dev", "lo"]),
  ];
  return parts.join("\n").replaceAll(/ (expires|valid_lft) \d+sec/g, "");
}

testWith(
  [netns],
  "[12.62] route adds, adopts, repairs and cleans up real routes, twice, and leaves foreign ones alone",
  async (t) => {
    await using net = await Network.create({ hosts: ["outside"] });
    const { node } = net;
    await node.run(["ip", "-batch", "-"], {
      stdin: [
        "route add local 10.1.0.0/16 dev lo",
        "route add local 10.2.0.0/16 dev lo proto 99",
        "route add 10.3.0.0/16 dev cbr0 proto 107",
        "route add blackhole 10.4.0.0/16",
        "addr add fd00:1::1/128 dev lo",
        "addr add fd00:1::2/128 dev lo metric 77",
        "",
      ].join("\n"),
    });
    const before = await dump(node);
    const addresses = ["10.96.0.10", "10.97.0.1", "fd00:96::a"].map(address);
    const steering = routeOn(node, [V4, V6]);

    await t.step("adds", async () => {
      await steering.start(signal);
      const prepared = await steering.prepare(addresses, signal);
      assert.deepEqual(prepared, { written: 2, failures: [] });
      const after = await dump(node);
      assert.match(after, /^local 10\.96\.0\.0\/16 dev lo .*proto 107/m);
      assert.match(after, /^local fd00:96::\/112 dev lo .*proto 107/m);
      assert.match(after, /^local 10\.97\.0\.1 dev lo .*proto 107/m);
      assert.match(after, /inet6 fd00:96::a\/128 metric 10701 .*deprecated/);
    });

    await t.step("adopts", async () => {
      const installed = await dump(node);
      const next = routeOn(node, [V4, V6]);
      await next.start(signal);
      const prepared = await next.prepare(addresses, signal);
      assert.deepEqual(prepared, { written: 0, failures: [] });
      assert.equal(await dump(node), installed);
    });

    await t.step("repairs", async () => {
      const nothing = { written: 0, failures: [] };
      assert.deepEqual(await steering.repair(signal), nothing);
      const installed = await dump(node);
      await node.run(["ip", "route", "del", "local", V4, "dev", "lo"]);
      await node.run([
        "ip",
        "-6",
        "addr",
        "del",
        "fd00:96::a/128",
        "dev",
        "lo",
      ]);
      const repaired = await steering.repair(signal);
      assert.deepEqual(repaired, { written: 2, failures: [] });
      assert.equal(await dump(node), installed);
    });

    await t.step("takes back what nobody wants", async () => {
      const released = addresses.slice(1);
      const changes = { opened: [], closed: [], released };
      const synced = await steering.sync(changes, signal);
      assert.deepEqual(synced, { written: 2, failures: [] });
      assert.doesNotMatch(await dump(node), /10\.97\.0\.1|fd00:96::a/);
      await steering.prepare(released, signal);
    });

    await t.step("cleans up, twice", async () => {
      await steering.cleanup(signal);
      assert.equal(await dump(node), before);
      await steering.cleanup(signal);
      await routeOn(node, []).cleanup(signal);
      assert.equal(await dump(node), before);
    });
  },
);

testWith(
  [netns],
  "route refuses on a real machine, and changes nothing",
  async () => {
    await using net = await Network.create({ hosts: ["outside"] });
    const { node, pods: [pod1] } = net;
    assert.ok(pod1 !== undefined);
    const before = await dump(node);
    const table: readonly [string, string][] = [
      ["10.244.0.0/16", "the node's own address 10.244.0.1"],
      ["192.0.2.0/29", "the gateway 192.0.2.1"],
      ["fd00:244::/64", "the node's own address fd00:244::1"],
      ["fd00:2::/125", "the gateway fd00:2::1"],
    ];
    for (const [cidr, what] of table) {
      await assert.rejects(routeOn(node, [V4, cidr]).start(signal), {
        name: "SteeringError",
        message:
          `Cannot steer by route: ${cidr} must not become local: it contains ${what}`,
      });
    }
    const served = new RouteSteering({
      cidrs: [V4],
      runner: node.runner,
      clusterFacts: () => ({ ...NO_FACTS, endpoints: new Set(["10.96.7.7"]) }),
      os: "linux",
    });
    await assert.rejects(served.start(signal), /endpoint address 10\.96\.7\.7/);
    assert.equal(await dump(node), before);
  },
);

testWith(
  [netns],
  "route leads pods, the node and a pod's own Service to a listener, and refuses other ports",
  async () => {
    await using net = await Network.create({ hosts: ["outside"] });
    const { node, pods: [pod1, pod2] } = net;
    assert.ok(pod1 !== undefined && pod2 !== undefined);
    const steering = routeOn(node, [V4, V6]);
    await steering.start(signal);
    const ips = ["10.96.0.10", "fd00:96::a"];
    const prepared = await steering.prepare(ips.map(address), signal);
    assert.deepEqual(prepared.failures, []);
    await using _listener = await node.endpoint(
      ips.flatMap((ip) => [`tcp/${ip}/80`, `udp/${ip}/53`]),
      "service",
    );
    const clients: readonly [Namespace, string | undefined][] = [
      [pod1, undefined],
      [pod2, undefined],
      // The node's packets to a local address leave from that address.
      [node, "itself"],
    ];
    for (const ip of ips) {
      for (const [client, self] of clients) {
        const family = ip.includes(":") ? client.ipv6 : client.ipv4;
        const seen = self === undefined ? family : ip;
        const quoted = seen.includes(":") ? `[${seen}]` : seen;
        for (const [protocol, port] of [["tcp", 80], ["udp", 53]] as const) {
          const reply = await client.dial(protocol, ip, {
            port,
            text: "hello",
          });
          const want = new RegExp(
            `^service ${RegExp.escape(quoted)}:\\d+\nhello$`,
          );
          assert.match(reply, want, `${client.name} ${protocol} ${ip}`);
        }
        assert.equal(
          await client.dial("tcp", ip, { port: 81 }),
          "error: ConnectionRefused",
        );
      }
      const unserved = ip.replace(/.$/, "9");
      assert.equal(
        await pod1.dial("tcp", unserved, { port: 80 }),
        "error: ConnectionRefused",
      );
    }
    // A deprecated address is not chosen for the node's own connections.
    await using _outside = await net.host("outside").endpoint([
      "tcp/fd00:2::12/80",
    ]);
    assert.match(
      await node.dial("tcp", "fd00:2::12", { port: 80 }),
      /^outside \[fd00:2::11\]:/,
    );
  },
);

testWith(
  [netns],
  "route works one address at a time where the CIDR is unknown",
  async () => {
    await using net = await Network.create({ pods: 1 });
    const { node, pods: [pod] } = net;
    assert.ok(pod !== undefined);
    const steering = routeOn(node, []);
    await steering.start(signal);
    const ips = ["10.96.0.10", "fd00:96::a"];
    await steering.prepare(ips.map(address), signal);
    await using _listener = await node.endpoint(
      ips.map((ip) => `tcp/${ip}/80`),
      "service",
    );
    for (const ip of ips) {
      assert.match(await pod.dial("tcp", ip, { port: 80 }), /^service /);
    }
  },
);

testWith(
  [netns],
  "route says which privilege is missing, and auto goes on without it",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const { node } = net;
    const runner = {
      run: (
        command: readonly [string, ...string[]],
        options: { signal: AbortSignal },
      ) =>
        node.runner.run(
          [
            "setpriv",
            "--bounding-set=-net_admin",
            "--inh-caps=-net_admin",
            ...command,
          ],
          options,
        ),
    };
    const before = await dump(node);
    const options = {
      takeLock: () => Promise.resolve({ [Symbol.dispose]: () => {} }),
      serviceIps: [],
      clusterFacts: () => NO_FACTS,
      signal,
      runner,
      os: "linux",
    };
    for (const cidrs of [[V4], []]) {
      await assert.rejects(chooseSteering("route", { ...options, cidrs }), {
        name: "SteeringError",
        message: /needs CAP_NET_ADMIN \(run as root\)$/,
      });
      const choice = await chooseSteering("auto", { ...options, cidrs });
      assert.equal(choice.steering.name, "none");
      const route = choice.rejected.find(({ name }) => name === "route");
      assert.match(route?.why ?? "", /needs CAP_NET_ADMIN/);
    }
    assert.equal(await dump(node), before);
  },
);

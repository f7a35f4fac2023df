/**
 * `redirect` with real programs in a node's namespace, and what packets then
 * do. Everything is done with both kinds of iptables.
 */
import assert from "node:assert/strict";
import { CommandError, type CommandRunner } from "../../proxy/rules/command.ts";
import { RedirectSteering } from "../../proxy/rules/redirect.ts";
import type { AddressKind, ServiceAddress } from "../../proxy/steering.ts";
import { eventually } from "../support/loopback.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import { program, testWith } from "../support/needs.ts";

const KINDS = ["nft", "legacy"] as const;
const { signal } = new AbortController();

function address(
  ip: string,
  port = 80,
  more: { protocol?: "TCP" | "UDP"; kind?: AddressKind } = {},
): ServiceAddress {
  const { protocol = "TCP", kind = "ClusterIP" } = more;
  return { ip, port, protocol, kind, name: "default/web:http" };
}

/** A machine with one kind of iptables. */
function only(kind: string, node: Namespace): CommandRunner {
  return {
    run: (command, options) => {
      const [name] = command;
      if (!/^ip6?tables/.test(name) || name.includes(kind)) {
        return node.runner.run(command, options);
      }
      const cause = new Deno.errors.NotFound(name);
      throw new CommandError(`No ${name}`, { command, cause });
    },
  };
}

function redirectOn(node: Namespace, kind: string): RedirectSteering {
  return new RedirectSteering({ runner: only(kind, node), os: "linux" });
}

/** All rules, byte for byte, without what counts. */
async function dump(node: Namespace, kind: string): Promise<string> {
  const parts = await Promise.all([
    node.run([`iptables-${kind}-save`]),
    node.run([`ip6tables-${kind}-save`]),
    node.run(["ip", "-4", "route", "show", "table", "all"]),
    node.run(["ip", "addr", "show", "dev", "lo"]),
  ]);
  return parts.join("\n").replaceAll(/^#.*$/gm, "").replaceAll(
    / \[\d+:\d+\]$|( (expires|valid_lft) \d+sec)/gm,
    "",
  );
}

/** Binds and steers addresses to endpoints that say who they are. */
async function serve(
  steering: RedirectSteering,
  node: Namespace,
  addresses: readonly ServiceAddress[],
) {
  const prepared = await steering.prepare(addresses);
  assert.deepEqual(prepared.failures, []);
  const opened = addresses.map((address) => {
    const listen = steering.bindAddress(address);
    assert.ok(listen !== undefined);
    return { address, listen };
  });
  const child = await node.endpoint(
    opened.map(({ address, listen }) =>
      `${address.protocol.toLowerCase()}/${listen.ip}/${listen.port}`
    ),
    "service",
  );
  const changes = { opened, closed: [], released: [] };
  const result = await steering.sync(changes, signal);
  assert.deepEqual(result.failures, []);
  return { child, opened, result };
}

for (const kind of KINDS) {
  const needs = [netns, program(`iptables-${kind}-restore`)];

  testWith(
    needs,
    `redirect leads pods, the node and others to a listener, iptables-${kind}`,
    async (t) => {
      await using net = await Network.create({ hosts: ["outside"] });
      const { node, pods: [pod1, pod2] } = net;
      assert.ok(pod1 !== undefined && pod2 !== undefined);
      const outside = net.host("outside");
      const steering = redirectOn(node, kind);
      await steering.start(signal);
      assert.match(steering.description, new RegExp(`iptables-${kind}`));
      const external = ["198.51.100.7", "fd00:51::7"];
      for (const ip of external) {
        const via = ip.includes(":") ? node.ipv6 : node.ipv4;
        await outside.run(["ip", "route", "add", ip, "via", via]);
      }
      const clusterIps = ["10.96.0.10", "fd00:96::a"];
      const refused = ["10.96.0.99", "fd00:96::99"];
      const tcpAndUdp = (ip: string, kind: AddressKind, port: number) => [
        address(ip, port, { kind }),
        address(ip, port, { kind, protocol: "UDP" }),
      ];
      const { child, opened } = await serve(steering, node, [
        ...clusterIps.flatMap((ip) => tcpAndUdp(ip, "ClusterIP", 80)),
        ...external.flatMap((ip) => tcpAndUdp(ip, "ExternalIP", 80)),
        ...[node.ipv4, node.ipv6].flatMap((ip) =>
          tcpAndUdp(ip, "NodePort", 30_080)
        ),
      ]);
      await using _child = child;
      const reaches = async (
        client: Namespace,
        ip: string,
        { port, via }: { port: number; via?: string },
      ) => {
        const own = via ?? (ip.includes(":") ? client.ipv6 : client.ipv4);
        const quoted = own.includes(":") ? `[${own}]` : own;
        for (const protocol of ["tcp", "udp"] as const) {
          const reply = await client.dial(protocol, ip, {
            port,
            text: "hello",
          });
          const want = new RegExp(
            `^service ${RegExp.escape(quoted)}:\\d+\nhello$`,
          );
          assert.match(reply, want, `${client.name} ${protocol} ${ip}`);
        }
      };
      await t.step("pod → ClusterIP", async () => {
        for (const ip of clusterIps) {
          await reaches(pod1, ip, { port: 80 });
          await reaches(pod2, ip, { port: 80 });
        }
      });
      await t.step("node → ClusterIP", async () => {
        for (const ip of clusterIps) await reaches(node, ip, { port: 80 });
      });
      await t.step("[6.23, 12.11] outside → NodePort, externalIP", async () => {
        for (const ip of [node.ipv4, node.ipv6]) {
          await reaches(outside, ip, { port: 30_080 });
          await reaches(pod1, ip, { port: 30_080 });
          await reaches(node, ip, { port: 30_080 });
        }
        for (const ip of external) {
          await reaches(outside, ip, { port: 80 });
          await reaches(pod1, ip, { port: 80 });
        }
      });
      await t.step("refused without a listener, not routed out", async () => {
        await steering.prepare(refused.flatMap((ip) => [
          address(ip),
          address(ip, 80, { protocol: "UDP" }),
        ]));
        await steering.sync({ opened: [], closed: [], released: [] }, signal);
        for (const ip of refused) {
          for (const client of [pod1, node]) {
            assert.equal(
              await client.dial("tcp", ip, { port: 80 }),
              "error: ConnectionRefused",
              `${client.name} ${ip}`,
            );
          }
        }
      });
      await t.step("no back door", async () => {
        const ips = new Set(opened.map(({ listen }) => listen.ip));
        assert.equal(ips.size, 2);
        for (const ip of ips) {
          const via = ip.includes(":") ? node.ipv6 : node.ipv4;
          await outside.run(["ip", "route", "add", ip, "via", via]);
        }
        const tries = opened.slice(0, 4).flatMap(({ address, listen }) => {
          const protocol = address.protocol === "TCP" ? "tcp" : "udp";
          return [outside, pod1].map(async (client) => {
            const { ip, port } = listen;
            const reply = await client.dial(protocol, ip, { port, text: "x" });
            assert.equal(reply, "error: Timeout", `${client.name} ${ip}`);
          });
        });
        await Promise.all(tries);
        const { listen: { port } } = opened[0] ?? assert.fail();
        assert.equal(
          await outside.dial("tcp", node.ipv4, { port }),
          "error: ConnectionRefused",
        );
      });
    },
  );

  testWith(
    needs,
    `redirect adopts, repairs and cleans up, twice, and leaves foreign rules alone, iptables-${kind}`,
    async (t) => {
      await using net = await Network.create({ pods: 1 });
      const { node, pods: [pod] } = net;
      assert.ok(pod !== undefined);
      for (const program of [`iptables-${kind}`, `ip6tables-${kind}`]) {
        await node.run([`${program}-restore`, "--noflush"], {
          stdin: FOREIGN_RULES,
        });
      }
      const before = await dump(node, kind);
      const ips = ["10.96.0.10", "fd00:96::a"];
      const all = ips.flatMap((ip) => [
        address(ip),
        address(ip, 53, { protocol: "UDP" }),
        address(ip, 30_080, { kind: "NodePort" }),
      ]);
      const steering = redirectOn(node, kind);
      await steering.start(signal);
      const { child, opened } = await serve(steering, node, all);
      const installed = await dump(node, kind);
      const nothing = { written: 0, failures: [] };
      const reaches = async () => {
        for (const ip of ips) {
          assert.match(await pod.dial("tcp", ip, { port: 80 }), /^service /);
        }
      };

      await t.step("adds", async () => {
        assert.match(
          installed,
          /-A KUBE-PORTALS-CONTAINER -d 10\.96\.0\.10\/32 -p tcp -m comment --comment "default\/web:http" -m tcp --dport 80 -j DNAT --to-destination 169\.254\.107\.1:\d+/,
        );
        await reaches();
      });

      await t.step("adopts after a crash", async () => {
        child.kill("SIGKILL");
        await child[Symbol.asyncDispose]();
        const next = redirectOn(node, kind);
        await next.start(signal);
        const again = await serve(next, node, all);
        await using _child = again.child;
        assert.equal(again.result.written, 0);
        assert.deepEqual(again.opened, opened);
        assert.equal(await dump(node, kind), installed);
        await reaches();

        assert.deepEqual(await next.repair(signal), nothing);
        await flush(node, kind);
        const repaired = await next.repair(signal);
        assert.deepEqual(repaired.failures, []);
        assert.ok(repaired.written > 10);
        assert.deepEqual(sorted(await dump(node, kind)), sorted(installed));
        await reaches();
        assert.deepEqual(await next.repair(signal), nothing);

        const released = all.filter(({ port }) => port === 53);
        await next.sync({ opened: [], closed: [], released }, signal);
        assert.doesNotMatch(await dump(node, kind), /dport 53/);
        await reaches();
      });

      await t.step("cleans up, twice", async () => {
        await redirectOn(node, kind).cleanup(signal);
        assert.equal(await dump(node, kind), before);
        await steering.cleanup(signal);
        assert.equal(await dump(node, kind), before);
      });
    },
  );
}

/** As somebody does who wants to begin anew, and puts the own rules back. */
async function flush(node: Namespace, kind: string): Promise<void> {
  for (const program of [`iptables-${kind}`, `ip6tables-${kind}`]) {
    for (const table of ["raw", "nat"]) {
      await node.run([program, "-t", table, "-F"]);
    }
    const ofTwo = FOREIGN_RULES.split("COMMIT\n").filter((table) =>
      /^\*(raw|nat)/.test(table)
    ).map((table) => `${table.replaceAll(/^:.*\n/gm, "")}COMMIT\n`);
    const stdin = ofTwo.join("");
    await node.run([`${program}-restore`, "--noflush"], { stdin });
  }
  await node.run(["ip", "route", "flush", "table", "local", "proto", "107"]);
}

testWith(
  [netns, program("iptables-nft-restore")],
  "redirect serves pods whose interface has no address on the node, as REDIRECT would not",
  async () => {
    await using net = await Network.create({ pods: 1 });
    const { node, pods: [pod] } = net;
    assert.ok(pod !== undefined);
    // As Calico and the AWS VPC CNI have it: routes instead of a subnet.
    const [{ address: bridge }] = JSON.parse(
      await node.run(["ip", "-json", "link", "show", "cbr0"]),
    );
    await node.run(["ip", "-batch", "-"], {
      stdin: `addr flush dev cbr0
route add ${pod.ipv4} dev cbr0
addr add 192.0.2.11/32 dev lo
`,
    });
    const gateway = ["10.244.0.1", "lladdr", bridge, "dev", "eth0"] as const;
    await pod.run(["ip", "neigh", "replace", ...gateway, "nud", "permanent"]);
    const steering = redirectOn(node, "nft");
    await steering.start(signal);
    const { child } = await serve(steering, node, [address("10.96.0.10")]);
    await using _child = child;
    assert.match(
      await pod.dial("tcp", "10.96.0.10", { port: 80 }),
      /^service /,
    );

    await node.run(["iptables-nft-restore", "--noflush"], {
      stdin: `*nat
-I PREROUTING 1 -d 10.96.0.11 -p tcp --dport 80 -j REDIRECT --to-ports 9999
COMMIT
`,
    });
    await using _wildcard = await node.endpoint(["tcp/0.0.0.0/9999"]);
    assert.equal(
      await pod.dial("tcp", "10.96.0.11", { port: 80, timeoutMs: 1_000 }),
      "error: Timeout",
    );
  },
);

testWith(
  [netns, program("iptables-nft-restore"), program("conntrack")],
  "redirect leads UDP clients to the new port of their Service, and to the first",
  async (t) => {
    await using net = await Network.create({ pods: 1, hosts: ["outside"] });
    const { node, pods: [pod] } = net;
    assert.ok(pod !== undefined);
    // A node as it is: it routes, and has rules that track connections.
    await node.run([
      "sysctl",
      "-qw",
      "net.ipv4.ip_forward=1",
      "net.ipv6.conf.all.forwarding=1",
    ]);
    for (const program of ["iptables-nft", "ip6tables-nft"]) {
      const tracked = ["-m", "conntrack", "--ctstate", "INVALID"] as const;
      await node.run([program, "-A", "FORWARD", ...tracked, "-j", "DROP"]);
    }
    const steering = redirectOn(node, "nft");
    await steering.start(signal);
    const dns = ["10.96.0.10", "fd00:96::a"].map((ip) =>
      address(ip, 53, { protocol: "UDP" })
    );
    // They send from one port, and began before there was a rule.
    const clients = dns.map(({ ip }) =>
      pod.startDeno("test/support/udp_client.ts", [ip, "53"])
    );
    await using stack = new AsyncDisposableStack();
    for (const client of clients) stack.use(client);
    for (const family of ["ipv4", "ipv6"]) {
      const list = ["conntrack", "-L", "-p", "udp", "-f", family] as const;
      await eventually(
        `a flow of ${family}`,
        () => node.run([...list]),
        (flows) => flows.includes("dport=53"),
      );
    }
    const { child } = await serve(steering, node, dns);
    stack.use(child);
    await t.step("to the first", async () => {
      for (const client of clients) await client.waitFor("answer service");
    });
    await t.step("to another", async () => {
      const inUse = new Deno.errors.AddrInUse("as if");
      const opened = dns.map((address) => {
        const listen = steering.fallbackAddress(address, inUse);
        assert.ok(listen !== undefined);
        return { address, listen };
      });
      const places = opened.map(({ listen }) =>
        `udp/${listen.ip}/${listen.port}`
      );
      stack.use(await node.endpoint(places, "another"));
      await steering.sync({ opened, closed: [], released: [] }, signal);
      for (const client of clients) await client.waitFor("answer another");
    });
  },
);

function sorted(text: string): string[] {
  return text.split("\n").sort();
}

const FOREIGN_RULES = `*raw
:FOREIGN - [0:0]
-A PREROUTING -j FOREIGN
COMMIT
*mangle
-A PREROUTING -m comment --comment "KUBE-PORTALS-CONTAINER is not here" -j MARK --set-xmark 0x4000/0x4000
COMMIT
*filter
:FOREIGN - [0:0]
-A INPUT -p tcp -m tcp --dport 12345 -j FOREIGN
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:FOREIGN - [0:0]
-A PREROUTING -m comment --comment "first \\"of all\\"" -j FOREIGN
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j FOREIGN
-A KUBE-SERVICES -p udp -m udp --dport 9 -j RETURN
COMMIT
`;

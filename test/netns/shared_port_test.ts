/**
 * `redirect` with one port for all TCP addresses, with real programs in a
 * node's namespace: sets of ipset, and maps of nft. What is asserted of rules
 * is that they do not grow; what is asserted of packets, where they go.
 */
import assert from "node:assert/strict";
import type { IpFamily } from "../../proxy/ip.ts";
import { CommandError, type CommandRunner } from "../../proxy/rules/command.ts";
import { RedirectSteering } from "../../proxy/rules/redirect.ts";
import { REDIRECT_TARGETS } from "../../proxy/rules/redirection.ts";
import type { ServiceAddress } from "../../proxy/steering.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";

const { signal } = new AbortController();
const NOTHING = { opened: [], closed: [], released: [] };
const REFUSED = "error: ConnectionRefused";
const FAMILIES = ["IPv4", "IPv6"] as const;
const KINDS = ["iptables-nft", "iptables-legacy", "nft"] as const;

function address(
  ip: string,
  port = 80,
  more: Partial<ServiceAddress> = {},
): ServiceAddress {
  const name = "default/web:http";
  return { kind: "ClusterIP", ip, port, protocol: "TCP", name, ...more };
}

function clusterIp(family: IpFamily, n: number): string {
  return family === "IPv4"
    ? `10.96.${n >> 8}.${n & 255}`
    : `fd00:96::${n.toString(16)}`;
}

/** A machine with one way to write rules, and without what `lacks` names. */
function only(
  kind: typeof KINDS[number],
  { node, lacks }: { node: Namespace; lacks?: string },
): CommandRunner {
  return {
    run: (command, options) => {
      const [name] = command;
      const isRules = /^(ip6?tables|nft)/.test(name);
      const isOther = kind === "nft"
        ? name !== "nft"
        : !new RegExp(`^ip6?tables-${kind.split("-")[1]}`).test(name);
      if (name !== lacks && !(isRules && isOther)) {
        return node.runner.run(command, options);
      }
      const cause = new Deno.errors.NotFound(name);
      throw new CommandError(`No ${name}`, { command, cause });
    },
  };
}

async function dump(
  node: Namespace,
  kind: typeof KINDS[number],
): Promise<string[]> {
  const commands = kind === "nft"
    ? [["nft", "-t", "list", "ruleset"]] as const
    : [[`${kind}-save`], [kind.replace("ip", "ip6") + "-save"]] as const;
  const texts = await Promise.all(
    commands.map((command) => node.run(command as unknown as [string])),
  );
  return texts.join("").replaceAll(/^#.*$| \[\d+:\d+\]$/gm, "").split("\n")
    // A table that has nothing but its built-in chains is none.
    .filter((line) => kind === "nft" ? line !== "" : /^-A|^:.* -$/.test(line));
}

/** A pass in which every listener can be opened; none is, really. */
async function serve(
  steering: RedirectSteering,
  addresses: readonly ServiceAddress[],
) {
  await steering.prepare(addresses);
  const opened = addresses.map((address) => {
    const listen = steering.bindAddress(address);
    assert.ok(listen !== undefined);
    return { address, listen };
  });
  const result = await steering.sync({ ...NOTHING, opened }, signal);
  assert.deepEqual(result.failures, []);
  return { opened, written: result.written };
}

for (const kind of KINDS) {
  const needs = [
    netns,
    program(kind === "nft" ? "nft" : `${kind}-restore`),
    program("ipset"),
  ];
  const start = async (
    node: Namespace,
    { sharesTcp = true, lacks }: { sharesTcp?: boolean; lacks?: string } = {},
  ) => {
    const runner = only(kind, lacks === undefined ? { node } : { node, lacks });
    const steering = new RedirectSteering({ runner, os: "linux", sharesTcp });
    await steering.start(signal);
    return steering;
  };

  testWith(
    needs,
    `redirect leads all TCP addresses to one port, ${kind}`,
    async (t) => {
      await using net = await Network.create({ hosts: ["outside"] });
      const { node, pods: [pod] } = net;
      assert.ok(pod !== undefined);
      const outside = net.host("outside");
      const before = await dump(node, kind);
      let steering = await start(node);
      if (kind !== "nft") assert.match(steering.description, /with ipset/);
      const web = FAMILIES.flatMap((family) =>
        [1, 2, 3].map((n) => address(clusterIp(family, n)))
      );
      const dns = FAMILIES.map((family) =>
        address(clusterIp(family, 1), 53, { protocol: "UDP" })
      );
      const nodePorts = [node.ipv4, node.ipv6].map((ip) =>
        address(ip, 30_080, { kind: "NodePort" })
      );
      const all = [...web, ...dns, ...nodePorts];
      const { opened } = await serve(steering, all);
      const binds = new Set(
        opened.map(({ address, listen }) =>
          `${address.protocol.toLowerCase()}/${listen.ip}/${listen.port}`
        ),
      );
      assert.equal(binds.size, 4);
      await using _child = await node.endpoint([...binds], "service");
      const reach = async (from: Namespace, each: ServiceAddress) => {
        const protocol = each.protocol === "TCP" ? "tcp" : "udp";
        const { port } = each;
        const options = { port, text: "hello", timeoutMs: 2_000 };
        const reply = await from.dial(protocol, each.ip, options);
        return reply.split(" ")[0] === "service" ? "service" : reply;
      };

      await t.step("pods, the node and others reach them", async () => {
        for (const client of [pod, node]) {
          for (const each of all) {
            assert.equal(await reach(client, each), "service", each.ip);
          }
        }
        for (const each of nodePorts) {
          assert.equal(await reach(outside, each), "service", each.ip);
        }
      });
      await t.step("other ports of a cluster IP are refused", async () => {
        for (const { ip } of web) {
          for (const client of [pod, node]) {
            assert.equal(await reach(client, address(ip, 81)), REFUSED, ip);
          }
        }
      });
      await t.step("no back door", async () => {
        for (const family of FAMILIES) {
          const ip = REDIRECT_TARGETS[family];
          const via = family === "IPv4" ? node.ipv4 : node.ipv6;
          await outside.run(["ip", "route", "add", ip, "via", via]);
          const port = opened.find(({ listen }) => listen.ip === ip)
            ?.listen.port;
          assert.ok(port !== undefined);
          const options = { port, text: "x", timeoutMs: 1_000 };
          assert.equal(
            await outside.dial("tcp", ip, options),
            "error: Timeout",
          );
          assert.equal(await outside.dial("tcp", via, options), REFUSED);
        }
      });
      await t.step("endpoints that go are refused, and come back", async () => {
        const gone = [web[0], web[3], ...nodePorts]
          .filter((each) => each !== undefined);
        await steering.sync({ ...NOTHING, closed: gone }, signal);
        for (const each of gone) {
          assert.equal(await reach(pod, each), REFUSED, each.ip);
        }
        assert.equal(await reach(pod, web[1] ?? address("")), "service");
        await serve(steering, gone);
        for (const each of gone) {
          assert.equal(await reach(pod, each), "service", each.ip);
        }
      });
      await t.step("a restart finds its port and writes nothing", async () => {
        steering = await start(node);
        const again = await serve(steering, all);
        assert.deepEqual(again.opened, opened);
        assert.equal(again.written, 0);
        assert.equal((await steering.repair(signal)).written, 0);
      });
      await t.step("a run with a port for each, and back", async () => {
        const each = await start(node, { sharesTcp: false });
        const own = await serve(each, all);
        assert.ok(own.written > 0);
        const ports = new Set(own.opened.map(({ listen }) => listen.port));
        assert.ok(ports.size >= web.length);
        if (kind !== "nft") {
          assert.equal(await node.run(["ipset", "list", "-n"]), "");
        }
        steering = await start(node);
        const back = await serve(steering, all);
        await using _child = await node.endpoint(
          [
            ...new Set(
              back.opened.map(({ address, listen }) =>
                `${address.protocol.toLowerCase()}/${listen.ip}/${listen.port}`
              ),
            ),
          ].filter((bind) => !binds.has(bind)),
          "service",
        );
        for (const each of all) {
          assert.equal(await reach(pod, each), "service", each.ip);
        }
      });
      await t.step("cleanup leaves nothing, twice", async () => {
        await steering.cleanup(signal);
        await steering.cleanup(signal);
        assert.deepEqual(await dump(node, kind), before);
        assert.equal(await node.run(["ipset", "list", "-n"]), "");
      });
    },
  );

  testWith(
    needs,
    `redirect has as many rules for 500 TCP addresses as for 10, ${kind}`,
    async () => {
      await using net = await Network.create({ pods: 0 });
      const { node } = net;
      const steering = await start(node);
      const some = (first: number, last: number) =>
        Array.from(
          { length: last - first },
          (_, n) => address(clusterIp("IPv4", first + n)),
        );
      await serve(steering, some(1, 11));
      const few = await dump(node, kind);
      await serve(steering, some(11, 501));
      assert.deepEqual(await dump(node, kind), few);
      const [first] = some(1, 2);
      assert.ok(first !== undefined);
      const changed = await steering.sync(
        { ...NOTHING, released: [first] },
        signal,
      );
      assert.ok(changed.written <= 2, String(changed.written));
      await steering.cleanup(signal);
    },
  );

  if (kind === "nft") continue;
  testWith(
    needs,
    `redirect writes a rule for each address where there is no ipset, ${kind}`,
    async () => {
      await using net = await Network.create({ pods: 0 });
      const { node } = net;
      const steering = await start(node, { lacks: "ipset" });
      assert.match(steering.description, /a rule for each address \(no ipset/);
      const { opened } = await serve(steering, [
        address("10.96.0.1"),
        address("10.96.0.2"),
      ]);
      assert.equal(new Set(opened.map(({ listen }) => listen.port)).size, 1);
      const rules = (await dump(node, kind)).join("\n");
      assert.match(rules, /-d 10\.96\.0\.2\/32 -p tcp/);
      await steering.cleanup(signal);
    },
  );

  testWith(
    needs,
    `redirect leaves out what a set does not take, and no other, ${kind}`,
    async () => {
      await using net = await Network.create({ pods: 0 });
      const { node } = net;
      const steering = await start(node);
      // No set of addresses takes this one.
      const bad = address("0.0.0.0", 80, { kind: "ExternalIP" });
      const all = [address("10.96.0.1"), bad, address("10.96.0.2")];
      await steering.prepare(all);
      const opened = all.flatMap((address) => {
        const listen = steering.bindAddress(address);
        return listen === undefined ? [] : [{ address, listen }];
      });
      const { failures } = await steering.sync({ ...NOTHING, opened }, signal);
      assert.deepEqual(failures.map(({ address }) => address), [bad]);
      const saved = await node.run(["ipset", "save", "KUBE-PORTALS-OPEN"]);
      assert.deepEqual(saved.match(/(?<=^add \S+ )\S+/gm)?.sort(), [
        "10.96.0.1,tcp:80",
        "10.96.0.2,tcp:80",
      ]);
      // Somebody takes the sets' elements: they are back with a repair.
      await node.run(["ipset", "flush", "KUBE-PORTALS-OPEN"]);
      assert.ok((await steering.repair(signal)).written >= 2);
      assert.equal(
        await node.run(["ipset", "save", "KUBE-PORTALS-OPEN"])
          .then((text) => text.match(/^add /gm)?.length),
        2,
      );
      await steering.cleanup(signal);
    },
  );
}

/**
 * The nftables writer with the real `nft` in a node's namespace.
 */
import assert from "node:assert/strict";
import { NftWriter } from "../../proxy/rules/nft_writer.ts";
import {
  REDIRECT_TARGETS,
  type Redirection,
} from "../../proxy/rules/redirection.ts";
import { testRulesWriter } from "../conformance/rules_writer.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";

const { signal } = new AbortController();

/** Beside ours: a table like ours of another family, and one that does much. */
const FOREIGN = `
add table inet kube-portal
add table ip foreign { comment "of somebody else" ; }
add map ip foreign service-ips { type ipv4_addr . inet_proto . inet_service : inet_service ; }
add element ip foreign service-ips { 192.0.2.77 . tcp . 80 : 8080 }
add chain ip foreign prerouting { type nat hook prerouting priority dstnat ; }
add rule ip foreign prerouting tcp dport 7777 redirect to :8888
add chain ip6 foreign6 prerouting
`.replace(
  "add chain ip6 foreign6",
  "add table ip6 foreign6\nadd chain ip6 foreign6",
);

testRulesWriter({
  name: "nft",
  needs: [program("nft")],
  description: /^nft \d+\.\d+\.\d+$/,
  newWriter: (family, runner) => new NftWriter({ family, runner }),
  async foreignRules(node) {
    await node.run(["nft", "-f", "-"], { stdin: FOREIGN });
  },
  dump: ruleset,
  async flush(node) {
    await node.run(["nft", "flush", "ruleset"]);
  },
});

/** Of elements nft shows one order today and another tomorrow. */
async function ruleset(node: Namespace): Promise<string> {
  const text = await node.run(["nft", "-s", "list", "ruleset"]);
  const tables = text.split(/^(?=table )/m).map((table) =>
    table.replaceAll(
      /elements = \{ ([^}]*) \}/g,
      (_, list: string) => list.split(/,\s+/).sort().join(", "),
    )
  );
  return tables.sort().join("");
}

function redirection(n: number): Redirection {
  return {
    ip: `10.96.${n >> 8}.${n & 255}`,
    port: 80,
    protocol: "TCP",
    isNodePort: false,
    name: `default/web-${n}:http`,
    proxyPort: 20_000 + n % 1_000,
  };
}

async function started(node: Namespace, target?: string): Promise<NftWriter> {
  const { runner } = node;
  const writer = new NftWriter({ family: "IPv4", runner });
  await writer.probe(signal);
  await writer.use(target, signal);
  await writer.read(signal);
  return writer;
}

testWith(
  [netns, program("nft")],
  "nft holds 10,000 Services with the rules of one, and writes one element for one change",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const { node } = net;
    const rules = async () =>
      (await node.run(["nft", "-s", "list", "table", "ip", "kube-portal"]))
        .split("\n").filter((line) => line.includes('comment "kube-portal:'));
    const writer = await started(node, REDIRECT_TARGETS.IPv4);
    await writer.apply({ add: [redirection(0)], remove: [] }, signal);
    const one = await rules();
    assert.equal(one.length, 5);
    const add = Array.from({ length: 9_999 }, (_, n) => redirection(n + 1));
    const loaded = await writer.apply({ add, remove: [] }, signal);
    assert.equal(loaded.written, 9_999);
    assert.deepEqual(await rules(), one);
    const more = { add: [redirection(10_000)], remove: [redirection(7)] };
    assert.deepEqual(await writer.apply(more, signal), {
      written: 2,
      refused: new Map(),
    });
    const { redirections } = await writer.read(signal);
    assert.equal(redirections.size, 10_000);
  },
);

testWith(
  [netns, program("nft")],
  "nft makes its table anew, at once, where somebody changed it",
  async (t) => {
    await using net = await Network.create({ pods: 0 });
    const { node } = net;
    const tampers: readonly [string, string][] = [
      ["a rule is gone", "flush chain ip kube-portal KUBE-PORTALS-DIRECT"],
      ["a rule is new", "insert rule ip kube-portal KUBE-PORTALS-HOST accept"],
      ["a chain is new", "add chain ip kube-portal mine"],
      [
        "a map is new",
        "add map ip kube-portal m { type ipv4_addr : verdict ; }",
      ],
      ["it sleeps", "add table ip kube-portal { flags dormant ; }"],
      [
        "an address is in both maps",
        "add element ip kube-portal node-ports { 10.96.0.1 . tcp . 80 : 7 }",
      ],
      [
        "an element leads nowhere",
        "add element ip kube-portal service-ips { 10.96.0.9 . sctp . 80 : 7 }",
      ],
      ["the table is gone", "delete table ip kube-portal"],
    ];
    for (const target of [REDIRECT_TARGETS.IPv4, undefined]) {
      const add = [redirection(0), redirection(1)];
      const writer = await started(node, target);
      await writer.apply({ add, remove: [] }, signal);
      const right = await ruleset(node);
      for (const [name, command] of tampers) {
        await t.step(`${name}, target ${target}`, async () => {
          await node.run(["nft", "-f", "-"], { stdin: `${command}\n` });
          const { redirections } = await writer.read(signal);
          const missing = add.filter(({ ip }) =>
            ![...redirections.values()].some((each) =>
              each.ip === ip && !each.isNodePort
            )
          );
          const result = await writer.apply({ add, remove: [] }, signal);
          assert.ok(result.written > missing.length);
          assert.equal(await ruleset(node), right);
          await writer.read(signal);
          const again = await writer.apply({ add, remove: [] }, signal);
          assert.equal(again.written, 0);
        });
      }
      await t.step(`nothing is wanted any more, target ${target}`, async () => {
        await node.run(["nft", "add", "chain", "ip", "kube-portal", "mine"]);
        await writer.read(signal);
        await writer.apply({ add: [], remove: add }, signal);
        assert.equal(await ruleset(node), "");
      });
    }
  },
);

testWith(
  [netns, program("nft")],
  "nft leaves out what the kernel refuses, names it, and writes the others",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const writer = await started(net.node, REDIRECT_TARGETS.IPv4);
    const good = redirection(1);
    const bad = [
      { ...redirection(2), ip: "not-an-address" },
      { ...redirection(3), proxyPort: 70_000 },
    ];
    const result = await writer.apply(
      { add: [bad[0], good, bad[1]].flatMap((each) => each ?? []), remove: [] },
      signal,
    );
    assert.deepEqual([...result.refused.keys()].sort(), [
      "10.96.0.3:80/TCP",
      "not-an-address:80/TCP",
    ]);
    const { redirections } = await writer.read(signal);
    assert.deepEqual([...redirections.keys()], ["10.96.0.1:80/TCP"]);
  },
);

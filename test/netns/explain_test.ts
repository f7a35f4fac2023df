/**
 * Explanations held against the kernel: the programs of iptables and nftables
 * mode are loaded, real packets sent, and the rules that counted them, with
 * where they arrived, have to be one of the ways that were explained.
 */
import assert from "node:assert/strict";
import { explain } from "../../proxy/explain/mod.ts";
import type { Branch } from "../../proxy/explain/packet.ts";
import { TargetError } from "../../proxy/explain/target.ts";
import { compileIptables } from "../../proxy/rules/modes/iptables/compile.ts";
import { programText } from "../../proxy/rules/modes/iptables/text.ts";
import {
  type KernelMode,
  modeInput,
} from "../../proxy/rules/modes/mode_input.ts";
import { compileNftables } from "../../proxy/rules/modes/nftables/compile.ts";
import { tableText } from "../../proxy/rules/modes/nftables/text.ts";
import {
  type ClientName,
  CLIENTS,
  dialOnce,
  type ExplainedNetwork,
  explainedNetwork,
} from "../support/explained_network.ts";
import { eventually } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns } from "../support/netns.ts";

const SERVICES = 8;
/** Another one each day, and the same all day. */
const SEED = Math.floor(Date.now() / 86_400_000);

/** What a connection was seen to do. */
interface Seen {
  readonly answer: string;
  /** Whether this way is the one that it took. */
  isWay(branch: Branch): boolean;
  readonly rules: readonly string[];
}

interface Kernel {
  readonly mode: KernelMode & ("iptables" | "nftables");
  /** Loads the program anew, with nothing counted and nobody remembered. */
  load(): Promise<void>;
  /** Which rules a dial to this address has met. */
  observe(target: string, dial: () => Promise<string>): Promise<Seen>;
}

async function holds(
  network: ExplainedNetwork,
  kernel: Kernel,
): Promise<void> {
  let compared = 0;
  for (const target of network.targets) {
    for (const from of CLIENTS) {
      const branches = explained(network, { target, from, mode: kernel.mode });
      await kernel.load();
      const seen = await kernel.observe(
        target,
        () => dialOnce(network.clients[from], target, patience(branches)),
      );
      const isWay = (branch: Branch) =>
        answerOf(branch) === byNode(seen.answer) && seen.isWay(branch);
      // What the kernel tells of a packet comes a little later.
      const isTold = await eventually(
        `${from} to ${target} goes a way that was explained`,
        () => branches.some(isWay),
        Boolean,
      ).then(() => true, () => false);
      assert.ok(
        isTold,
        `${from} to ${target} (seed ${SEED}): ${seen.answer}\nby ${
          seen.rules.join("\n   ")
        }\n\nexplained: ${
          branches.map((branch) =>
            `${answerOf(branch)}\nby ${hopTexts(branch).join("\n   ")}`
          ).join("\nor ")
        }`,
      );
      compared++;
    }
  }
  assert.ok(compared >= SERVICES * CLIENTS.length);
}

function explained(
  { facts, clients }: ExplainedNetwork,
  { target, from, mode }: {
    target: string;
    from: ClientName;
    mode: KernelMode;
  },
): readonly Branch[] {
  try {
    const [explanation] = explain({
      ...facts,
      target,
      from: from === "node" ? from : clients[from].ipv4,
      modes: [mode],
    });
    return explanation?.branches ?? [];
  } catch (error) {
    if (error instanceof TargetError) return [];
    throw error;
  }
}

/**
 * What is masqueraded gets the address of the interface that it leaves by, which
 * the routes of a node decide; explain says the node's.
 */
function byNode(answer: string): string {
  return answer.replace(/ saw 10\.244\.0\.1$/, " saw 192.0.2.11");
}

/** In the words of `dialOnce`. */
function answerOf({ outcome, packet }: Branch): string {
  switch (outcome.kind) {
    case "endpoint":
      return `${packet.destination} saw ${packet.source}`;
    // Nobody listens on the node.
    case "node":
    case "refused":
      return "refused";
    case "dropped":
    case "routed":
      return "silence";
  }
}

/** Seconds; what is dropped takes them all. */
function patience(branches: readonly Branch[]): number {
  return branches.every((branch) => answerOf(branch) === "silence") ? 1 : 5;
}

function hopTexts({ hops }: Branch): string[] {
  return hops.map(({ chain, rule }) => `${chain} ${rule}`.trim());
}

function iptablesKernel({ node, facts }: ExplainedNetwork): Kernel {
  const input = modeInput({ ...facts, mode: "iptables" });
  const text = programText(compileIptables(input, { nfacct: false }), {
    jumps: true,
  });
  return {
    mode: "iptables",
    async load() {
      await node.run(["iptables-restore"], { stdin: text });
      // The kernel keeps what it remembers of clients.
      const lists = "/proc/net/xt_recent/*";
      const forget =
        `for f in ${lists}; do [ -e $f ] && echo / >$f; done; true`;
      await node.run(["sh", "-c", forget]);
    },
    async observe(_target, dial) {
      const answer = await dial();
      const rules = countedRules(await node.run(["iptables-save", "-c"]));
      return {
        answer,
        rules: [...rules],
        isWay: (branch) => {
          const hops = hopTexts(branch);
          // Later packets and answers meet rules of the filter, and of nat none.
          return hops.every((hop) => rules.has(hop)) &&
            [...rules].filter((rule) => /^KUBE-(SVC|SVL|EXT|FW|SEP)/.test(rule))
              .every((rule) => hops.includes(rule));
        },
      };
    },
  };
}

/** `KUBE-SVC-X -d 10.96.0.10/32 …` for each rule that met a packet. */
function countedRules(save: string): Set<string> {
  return new Set(
    [...save.matchAll(/^\[(\d+):\d+\] -A (.*)$/gm)]
      .filter(([, count]) => count !== "0")
      .map(([, , rule = ""]) =>
        rule.replace(/ -m comment --comment ("[^"]*"|\S+)/, "")
      ),
  );
}

async function nftablesKernel(
  stack: AsyncDisposableStack,
  { node, facts }: ExplainedNetwork,
): Promise<Kernel> {
  const input = modeInput({ ...facts, mode: "nftables" });
  const text = tableText(compileNftables(input));
  const monitor = stack.use(
    node.start(["stdbuf", "-oL", "nft", "monitor", "trace"]),
  );
  const load = async () => {
    const stdin = `table ip kube-proxy\ndelete table ip kube-proxy\n${text}`;
    await node.run(["nft", "-f", "-"], { stdin });
  };
  await load();
  await watchPackets(node, "127.0.0.1:9/UDP");
  await eventually(
    "nft tells of packets",
    async () => {
      await dialOnce(node, "127.0.0.1:9/UDP", 1);
      return monitor.output;
    },
    (output) => output.includes("trace id"),
  );
  return {
    mode: "nftables",
    load,
    async observe(target, dial) {
      await watchPackets(node, target);
      const from = monitor.output.length;
      const answer = await dial();
      const read = () => tracedChains(monitor.output.slice(from));
      return {
        answer,
        get rules() {
          return read();
        },
        // What follows is of later packets.
        isWay: ({ hops }) =>
          hops.every(({ chain }, index) => read()[index] === chain),
      };
    },
  };
}

/** Packets to this address are traced, from before any other rule. */
async function watchPackets(node: Namespace, target: string): Promise<void> {
  const [, ip, port, protocol] = /^(.*):(\d+)\/(.*)$/.exec(target) ?? [];
  const rule = `ip daddr ${ip} meta l4proto ${protocol?.toLowerCase()} ` +
    `th dport ${port} meta nftrace set 1`;
  const chain = (hook: string) =>
    `chain ${hook} { type filter hook ${hook} priority -350; ${rule}; }`;
  const table = `table ip traced {\n${chain("prerouting")}\n${
    chain("output")
  }\n}`;
  const stdin = `table ip traced\ndelete table ip traced\n${table}\n`;
  await node.run(["nft", "-f", "-"], { stdin });
}

/**
 * The chains whose rules held, one after the other. A packet may get another id
 * on its way, where a bridge hands it on, and nft does not know the text of
 * rules that were loaded after it began.
 */
function tracedChains(output: string): string[] {
  const line = /^trace id \w+ ip kube-proxy (\S+) (?:unknown )?rule /gm;
  return [...output.matchAll(line)].map(([, chain = ""]) => chain);
}

testWith(
  [netns, program("iptables"), program("bash")],
  "explain tells the way that packets take through iptables mode",
  async () => {
    await using stack = new AsyncDisposableStack();
    const network = await explainedNetwork(stack, {
      seed: SEED,
      count: SERVICES,
    });
    await holds(network, iptablesKernel(network));
  },
);

testWith(
  [netns, program("nft"), program("bash")],
  "explain tells the way that packets take through nftables mode",
  async () => {
    await using stack = new AsyncDisposableStack();
    const network = await explainedNetwork(stack, {
      seed: SEED,
      count: SERVICES,
    });
    await holds(network, await nftablesKernel(stack, network));
  },
);

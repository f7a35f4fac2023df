/**
 * One process takes over from another in the kernel modes: there are no
 * listeners to hand over, but rules that are there all the time, once.
 */
import assert from "node:assert/strict";
import { MODE_FLAGS, startModeCluster } from "../support/mode_steps.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns } from "../support/netns.ts";
import {
  serviceObjects,
  sliceObjects,
  untilAnswers,
} from "../support/node_cluster.ts";
import { SteadyLoad } from "../support/steady_load.ts";

const NODE_PORT = 30_080;
const RATE = { pod: 200, outside: 50, admin: 20 };

/** All rules, without what counts packets, each line once for each rule. */
const MODES = {
  async iptables(node: Namespace): Promise<string> {
    const [ipv4, ipv6] = [
      await node.run(["iptables-save"]),
      await node.run(["ip6tables-save"]),
    ];
    return sortedLines(ipv4) + sortedLines(ipv6);
  },
  async nftables(node: Namespace): Promise<string> {
    return sortedLines(await node.run(["nft", "-s", "list", "ruleset"]));
  },
};

function sortedLines(text: string): string {
  return text.split("\n")
    .filter((line) => !line.startsWith("#"))
    .map((line) => line.replace(/ \[\d+:\d+\]$/, ""))
    .sort().join("\n");
}

/** Looks at the rules again and again. */
class Watch {
  readonly seen = new Map<string, number>();
  readonly #looking: Promise<void>;
  #isOver = false;

  constructor(look: () => Promise<string>) {
    this.#looking = this.#look(look);
  }

  async #look(look: () => Promise<string>): Promise<void> {
    while (!this.#isOver) {
      const rules = await look();
      this.seen.set(rules, (this.seen.get(rules) ?? 0) + 1);
    }
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.#looking;
  }
}

for (const mode of ["iptables", "nftables"] as const) {
  testWith(
    [
      netns,
      ...mode === "iptables"
        ? [program("iptables"), program("ip6tables")]
        : [program("nft")],
    ],
    `a new process takes over in ${mode} mode: rules are never gone or doubled, no connection fails, and the old one ends`,
    async () => {
      await using stack = new AsyncDisposableStack();
      const args = [`--proxy-mode=${mode}`, "--take-over", ...MODE_FLAGS];
      const cluster = await startModeCluster(stack, ...args);
      const { node, outside, proxy: old } = cluster;
      const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
      await cluster.apply(...serviceObjects("web", {
        number: 10,
        endpoints: [pod1],
        ports: [{ name: "http", port: 80, nodePort: NODE_PORT }],
        spec: { type: "NodePort" },
      }));
      await untilAnswers(pod1.name, pod2, "10.96.0.10");
      const load = stack.use(new SteadyLoad());
      await load.begin(pod2, "10.96.0.10", 80, RATE.pod);
      await load.begin(outside, node.ipv4, NODE_PORT, RATE.outside);
      await load.begin(node, "127.0.0.1", 10256, RATE.admin, "/healthz");
      const rules = () => MODES[mode](node);
      const before = await rules();
      assert.match(before, /web/);
      const watch = new Watch(rules);
      await cluster.startProxy(...args);
      assert.match(cluster.proxy.output, /Took over/);
      assert.equal((await old.status).code, 0);
      await old.ended;
      assert.match(old.output, /Stopping at the take-over by version/);
      await watch.end();
      assert.deepEqual([...watch.seen.keys()], [before]);
      assert.ok(watch.seen.get(before)! > 3);
      await load.end();
      // It is the new one that steers now.
      await cluster.apply(...sliceObjects("web", { endpoints: [pod2] }));
      await untilAnswers(pod2.name, pod1, "10.96.0.10");
    },
  );
}

/**
 * An endpoint behind a firewall that swallows its packets, as a node that lost
 * power looks: the whole program, in network namespaces, with both engines.
 */
import assert from "node:assert/strict";
import { eventually } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { netns } from "../support/netns.ts";
import {
  askAll,
  NodeCluster,
  serviceObjects,
  untilAnswers,
} from "../support/node_cluster.ts";

const IP = "10.96.0.10";

/** Sums the samples of a metric, of those whose labels hold all of these. */
async function metric(
  { node }: NodeCluster,
  name: string,
  ...labels: readonly string[]
): Promise<number> {
  const text = await node.run([
    "curl",
    "-sS",
    "http://127.0.0.1:10249/metrics",
  ]);
  return text.split("\n").filter((line) =>
    line.startsWith(`${name}{`) &&
    [...labels, 'ip_family="IPv4"'].every((label) => line.includes(label))
  ).reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

testWith(
  [netns, program("curl"), program("nft")],
  "a blackholed endpoint costs a slow connection now and then, and is back when it answers",
  async (t) => {
    await using cluster = await NodeCluster.start({ pods: 4 });
    const [pod1, pod2, pod3, client] = [1, 2, 3, 4].map((n) => cluster.pod(n));
    assert.ok(pod1 && pod2 && pod3 && client);
    for (const pod of [pod1, pod2, pod3]) await cluster.serve(pod);
    await cluster.apply(...serviceObjects("web", {
      number: 10,
      endpoints: [pod1, pod2, pod3],
    }));
    const nft = (...words: string[]) => pod2.run(["nft", ...words]);
    for (const engine of ["splice", "portable"]) {
      await t.step(engine, async () => {
        await cluster.proxy[Symbol.asyncDispose]();
        await cluster.startProxy(`--engine=${engine}`);
        await untilAnswers("pod1 pod2 pod3", client, IP, { times: 3 });
        await nft("add", "table", "inet", "dead");
        await nft(
          "add chain inet dead in { type filter hook input priority 0; policy drop; }",
        );
        const since = performance.now();
        const seen = (await askAll(client, IP, { times: 60 })).split(" ");
        const seconds = (performance.now() - since) / 1_000;
        assert.equal(seen.length, 60);
        for (const [index, name] of seen.entries()) {
          assert.match(name, /^pod[13]$/);
          if (index > 0) assert.notEqual(name, seen[index - 1], seen.join(" "));
        }
        // The first one, and the trials after 1 s, 2 s, 4 s …
        const timeouts = await metric(
          cluster,
          "kube_portal_dial_failures_total",
          'reason="timeout"',
        );
        assert.ok(timeouts >= 1, String(timeouts));
        assert.ok(
          timeouts <= 2 + Math.log2(1 + seconds),
          `${timeouts} in ${seconds} s`,
        );
        assert.equal(await metric(cluster, "kube_portal_endpoints_ejected"), 1);
        await nft("delete", "table", "inet", "dead");
        await eventually(
          "it has its turn again",
          () => askAll(client, IP, { times: 6 }),
          (names) => names.split("pod2").length === 3,
        );
        assert.equal(await metric(cluster, "kube_portal_endpoints_ejected"), 0);
        await cluster.proxy.waitFor("answers again");
      });
    }
  },
);

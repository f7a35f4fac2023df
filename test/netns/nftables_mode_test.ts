/**
 * nftables mode as users run it: the whole program in a node's namespace, an API
 * server whose objects change, and clients on the node, in pods and outside.
 */
import assert from "node:assert/strict";
import { runKubePortalIn } from "../support/kube_portal.ts";
import {
  followsTheCluster,
  isAdopted,
  keepsToLocal,
  MODE_FLAGS,
  movesUdpClients,
  refusesToCleanUpThenStops,
  startModeCluster,
  staysWithOne,
} from "../support/mode_steps.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns } from "../support/netns.ts";
import { untilAnswers, whoAnswers } from "../support/node_cluster.ts";

const NEEDS = [netns, program("nft"), program("conntrack")];
const ARGS = ["--proxy-mode=nftables", ...MODE_FLAGS];

function ruleset(node: Namespace): Promise<string> {
  return node.run(["nft", "list", "ruleset"]);
}

testWith(
  NEEDS,
  "[1.51, 2.43, 3.11, 6.12, 7.17, 8.98, 10.35, 12.8, 12.62] nftables mode follows the cluster, mends what is flushed, and is taken over by the next run",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const cluster = await startModeCluster(stack, ...ARGS);
    const { node } = cluster;
    const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
    await followsTheCluster(t, cluster, "nftables");
    await t.step("[10.35] node ports are not on 127.0.0.1", async () => {
      const local = await node.dial("tcp", "127.0.0.1", { port: 30_080 });
      assert.equal(local, "error: ConnectionRefused");
    });
    await t.step("what somebody flushes comes back", async () => {
      await node.run(["nft", "flush ruleset"]);
      await cluster.proxy.waitFor(/Rules were removed by somebody else/);
      await untilAnswers(pod1.name, pod2, "10.96.0.10");
    });
    await t.step(
      "rules outlive the process, and the next adopts them",
      () => isAdopted(cluster, ...ARGS),
    );
    await t.step(
      "cleanup leaves nothing, not even of what was flushed",
      async () => {
        await refusesToCleanUpThenStops(cluster);
        const { code, output } = await runKubePortalIn(node, ["--cleanup"]);
        assert.equal(code, 0, output);
        assert.equal(await ruleset(node), "");
      },
    );
  },
);

testWith(
  [...NEEDS, program("iptables"), program("ip6tables")],
  "[4.4, 5.47, 5.73, 6.40, 8.96, 10.49, 10.52, 12.65, 12.66] affinity, policies of Local, health checks, UDP clients that stay, and other modes beside nftables mode",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const iptables = ["--proxy-mode=iptables", ...MODE_FLAGS];
    const cluster = await startModeCluster(stack, ...iptables);
    const { node, outside } = cluster;
    await t.step("it takes iptables mode's place", async () => {
      assert.match(await node.run(["iptables-save"]), /:KUBE-SERVICES/);
      cluster.proxy.kill("SIGTERM");
      await cluster.proxy.status;
      await cluster.startProxy(...ARGS);
      assert.doesNotMatch(await node.run(["iptables-save"]), /KUBE-/);
      assert.match(await ruleset(node), /table ip kube-proxy/);
    });
    await t.step(
      "a client stays with its endpoint, over a restart",
      async () => {
        const one = await staysWithOne(cluster);
        cluster.proxy.kill("SIGTERM");
        await cluster.proxy.status;
        await cluster.startProxy(...ARGS);
        const then = await whoAnswers(outside, "10.96.0.11", { times: 12 });
        assert.equal(then, one);
      },
    );
    await t.step(
      "Local keeps to this node, and tells its load balancer",
      () => keepsToLocal(cluster),
    );
    await t.step(
      "a UDP client with one port comes to the new endpoint",
      () => movesUdpClients(cluster),
    );
    await t.step("userspace mode removes what this one left", async () => {
      cluster.proxy.kill("SIGTERM");
      await cluster.proxy.status;
      await cluster.startProxy();
      assert.doesNotMatch(
        cluster.proxy.output,
        /kube-proxy is on this machine/,
      );
      assert.doesNotMatch(await ruleset(node), /kube-proxy|kube-portal-mode/);
    });
  },
);

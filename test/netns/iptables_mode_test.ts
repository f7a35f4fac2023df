/**
 * iptables mode with packets: the whole program in a node's namespace, the
 * kernel of this machine, and clients on the node, in pods and outside.
 */
import assert from "node:assert/strict";
import { goldenText } from "../support/golden.ts";
import { type MatrixRow, matrixRows } from "../support/golden_matrix.ts";
import {
  askRows,
  CLIENT_IP,
  goldenNetwork,
  POD_IPS,
} from "../support/golden_network.ts";
import { runKubePortalIn, startKubePortal } from "../support/kube_portal.ts";
import { program, testWith } from "../support/needs.ts";
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
import { untilAnswers } from "../support/node_cluster.ts";
import { type Namespace, netns } from "../support/netns.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const NEEDS = [netns, program("iptables"), program("ip6tables")];
const LOCALNET = "/proc/sys/net/ipv4/conf/all/route_localnet";

testWith(
  NEEDS,
  "[5.53, 5.54, 5.55, 5.66, 5.69, 5.70, 6.31] the node and another host are answered, and seen, as by kube-proxy 1.36 in iptables mode",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const network = await goldenNetwork(stack);
    const folder = stack.use(await temporaryFolder());
    for (const name of ["services", "endpointslices", "nodes"]) {
      await folder.write(`${name}.json`, goldenText(`input-${name}.json`));
    }
    const proxy = stack.use(startKubePortal([
      "--proxy-mode=iptables",
      "--cluster-cidr=10.244.0.0/16",
      "--hostname-override=kp",
      `--manifests=${folder.path}`,
    ], { namespace: network.node }));
    await proxy.waitFor(" Ready ");
    const rows = matrixRows(goldenText("matrix-1.36-iptables.txt"));
    await askRows(t, network, rows, assertPossible);
  },
);

/** By chance a recording shows one endpoint where both were possible. */
function assertPossible(got: ReadonlySet<string>, row: MatrixRow): void {
  const [first = ""] = row.answers;
  const [, whom] = first.split(" saw ");
  // An endpoint that is told who the client is is the local one alone.
  const want = whom === undefined || whom === CLIENT_IP
    ? [...row.answers]
    : POD_IPS.map((ip) => `${ip} saw ${whom}`);
  const isSticky = row.url.hostname === "10.96.20.20";
  assert.equal(got.size, isSticky ? 1 : want.length);
  for (const each of got) assert.ok(want.includes(each), each);
}

const ARGS = ["--proxy-mode=iptables", ...MODE_FLAGS];

const CONFIG = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: 10.244.0.0/16,fd00:244::/64
`;

async function kubeChains(node: Namespace): Promise<string[]> {
  const saved = await node.run(["iptables-save"]);
  return [...saved.matchAll(/^:(KUBE-\S+)/gm)].map(([, name = ""]) => name);
}

testWith(
  NEEDS,
  "[0.4, 1.51, 2.43, 3.11, 6.9, 6.40, 7.17, 8.15, 8.98, 9.9, 12.8, 12.62] iptables mode follows the cluster, mends what is flushed, and is taken over by the next run",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const cluster = await startModeCluster(stack, ...ARGS);
    const { node } = cluster;
    const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
    await followsTheCluster(t, cluster, "iptables");
    await t.step("one endpoint, one chain", async () => {
      const chains = await kubeChains(node);
      assert.equal(chains.filter((name) => /-SEP-/.test(name)).length, 1);
    });
    await t.step("node ports are on 127.0.0.1 too", async () => {
      await untilAnswers(pod1.name, node, "127.0.0.1", { port: 30_080 });
    });
    await t.step("what somebody flushes comes back", async () => {
      await node.run(["iptables-restore"], {
        stdin: "*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT\n",
      });
      await cluster.proxy.waitFor(/Rules were removed by somebody else/);
      await untilAnswers(pod1.name, pod2, "10.96.0.10");
    });
    await t.step(
      "rules outlive the process, and the next adopts them",
      async () => {
        // This time by a file, as kubeadm has it.
        const config = await cluster.folder.write("config.conf", CONFIG);
        await isAdopted(cluster, `--config=${config}`);
      },
    );
    await t.step("cleanup leaves nothing", async () => {
      assert.equal(await node.run(["cat", LOCALNET]), "1\n");
      await refusesToCleanUpThenStops(cluster);
      const { code, output } = await runKubePortalIn(node, ["--cleanup"]);
      assert.equal(code, 0, output);
      assert.deepEqual(await kubeChains(node), []);
      assert.doesNotMatch(await node.run(["ip6tables-save"]), /KUBE-/);
      assert.equal(await node.run(["cat", LOCALNET]), "0\n");
    });
  },
);

testWith(
  [...NEEDS, program("conntrack")],
  "[4.4, 5.47, 5.73, 6.40, 6.50, 10.49, 8.96, 12.65, 12.66] affinity, policies of Local, health checks and UDP clients that stay, in iptables mode",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const cluster = await startModeCluster(stack, ...ARGS);
    const { node } = cluster;
    await t.step(
      "a client stays with its endpoint",
      async () => void await staysWithOne(cluster),
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
      assert.ok((await kubeChains(node)).includes("KUBE-SERVICES"));
      await cluster.startProxy();
      assert.doesNotMatch(
        cluster.proxy.output,
        /kube-proxy is on this machine/,
      );
      assert.deepEqual(await kubeChains(node), []);
      assert.equal(await node.run(["cat", LOCALNET]), "0\n");
    });
  },
);

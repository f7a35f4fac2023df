/**
 * iptables mode with packets: the whole program in a node's namespace, the
 * kernel of this machine, and clients on the node, in pods and outside.
 */
import assert from "node:assert/strict";
import { goldenText } from "../support/golden.ts";
import {
  askRows,
  CLIENT_IP,
  goldenMatrix,
  goldenNetwork,
  type GoldenRow,
  POD_IPS,
} from "../support/golden_network.ts";
import { runKubePortalIn, startKubePortal } from "../support/kube_portal.ts";
import { program, testWith } from "../support/needs.ts";
import {
  NodeCluster,
  serviceObjects,
  sliceObjects,
  untilAnswers,
  whoAnswers,
} from "../support/node_cluster.ts";
import { type Namespace, netns } from "../support/netns.ts";
import { eventually } from "../support/loopback.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const NEEDS = [netns, program("iptables"), program("ip6tables")];
const LOCALNET = "/proc/sys/net/ipv4/conf/all/route_localnet";

testWith(
  NEEDS,
  "[5.53, 5.54, 5.55, 5.66, 5.69, 5.70, 6.31] the node and another host are answered, and seen, as by kube-proxy 1.36 in iptables mode",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const { node, outside } = await goldenNetwork(stack);
    const folder = stack.use(await temporaryFolder());
    for (const name of ["services", "endpointslices", "nodes"]) {
      await folder.write(`${name}.json`, goldenText(`input-${name}.json`));
    }
    const proxy = stack.use(startKubePortal([
      "--proxy-mode=iptables",
      "--cluster-cidr=10.244.0.0/16",
      "--hostname-override=kp",
      `--manifests=${folder.path}`,
    ], { namespace: node }));
    await proxy.waitFor(" Ready ");
    const rows = goldenMatrix(goldenText("matrix-1.36-iptables.txt"));
    for (
      const [client, namespace] of [["kp", node], ["cl", outside]] as const
    ) {
      const own = rows.filter((row) => row.client === client);
      const answers = await askRows(namespace, own);
      for (const [i, row] of own.entries()) {
        await t.step(`${client} → ${row.url}`, () => {
          assertPossible(answers[i] ?? new Set(), row);
        });
      }
    }
  },
);

/** By chance a recording shows one endpoint where both were possible. */
function assertPossible(got: ReadonlySet<string>, row: GoldenRow): void {
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

/**
 * Pods reach each other by the node alone, as where nothing is bridged; packets
 * may go back where they came from; and others know the way to ClusterIPs.
 */
async function routePods(cluster: NodeCluster): Promise<void> {
  await cluster.node.run([
    "sh",
    "-c",
    "for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $f; done; " +
    "echo 1 > /proc/sys/net/ipv4/ip_forward; " +
    "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
  ]);
  for (const link of ["veth1", "veth2"]) {
    const hairpin = ["type", "bridge_slave", "hairpin", "on"];
    await cluster.node.run(["ip", "link", "set", link, ...hairpin]);
  }
  const { node, outside } = cluster;
  await outside.run(["ip", "route", "add", "10.96.0.0/16", "via", node.ipv4]);
  for (const number of [1, 2]) {
    await cluster.pod(number).run(["ip", "-batch", "-"], {
      stdin: [
        "route replace 10.244.0.1 dev eth0",
        "route replace default via 10.244.0.1",
        "route del 10.244.0.0/24",
        "",
      ].join("\n"),
    });
  }
}

function proxyArgs(...more: readonly string[]): string[] {
  return [
    "--proxy-mode=iptables",
    "--cluster-cidr=10.244.0.0/16,fd00:244::/64",
    "--iptables-sync-period=1s",
    "--iptables-min-sync-period=0s",
    ...more,
  ];
}

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
    await using cluster = await NodeCluster.start({ proxyArgs: proxyArgs() });
    const { node, outside } = cluster;
    const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
    await routePods(cluster);
    await cluster.serve(pod1);
    await cluster.serve(pod2);
    const web = { number: 10, endpoints: [pod1, pod2] };
    await cluster.apply(
      ...serviceObjects("web", {
        ...web,
        ports: [{ name: "http", port: 80, nodePort: 30_080 }],
        spec: { type: "NodePort" },
      }),
    );
    const both = `${pod1.name} ${pod2.name}`;
    await t.step("pods, the node and others reach every endpoint", async () => {
      const many = { times: 24 };
      await untilAnswers(both, pod1, "10.96.0.10", many);
      await untilAnswers(both, node, "10.96.0.10", many);
      await untilAnswers(both, node, "fd00:96::10", many);
      const nodePort = { ...many, port: 30_080 };
      await untilAnswers(both, outside, node.ipv4, nodePort);
      await untilAnswers(both, outside, node.ipv6, nodePort);
      await untilAnswers(both, node, "127.0.0.1", nodePort);
    });
    await t.step("a change shows, to the endpoint itself too", async () => {
      await cluster.apply(...sliceObjects("web", { endpoints: [pod1] }));
      await untilAnswers(pod1.name, pod2, "10.96.0.10", { times: 8 });
      await untilAnswers(pod1.name, pod1, "10.96.0.10", { times: 8 });
      const chains = await kubeChains(node);
      assert.equal(chains.filter((name) => /-SEP-/.test(name)).length, 1);
    });
    await t.step("it says what it is", async () => {
      const ask = (path: string) =>
        node.run(["curl", "-sS", `http://127.0.0.1:${path}`]);
      assert.equal(await ask("10249/proxyMode"), "iptables");
      const health = JSON.parse(await ask("10256/livez"));
      assert.equal(health.healthy, true);
      assert.deepEqual(Object.keys(health.status), ["IPv4", "IPv6"]);
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
        cluster.proxy.kill("SIGKILL");
        await cluster.proxy.status;
        assert.equal(await whoAnswers(pod2, "10.96.0.10"), pod1.name);
        await cluster.apply(...sliceObjects("web", { endpoints: [pod2] }));
        // The second time by a file, as kubeadm has it.
        const config = await cluster.folder.write("config.conf", CONFIG);
        await cluster.startProxy(`--config=${config}`);
        await untilAnswers(pod2.name, pod1, "10.96.0.10", { times: 8 });
      },
    );
    await t.step("cleanup leaves nothing", async () => {
      assert.equal(await node.run(["cat", LOCALNET]), "1\n");
      const early = await runKubePortalIn(node, ["cleanup"]);
      assert.equal(early.code, 1);
      assert.match(early.output, /is steering this machine; stop it first/);
      cluster.proxy.kill("SIGTERM");
      await cluster.proxy.status;
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
    await using cluster = await NodeCluster.start({ proxyArgs: proxyArgs() });
    const { node, outside } = cluster;
    const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
    await routePods(cluster);
    await cluster.serve(pod1);
    await cluster.serve(pod2);
    await t.step("a client stays with its endpoint", async () => {
      await cluster.apply(...serviceObjects("sticky", {
        number: 11,
        endpoints: [pod1, pod2],
        spec: { sessionAffinity: "ClientIP" },
      }));
      await eventually(
        "one endpoint answers",
        () => whoAnswers(outside, "10.96.0.11", { times: 12 }),
        (names) => names === pod1.name || names === pod2.name,
      );
    });
    await t.step(
      "Local keeps to this node, and tells its load balancer",
      async () => {
        const external = {
          number: 12,
          ports: [{ name: "http", port: 80, nodePort: 30_082 }],
          spec: {
            type: "LoadBalancer",
            externalTrafficPolicy: "Local",
            healthCheckNodePort: 31_082,
          },
        };
        const remote = { pod: pod2, nodeName: "node-2" };
        const endpoints = [pod1, remote];
        await cluster.apply(
          ...serviceObjects("local", { ...external, endpoints }),
        );
        const port = 30_082;
        await untilAnswers(pod1.name, outside, node.ipv4, { port, times: 12 });
        assert.match(
          await outside.dial("tcp", node.ipv4, { port }),
          new RegExp(`^pod1 ${outside.ipv4.replaceAll(".", "\\.")}:`),
        );
        const check = () =>
          outside.run([
            "curl",
            "-s",
            `http://${node.ipv4}:31082/`,
          ]);
        assert.match(await check(), /"localEndpoints": 1/);
        await cluster.apply(
          ...sliceObjects("local", { ...external, endpoints: [remote] }),
        );
        await eventually(
          "outsiders are dropped",
          () => outside.dial("tcp", node.ipv4, { port, timeoutMs: 500 }),
          (reply) => reply === "error: Timeout",
        );
        // Pods and the node go where there is an endpoint.
        await untilAnswers(pod2.name, node, node.ipv4, { port });
      },
    );
    await t.step(
      "a UDP client with one port comes to the new endpoint",
      async () => {
        const ports = [{ name: "dns", port: 53, protocol: "UDP" as const }];
        await cluster.apply(
          ...serviceObjects("dns", { number: 13, ports, endpoints: [pod1] }),
        );
        await untilAnswers(pod1.name, outside, "10.96.0.13", {
          port: 53,
          protocol: "udp",
        });
        await using client = outside.startDeno("test/support/udp_client.ts", [
          "10.96.0.13",
          "53",
        ]);
        await client.waitFor(`answer ${pod1.name}`);
        await cluster.apply(
          ...sliceObjects("dns", { ports, endpoints: [pod2] }),
        );
        await client.waitFor(`answer ${pod2.name}`);
        assert.doesNotMatch(client.output, /stranger/);
      },
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

/**
 * nftables mode as users run it: the whole program in a node's namespace, an API
 * server whose objects change, and clients on the node, in pods and outside.
 */
import assert from "node:assert/strict";
import { runKubePortalIn } from "../support/kube_portal.ts";
import { eventually } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns } from "../support/netns.ts";
import {
  NodeCluster,
  serviceObjects,
  sliceObjects,
  untilAnswers,
  whoAnswers,
} from "../support/node_cluster.ts";
import { routePods } from "../support/route_pods.ts";

const NEEDS = [netns, program("nft"), program("conntrack")];
const FLAGS = [
  "--cluster-cidr=10.244.0.0/16,fd00:244::/64",
  "--iptables-sync-period=1s",
  "--iptables-min-sync-period=0s",
];
const ARGS = ["--proxy-mode=nftables", ...FLAGS];

function ruleset(node: Namespace): Promise<string> {
  return node.run(["nft", "list", "ruleset"]);
}

testWith(
  NEEDS,
  "[1.51, 2.43, 3.11, 6.12, 7.17, 8.98, 10.35, 12.8, 12.62] nftables mode follows the cluster, mends what is flushed, and is taken over by the next run",
  async (t) => {
    await using cluster = await NodeCluster.start({ proxyArgs: ARGS });
    const { node, outside } = cluster;
    const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
    await routePods(node, [pod1, pod2]);
    await cluster.serve(pod1);
    await cluster.serve(pod2);
    await cluster.apply(
      ...serviceObjects("web", {
        number: 10,
        endpoints: [pod1, pod2],
        ports: [{ name: "http", port: 80, nodePort: 30_080 }],
        spec: { type: "NodePort" },
      }),
    );
    await t.step("pods, the node and others reach every endpoint", async () => {
      const both = `${pod1.name} ${pod2.name}`;
      const many = { times: 24 };
      await untilAnswers(both, pod1, "10.96.0.10", many);
      await untilAnswers(both, node, "fd00:96::10", many);
      const nodePort = { ...many, port: 30_080 };
      await untilAnswers(both, outside, node.ipv4, nodePort);
      await untilAnswers(both, outside, node.ipv6, nodePort);
      const local = await node.dial("tcp", "127.0.0.1", { port: 30_080 });
      assert.equal(local, "error: ConnectionRefused");
    });
    await t.step("a change shows, to the endpoint itself too", async () => {
      await cluster.apply(...sliceObjects("web", { endpoints: [pod1] }));
      await untilAnswers(pod1.name, pod2, "10.96.0.10", { times: 8 });
      await untilAnswers(pod1.name, pod1, "10.96.0.10", { times: 8 });
    });
    await t.step("it says what it is", async () => {
      const ask = (path: string) =>
        node.run(["curl", "-sS", `http://127.0.0.1:${path}`]);
      assert.equal(await ask("10249/proxyMode"), "nftables");
      const health = JSON.parse(await ask("10256/livez"));
      assert.equal(health.healthy, true);
      assert.deepEqual(Object.keys(health.status), ["IPv4", "IPv6"]);
    });
    await t.step("what somebody flushes comes back", async () => {
      await node.run(["nft", "flush ruleset"]);
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
        await cluster.startProxy(...ARGS);
        await untilAnswers(pod2.name, pod1, "10.96.0.10", { times: 8 });
      },
    );
    await t.step(
      "cleanup leaves nothing, not even of what was flushed",
      async () => {
        const early = await runKubePortalIn(node, ["cleanup"]);
        assert.equal(early.code, 1);
        assert.match(early.output, /is steering this machine; stop it first/);
        cluster.proxy.kill("SIGTERM");
        await cluster.proxy.status;
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
    await using cluster = await NodeCluster.start({
      proxyArgs: ["--proxy-mode=iptables", ...FLAGS],
    });
    const { node, outside } = cluster;
    const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
    await routePods(node, [pod1, pod2]);
    await cluster.serve(pod1);
    await cluster.serve(pod2);
    await outside.run(["ip", "route", "add", "10.96.0.0/16", "via", node.ipv4]);
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
        await cluster.apply(...serviceObjects("sticky", {
          number: 11,
          endpoints: [pod1, pod2],
          spec: { sessionAffinity: "ClientIP" },
        }));
        const ask = () => whoAnswers(outside, "10.96.0.11", { times: 12 });
        const one = await eventually(
          "one endpoint answers",
          ask,
          (names) => names === pod1.name || names === pod2.name,
        );
        cluster.proxy.kill("SIGTERM");
        await cluster.proxy.status;
        await cluster.startProxy(...ARGS);
        assert.equal(await ask(), one);
      },
    );
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
        const check = () =>
          outside.run(["curl", "-s", `http://${node.ipv4}:31082/`]);
        assert.match(await check(), /"localEndpoints": 1/);
        await cluster.apply(
          ...sliceObjects("local", { ...external, endpoints: [remote] }),
        );
        await eventually(
          "outsiders are dropped",
          () => outside.dial("tcp", node.ipv4, { port, timeoutMs: 500 }),
          (reply) => reply === "error: Timeout",
        );
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
        const dns = { port: 53, protocol: "udp" } as const;
        await untilAnswers(pod1.name, outside, "10.96.0.13", dns);
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
      await cluster.startProxy();
      assert.doesNotMatch(
        cluster.proxy.output,
        /kube-proxy is on this machine/,
      );
      assert.doesNotMatch(await ruleset(node), /kube-proxy|kube-portal-mode/);
    });
  },
);

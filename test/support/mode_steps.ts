/**
 * What is asked of each of the kernel's modes alike, of the whole program in a
 * node's namespace; `test/netns/*_mode_test.ts` add what is a mode's own.
 *
 * @module
 */
import assert from "node:assert/strict";
import { runKubePortalIn } from "./kube_portal.ts";
import { eventually } from "./loopback.ts";
import {
  NodeCluster,
  serviceObjects,
  sliceObjects,
  untilAnswers,
  whoAnswers,
} from "./node_cluster.ts";
import { routePods } from "./route_pods.ts";

const NODE_PORT = 30_080;
const LOCAL_NODE_PORT = 30_082;
const HEALTH_CHECK_NODE_PORT = 31_082;
/** Enough dials for chance to show each of two endpoints. */
const MANY = { times: 24 };

/** Of every mode: rules are looked at each second, and written at once. */
export const MODE_FLAGS = [
  "--cluster-cidr=10.244.0.0/16,fd00:244::/64",
  "--iptables-sync-period=1s",
  "--iptables-min-sync-period=0s",
];

/** A node that forwards, two pods that serve, and others that know the way. */
export async function startModeCluster(
  stack: AsyncDisposableStack,
  ...proxyArgs: readonly string[]
): Promise<NodeCluster> {
  const cluster = stack.use(await NodeCluster.start({ proxyArgs }));
  const { node, outside } = cluster;
  const pods = [cluster.pod(1), cluster.pod(2)];
  await routePods(node, pods);
  await outside.run(["ip", "route", "add", "10.96.0.0/16", "via", node.ipv4]);
  for (const pod of pods) await cluster.serve(pod);
  return cluster;
}

/** The Service `web`, 10.96.0.10: everybody, every endpoint, and a change. */
export async function followsTheCluster(
  t: Deno.TestContext,
  cluster: NodeCluster,
  mode: string,
): Promise<void> {
  const { node, outside } = cluster;
  const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
  await t.step("pods, the node and others reach every endpoint", async () => {
    await cluster.apply(...serviceObjects("web", {
      number: 10,
      endpoints: [pod1, pod2],
      ports: [{ name: "http", port: 80, nodePort: NODE_PORT }],
      spec: { type: "NodePort" },
    }));
    const both = `${pod1.name} ${pod2.name}`;
    await untilAnswers(both, pod1, "10.96.0.10", MANY);
    await untilAnswers(both, node, "10.96.0.10", MANY);
    await untilAnswers(both, node, "fd00:96::10", MANY);
    const nodePort = { ...MANY, port: NODE_PORT };
    await untilAnswers(both, outside, node.ipv4, nodePort);
    await untilAnswers(both, outside, node.ipv6, nodePort);
  });
  await t.step("a change shows, to the endpoint itself too", async () => {
    await cluster.apply(...sliceObjects("web", { endpoints: [pod1] }));
    await untilAnswers(pod1.name, pod2, "10.96.0.10", { times: 8 });
    await untilAnswers(pod1.name, pod1, "10.96.0.10", { times: 8 });
  });
  await t.step("it says what it is", async () => {
    const ask = (path: string) =>
      node.run(["curl", "-sS", `http://127.0.0.1:${path}`]);
    assert.equal(await ask("10249/proxyMode"), mode);
    const health = JSON.parse(await ask("10256/livez"));
    assert.equal(health.healthy, true);
    assert.deepEqual(Object.keys(health.status), ["IPv4", "IPv6"]);
  });
}

/** `web`'s endpoint is the second, though its slice changed with nobody there. */
export async function isAdopted(
  cluster: NodeCluster,
  ...proxyArgs: readonly string[]
): Promise<void> {
  const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
  cluster.proxy.kill("SIGKILL");
  await cluster.proxy.status;
  assert.equal(await whoAnswers(pod2, "10.96.0.10"), pod1.name);
  await cluster.apply(...sliceObjects("web", { endpoints: [pod2] }));
  await cluster.startProxy(...proxyArgs);
  await untilAnswers(pod2.name, pod1, "10.96.0.10", { times: 8 });
}

/** `externalTrafficPolicy: Local`, with one endpoint here, then none. */
export async function keepsToLocal(cluster: NodeCluster): Promise<void> {
  const { node, outside } = cluster;
  const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
  const external = {
    number: 12,
    ports: [{ name: "http", port: 80, nodePort: LOCAL_NODE_PORT }],
    spec: {
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      healthCheckNodePort: HEALTH_CHECK_NODE_PORT,
    },
  };
  const remote = { pod: pod2, nodeName: "node-2" };
  const endpoints = [pod1, remote];
  await cluster.apply(...serviceObjects("local", { ...external, endpoints }));
  const port = LOCAL_NODE_PORT;
  await untilAnswers(pod1.name, outside, node.ipv4, { port, times: 12 });
  const sawTheClient = new RegExp(
    `^${pod1.name} ${outside.ipv4.replaceAll(".", "\\.")}:`,
  );
  assert.match(await outside.dial("tcp", node.ipv4, { port }), sawTheClient);
  const url = `http://${node.ipv4}:${HEALTH_CHECK_NODE_PORT}/`;
  assert.match(await outside.run(["curl", "-s", url]), /"localEndpoints": 1/);
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
}

/** A UDP client that keeps its port is led to the new endpoint. */
export async function movesUdpClients(cluster: NodeCluster): Promise<void> {
  const { outside } = cluster;
  const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
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
  await cluster.apply(...sliceObjects("dns", { ports, endpoints: [pod2] }));
  await client.waitFor(`answer ${pod2.name}`);
  assert.doesNotMatch(client.output, /stranger/);
}

/** `sticky`, 10.96.0.11: one of two, each time. Returns its name. */
export async function staysWithOne(cluster: NodeCluster): Promise<string> {
  const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
  await cluster.apply(...serviceObjects("sticky", {
    number: 11,
    endpoints: [pod1, pod2],
    spec: { sessionAffinity: "ClientIP" },
  }));
  return await eventually(
    "one endpoint answers",
    () => whoAnswers(cluster.outside, "10.96.0.11", { times: 12 }),
    (names) => names === pod1.name || names === pod2.name,
  );
}

/** Stops the process, and looks that `cleanup` had refused while it ran. */
export async function refusesToCleanUpThenStops(
  cluster: NodeCluster,
): Promise<void> {
  const early = await runKubePortalIn(cluster.node, ["cleanup"]);
  assert.equal(early.code, 1);
  assert.match(early.output, /is steering this machine; stop it first/);
  cluster.proxy.kill("SIGTERM");
  await cluster.proxy.status;
}

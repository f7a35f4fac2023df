/**
 * Services while things change: pods are rolled, the proxy is killed, the API
 * server goes away and comes back. Nobody is to notice more than they must.
 */
import assert from "node:assert/strict";
import { manifest } from "../support/kube_objects.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns } from "../support/netns.ts";
import {
  askAll,
  type EndpointOptions,
  NODE_NAME,
  NodeCluster,
  serviceObjects,
  sliceObjects,
  untilAnswers,
  whoAnswers,
} from "../support/node_cluster.ts";

const NODE_PORT = 30_080;
/** Of each client. */
const REQUESTS_A_SECOND = 200;

for (const policy of ["Cluster", "Local"] as const) {
  testWith(
    [netns, program("curl")],
    `[12.91] a rolling update interrupts nobody, with externalTrafficPolicy ${policy}`,
    async () => {
      await using cluster = await NodeCluster.start({ pods: 4 });
      const { node, outside } = cluster;
      const pods = [1, 2, 3, 4].map((n) => cluster.pod(n));
      const [old1, old2, new1, new2] = pods as [
        Namespace,
        Namespace,
        Namespace,
        Namespace,
      ];
      const running = new Map(
        await Promise.all(
          pods.map(async (pod) => [pod, await cluster.serve(pod)] as const),
        ),
      );
      const rolled = {
        number: 30,
        ports: [{ name: "http", port: 80, nodePort: NODE_PORT }],
        spec: { type: "NodePort", externalTrafficPolicy: policy },
      };
      const leaving = (pod: Namespace): EndpointOptions => ({
        pod,
        ready: false,
        serving: true,
        terminating: true,
      });
      const starting = (pod: Namespace) => ({ pod, ready: false });
      const set = (...endpoints: (Namespace | EndpointOptions)[]) =>
        cluster.apply(
          ...sliceObjects("rolled", { ports: rolled.ports, endpoints }),
        );
      await cluster.apply(
        ...serviceObjects("rolled", { ...rolled, endpoints: [old1, old2] }),
      );
      const addresses: readonly [Namespace, string, number][] = [
        [outside, node.ipv4, NODE_PORT],
        [node, "10.96.0.30", 80],
      ];
      for (const [client, ip, port] of addresses) {
        await untilAnswers("pod1 pod2", client, ip, { port, times: 2 });
      }
      await using stack = new AsyncDisposableStack();
      const clients = addresses.map(([client, ip, port]) =>
        stack.use(
          client.startDeno("test/support/steady_client.ts", [
            ip,
            ...[port, REQUESTS_A_SECOND].map(String),
          ]),
        )
      );
      const heard = (pod: Namespace) =>
        Promise.all(clients.map((child) => child.waitFor(`heard ${pod.name}`)));
      /** Nobody is sent there any more; then it ends, as a pod does. */
      const gone = async (pod: Namespace, others: string) => {
        for (const [client, ip, port] of addresses) {
          await untilAnswers(others, client, ip, { port, times: 4 });
        }
        running.get(pod)?.kill("SIGKILL");
      };
      await heard(old1);
      // And as many requests over a connection that is kept.
      const kept = addresses.map(([client, ip, port]) =>
        stack.use(
          client.startDeno("test/support/held_client.ts", [
            ip,
            ...[port, 1_000 / REQUESTS_A_SECOND].map(String),
            "again",
          ]),
        )
      );
      await Promise.all(kept.map((child) => child.waitFor("held")));

      await set(old1, old2, starting(new1));
      await set(old1, old2, new1);
      await heard(new1);
      await set(leaving(old1), old2, new1);
      // It ends while it is listed still, as terminating.
      await gone(old1, "pod2 pod3");
      await set(old2, new1, starting(new2));
      await set(leaving(old2), new1, new2);
      await heard(new2);
      // For a while no pod is ready: those that leave go on serving.
      await set(leaving(old2), leaving(new1), starting(new2));
      await untilAnswers("pod2 pod3", node, "10.96.0.30", { times: 4 });
      await set(leaving(new1), new2);
      await gone(old2, "pod4");
      await set(new2);
      await gone(new1, "pod4");

      for (const child of kept) {
        child.kill("SIGTERM");
        await child.ended;
        assert.match(child.output, /^\d+ came back$/m);
      }
      for (const child of clients) {
        child.kill("SIGTERM");
        await child.status;
        await child.ended;
        const [, answered = "", failed] =
          /^(\d+) answered, (\d+) failed$/m.exec(child.output) ?? [];
        assert.equal(failed, "0", child.output);
        assert.ok(Number(answered) > 100, child.output);
      }
    },
  );
}

testWith(
  [netns, program("curl")],
  "Services work after the proxy, and while and after the API server, was killed",
  async (t) => {
    await using cluster = await NodeCluster.start();
    const { node, outside } = cluster;
    const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
    await cluster.serve(pod1);
    await cluster.serve(pod2);
    const web = serviceObjects("web", {
      number: 40,
      ports: [{ name: "http", port: 80, nodePort: NODE_PORT }],
      spec: { type: "NodePort" },
      endpoints: [pod1, pod2],
    });
    // The API server keeps nothing, so that it finds them here again.
    await cluster.folder.write("web.yaml", manifest(...web));
    await cluster.apply(...web);
    const answers = async () => {
      const times = 2;
      const both = "pod1 pod2";
      await untilAnswers(both, pod1, "10.96.0.40", { times });
      const seen = await whoAnswers(outside, node.ipv4, {
        port: NODE_PORT,
        times,
      });
      assert.equal(seen, both);
    };
    await answers();

    await t.step(
      "[12.52] the URLs of health and mode answer",
      async () => {
        const answer = await node.run([
          "curl",
          "-fsS",
          `http://${node.ipv4}:10256/healthz`,
        ]);
        assert.match(answer, /"lastUpdated":/);
        assert.equal(JSON.parse(answer).healthy, true);
        const mode = await node.run([
          "curl",
          "-fsS",
          "http://127.0.0.1:10249/proxyMode",
        ]);
        assert.equal(mode, "userspace");
      },
    );

    await t.step(
      "[12.8] a proxy that was killed leaves all to the next",
      async () => {
        cluster.proxy.kill("SIGKILL");
        await cluster.proxy.status;
        assert.equal(await askAll(pod1, "10.96.0.40"), "refused");
        await cluster.startProxy();
        await answers();
      },
    );

    await t.step(
      "[12.9, 12.80] Services go on without the API server, and with the next one, whose CIDR is another",
      async () => {
        cluster.apiserver.kill("SIGKILL");
        await cluster.apiserver.status;
        await answers();
        const [service, ...slices] = serviceObjects("far", {
          number: 41,
          endpoints: [pod2],
        });
        assert.ok(service !== undefined);
        const ips = ["10.107.7.7", "fd00:107::7"];
        const spec = service.spec as Record<string, unknown>;
        const far = {
          ...service,
          spec: { ...spec, clusterIP: ips[0], clusterIPs: ips },
        };
        await Deno.remove(`${cluster.folder.path}/web.yaml`);
        await cluster.folder.write("far.yaml", manifest(far, ...slices));
        await cluster.startApiserver(["10.107.0.0/16", "fd00:107::/112"]);
        for (const ip of ips) await untilAnswers("pod2", pod1, ip);
        // That one does not know of the others any more.
        await untilAnswers("refused", pod1, "10.96.0.40");
        assert.equal(await whoAnswers(node, "10.107.7.7"), "pod2", NODE_NAME);
      },
    );
  },
);

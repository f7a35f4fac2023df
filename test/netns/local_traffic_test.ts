/**
 * Local traffic policies and load balancers with the whole program on a node:
 * what Kubernetes' end-to-end tests ask of them.
 */
import assert from "node:assert/strict";
import { eventually } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns } from "../support/netns.ts";
import {
  askAll,
  EXTERNAL_IPS,
  NodeCluster,
  serviceObjects,
  type ServiceOptions,
  sliceObjects,
  untilAnswers,
  whoAnswers,
} from "../support/node_cluster.ts";

const [LOAD_BALANCER_IP] = EXTERNAL_IPS;
const HEALTH_PORT = 30_100;

testWith(
  [netns, program("curl")],
  "local traffic policies and load balancers do as in Kubernetes' end-to-end tests",
  async (t) => {
    await using cluster = await NodeCluster.start();
    const { node, outside } = cluster;
    const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
    await cluster.serve(pod1);
    await cluster.serve(pod2);
    await cluster.serve(node);
    const elsewhere = (pod: Namespace) => ({ pod, nodeName: "node-2" });

    const INTERNAL_LOCAL = { internalTrafficPolicy: "Local" };

    await t.step(
      "[12.33, 12.34] internal Local reaches the node's own pod, from pods and the node, and no other",
      async () => {
        const local = (...endpoints: ServiceOptions["endpoints"]) =>
          serviceObjects("local", {
            number: 20,
            spec: INTERNAL_LOCAL,
            endpoints,
          });
        await cluster.apply(...local(pod1, elsewhere(pod2)));
        await untilAnswers("pod1", pod2, "10.96.0.20", { times: 3 });
        for (const client of [pod1, node]) {
          for (const ip of ["10.96.0.20", "fd00:96::20"]) {
            assert.equal(await whoAnswers(client, ip, { times: 3 }), "pod1");
          }
        }
        await cluster.apply(...local(elsewhere(pod1), elsewhere(pod2)));
        await untilAnswers("refused", pod2, "10.96.0.20");
        assert.equal(await askAll(node, "10.96.0.20"), "refused");
      },
    );

    await t.step(
      "[12.35] internal Local reaches a pod in the node's own network",
      async () => {
        await cluster.apply(...serviceObjects("host", {
          number: 21,
          spec: INTERNAL_LOCAL,
          endpoints: [node, elsewhere(pod2)],
        }));
        await untilAnswers("node", pod1, "10.96.0.21", { times: 3 });
        assert.equal(
          await whoAnswers(node, "10.96.0.21", { times: 3 }),
          "node",
        );
      },
    );

    await t.step(
      "[12.67] UDP goes on to a new local pod from the same source port",
      async () => {
        const ports = [{ name: "udp", protocol: "UDP", port: 80 }] as const;
        const options = { number: 22, ports, spec: INTERNAL_LOCAL };
        const serve = (...endpoints: ServiceOptions["endpoints"]) =>
          cluster.apply(...serviceObjects("cycled", { ...options, endpoints }));
        await serve(pod1);
        await using client = node.startDeno("test/support/udp_client.ts", [
          "10.96.0.22",
          "80",
        ]);
        await client.waitFor(/^answer pod1$/m);
        await serve(pod2);
        await client.waitFor(/^answer pod1\nanswer pod2$/m);
        await serve();
        await cluster.proxy.waitFor(
          "removed service port default/cycled:udp 10",
        );
        await serve(pod1);
        await client.waitFor(/^answer pod2\nanswer pod1$/m);
        assert.doesNotMatch(client.output, /stranger/);
      },
    );

    await t.step(
      "[12.37, 12.92] external Local is about load balancers' clients, and tells them where to go",
      async () => {
        const balanced = {
          number: 23,
          ingress: [LOAD_BALANCER_IP],
          spec: {
            type: "LoadBalancer",
            externalTrafficPolicy: "Local",
            healthCheckNodePort: HEALTH_PORT,
          },
          ports: [{ name: "http", port: 80, nodePort: 30_091 }],
        };
        const health = () =>
          outside.run([
            "curl",
            "-s",
            "-o/dev/null",
            "-w%{http_code}",
            `http://${node.ipv4}:${HEALTH_PORT}/healthz`,
          ]);
        await cluster.apply(...serviceObjects("outer", {
          ...balanced,
          endpoints: [pod1, elsewhere(pod2)],
        }));
        await untilAnswers("pod1", outside, LOAD_BALANCER_IP, { times: 3 });
        assert.equal(await health(), "200");
        const both = "pod1 pod2";
        for (const client of [pod2, node]) {
          const seen = await whoAnswers(client, LOAD_BALANCER_IP, { times: 2 });
          assert.equal(seen, both, client.name);
        }

        const terminating = { ready: false, serving: true, terminating: true };
        await cluster.apply(...sliceObjects("outer", {
          endpoints: [{ pod: pod1, ...terminating }, elsewhere(pod2)],
        }));
        await eventually("no ready one here", health, (code) => code === "503");
        const last = await whoAnswers(outside, LOAD_BALANCER_IP, { times: 3 });
        assert.equal(last, "pod1", "who is not told yet is still served");

        await cluster.apply(...sliceObjects("outer", {
          endpoints: [elsewhere(pod1), elsewhere(pod2)],
        }));
        await eventually(
          "outsiders are turned away",
          () => askAll(outside, LOAD_BALANCER_IP),
          // The portable engine cannot reset.
          (seen) => seen === "nothing" || seen === "reset",
        );
        assert.equal(await health(), "503");
        assert.equal(
          await whoAnswers(pod2, LOAD_BALANCER_IP, { times: 2 }),
          both,
        );
      },
    );

    await t.step(
      "[12.85] type and ports of a Service change, and each answers where it should",
      async () => {
        const named = (
          type: string,
          ports: Readonly<{ port: number; nodePort?: number }>,
          ingress: readonly string[] = [],
        ) =>
          (["TCP", "UDP"] as const).flatMap((protocol, index) =>
            serviceObjects(`changing-${protocol.toLowerCase()}`, {
              number: 24 + index,
              ports: [{
                name: "main",
                protocol,
                port: ports.port,
                // No two Services have the same one, whatever the protocol.
                ...(ports.nodePort === undefined
                  ? {}
                  : { nodePort: ports.nodePort + 100 * index }),
              }],
              spec: { type },
              ingress,
              endpoints: [pod1],
            })
          );
        /** By the ClusterIP from inside, else by `ip` from outside. */
        const each = async (
          want: string,
          port: number,
          ip?: string,
        ): Promise<void> => {
          for (const [index, protocol] of (["tcp", "udp"] as const).entries()) {
            const [from, to] = ip === undefined
              ? [pod2, `10.96.0.${24 + index}`] as const
              : [outside, ip] as const;
            // A datagram that nobody takes is two seconds of silence.
            if (want === "refused" && protocol === "udp") continue;
            await untilAnswers(want, from, to, {
              port: to === node.ipv4 ? port + 100 * index : port,
              protocol,
            });
          }
        };
        await cluster.apply(...named("ClusterIP", { port: 82 }));
        await each("pod1", 82);
        await cluster.apply(
          ...named("NodePort", { port: 82, nodePort: 30_092 }),
        );
        await each("pod1", 30_092, node.ipv4);
        await cluster.apply(
          ...named("NodePort", { port: 82, nodePort: 30_093 }),
        );
        await each("pod1", 30_093, node.ipv4);
        await each("refused", 30_092, node.ipv4);
        await cluster.apply(
          ...named("LoadBalancer", { port: 83, nodePort: 30_093 }, [
            LOAD_BALANCER_IP,
          ]),
        );
        await each("pod1", 83, LOAD_BALANCER_IP);
        await each("pod1", 30_093, node.ipv4);
        await each("pod1", 83);
        await each("refused", 82);
        await cluster.apply(...named("ClusterIP", { port: 83 }));
        await each("refused", 83, LOAD_BALANCER_IP);
        await each("refused", 30_093, node.ipv4);
        await each("pod1", 83);
      },
    );
  },
);

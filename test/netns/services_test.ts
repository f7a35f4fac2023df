/**
 * What Kubernetes' end-to-end tests ask of Services, asked of the whole program
 * on a node: by pods, by the node and by a host outside.
 */
import assert from "node:assert/strict";
import { eventually } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { netns } from "../support/netns.ts";
import {
  askAll,
  NodeCluster,
  type PortOptions,
  serviceObjects,
  sliceObjects,
  untilAnswers,
  whoAnswers,
} from "../support/node_cluster.ts";

const NODE_PORT = 30_080;
/** One number in both protocols, as DNS has it. */
const BOTH: readonly PortOptions[] = [
  { name: "tcp", protocol: "TCP", port: 80, nodePort: NODE_PORT },
  { name: "udp", protocol: "UDP", port: 80, nodePort: NODE_PORT },
];

testWith(
  [netns, program("curl")],
  "pods, the node and others use Services as in Kubernetes' end-to-end tests",
  async (t) => {
    await using cluster = await NodeCluster.start({ pods: 3 });
    const { node, outside } = cluster;
    const [pod1, pod2, pod3] = [1, 2, 3].map((n) => cluster.pod(n));
    assert.ok(pod1 !== undefined && pod2 !== undefined && pod3 !== undefined);
    await cluster.serve(pod1, { ports: [8080, 8081] });
    await cluster.serve(pod2, { ports: [8080, 8081] });

    await t.step(
      "[12.53, 12.60] each endpoint is seen, by TCP and UDP, from everywhere, in 2,000 bytes",
      async () => {
        await cluster.apply(...serviceObjects("both", {
          number: 10,
          ports: BOTH,
          endpoints: [pod1, pod2],
          spec: { type: "NodePort" },
        }));
        await untilAnswers("pod1 pod2", pod3, "10.96.0.10", { times: 2 });
        const times = 4;
        const turns = ["pod1 pod2 pod1 pod2", "pod2 pod1 pod2 pod1"];
        for (const protocol of ["tcp", "udp"] as const) {
          for (const client of [pod3, node, pod1]) {
            const options = { protocol, times, bytes: 2_000 };
            for (const ip of ["10.96.0.10", "fd00:96::10"]) {
              const seen = await askAll(client, ip, options);
              assert.ok(turns.includes(seen), `${client.name} ${ip}: ${seen}`);
            }
            const seen = await askAll(client, node.ipv4, {
              ...options,
              port: NODE_PORT,
            });
            assert.ok(
              turns.includes(seen),
              `${client.name} node port: ${seen}`,
            );
          }
          const seen = await askAll(outside, node.ipv6, {
            protocol,
            times,
            port: NODE_PORT,
          });
          assert.ok(turns.includes(seen), `outside: ${seen}`);
        }
      },
    );

    await t.step(
      "[12.59] a client stays at an endpoint, by TCP and by UDP",
      async () => {
        const sticky = (sessionAffinity: string) =>
          serviceObjects("both", {
            number: 10,
            ports: BOTH,
            endpoints: [pod1, pod2],
            spec: { type: "NodePort", sessionAffinity },
          });
        await cluster.apply(...sticky("ClientIP"));
        const one = (names: string) => new Set(names.split(" ")).size === 1;
        await eventually(
          "it stays",
          () => askAll(pod3, "10.96.0.10", { times: 4 }),
          one,
        );
        for (const protocol of ["tcp", "udp"] as const) {
          const options = { protocol, times: 3 };
          const inside = await askAll(pod3, "10.96.0.10", options);
          assert.ok(one(inside), inside);
          const again = await askAll(pod3, node.ipv4, {
            ...options,
            port: NODE_PORT,
          });
          assert.equal(again, inside, "one memory for all addresses of a port");
        }
        await cluster.apply(...sticky("None"));
        await untilAnswers("pod1 pod2", pod3, "10.96.0.10", { times: 2 });
      },
    );

    await t.step(
      "[12.46] a LoadBalancer has one number in both protocols",
      async () => {
        await cluster.apply(...serviceObjects("balanced", {
          number: 11,
          ports: BOTH.map(({ nodePort: _, ...port }) => port),
          endpoints: [pod1],
          spec: { type: "LoadBalancer", allocateLoadBalancerNodePorts: false },
        }));
        await untilAnswers("pod1", pod3, "10.96.0.11");
        const udp = await askAll(pod3, "10.96.0.11", { protocol: "udp" });
        assert.equal(udp, "pod1");
      },
    );

    await t.step(
      "[12.2, 12.3] ports reach their pods, and come and go",
      async () => {
        const first = { name: "first", port: 80, targetPort: 8080 };
        const second = { name: "second", port: 81, targetPort: 8081 };
        const ported = (...ports: PortOptions[]) =>
          serviceObjects("ports", {
            number: 12,
            ports,
            endpoints: [pod1, pod2],
          });
        const [ip, times] = ["10.96.0.12", 2];
        await cluster.apply(...ported(first));
        await untilAnswers("pod1 pod2", pod3, ip, { times });
        assert.equal(await askAll(pod3, ip, { port: 81 }), "refused");
        await cluster.apply(...ported(first, second));
        await untilAnswers("pod1 pod2", pod3, ip, { times, port: 81 });
        assert.equal(await whoAnswers(pod3, ip, { times }), "pod1 pod2");
        await cluster.apply(...ported(second));
        await untilAnswers("refused", pod3, ip);
        assert.equal(
          await whoAnswers(pod3, ip, { times, port: 81 }),
          "pod1 pod2",
        );
      },
    );

    await t.step(
      "[0.3, 12.4] the endpoint sees the node, and its client where PROXY protocol is asked for",
      async () => {
        const seen = (version: string) => {
          const [service, ...slices] = serviceObjects("seen", {
            number: 13,
            endpoints: [pod1],
          });
          assert.ok(service !== undefined);
          const annotations = { "kube-portal.dev/proxy-protocol": version };
          const metadata = { ...service.metadata, annotations };
          return [{ ...service, metadata }, ...slices];
        };
        const ask = () =>
          pod3.dial("tcp", "10.96.0.13", { port: 80, text: "hello" });
        await cluster.apply(...serviceObjects("seen", {
          number: 13,
          endpoints: [pod1],
        }));
        await untilAnswers("pod1", pod3, "10.96.0.13");
        assert.match(await ask(), /^pod1 10\.244\.0\.1:\d+\nhello$/);
        await cluster.apply(...seen("v1"));
        await untilAnswers("garbled", pod3, "10.96.0.13");
        assert.match(
          await ask(),
          /^pod1 .*\nPROXY TCP4 10\.244\.0\.4 10\.96\.0\.13 \d+ 80\r\nhello$/,
        );
      },
    );

    await t.step(
      "[12.1, 12.84] names are looked up through the DNS Service, by UDP and TCP",
      async () => {
        const dns = pod2.startDeno("test/support/dns_server.ts", [
          pod2.ipv4,
          "53",
          "web.default.svc.cluster.local=10.96.0.15",
          "long.default.svc.cluster.local=10.96.0.16",
        ]);
        cluster.use(dns);
        await dns.waitFor(/^ready$/m);
        await cluster.apply(...serviceObjects("kube-dns", {
          number: 53,
          ports: [
            { name: "dns", protocol: "UDP", port: 53, targetPort: 53 },
            { name: "dns-tcp", port: 53, targetPort: 53 },
          ],
          endpoints: [pod2],
        }));
        await cluster.proxy.waitFor(
          /added service port default\/kube-dns:dns-tcp 10\.96\.0\.53/,
        );
        const lookUp = async (name: string) => {
          const child = pod3.startDeno("test/support/dns_lookup.ts", [
            `${name}.default.svc.cluster.local`,
            "10.96.0.53",
            "53",
          ]);
          await using _child = child;
          await child.ended;
          return child.output;
        };
        assert.equal(await lookUp("web"), "10.96.0.15");
        assert.equal(await lookUp("long"), "10.96.0.16", "by TCP");
        assert.equal(await lookUp("none"), "NotFound");

        // And what the name stands for, while its endpoints come and go.
        const ip = await lookUp("web");
        const web = (...endpoints: (typeof pod1)[]) => ({
          number: 15,
          endpoints,
        });
        await cluster.apply(...serviceObjects("web", web()));
        assert.equal(await askAll(pod3, ip), "refused");
        await cluster.apply(...sliceObjects("web", web(pod1)));
        await untilAnswers("pod1", pod3, ip);
        await cluster.apply(...sliceObjects("web", web(pod1, pod2)));
        await untilAnswers("pod1 pod2", pod3, ip, { times: 2 });
        await cluster.apply(...sliceObjects("web", web(pod2)));
        await untilAnswers("pod2", pod3, ip, { times: 2 });
        await cluster.apply(...sliceObjects("web", web()));
        await untilAnswers("refused", pod3, ip);
      },
    );

    await t.step(
      "[12.71, 12.72] none of all this is in the kernel's table of connections",
      async () => {
        // No rule rewrites a packet, so no packet can fall out of a window that
        // the kernel thinks of, and there is no time for CLOSE_WAIT to set.
        const count = "/proc/sys/net/netfilter/nf_conntrack_count";
        const tracked = await node.run([
          "sh",
          "-c",
          `test ! -e ${count} || cat ${count}`,
        ]);
        assert.equal(Number(tracked), 0);
      },
    );
  },
);

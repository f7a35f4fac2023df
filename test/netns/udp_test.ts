/**
 * A Service like kube-dns through the whole program: `--steer route` in a node's
 * namespace, clients in pods and on the node, endpoints that come and go.
 */
import assert from "node:assert/strict";
import { stringify } from "@std/yaml";
import type { Child } from "../support/child.ts";
import {
  type KubeObject,
  kubeSlice,
  manifest,
} from "../support/kube_objects.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import { testWith } from "../support/needs.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const IPS = ["10.96.0.10", "fd00:96::a"] as const;
const PORT = 53;
const NODE_PORT = 30_053;
const TARGET_PORT = 5353;

const SERVICE: KubeObject = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "dns" },
  spec: {
    type: "NodePort",
    clusterIP: IPS[0],
    clusterIPs: IPS,
    ipFamilies: ["IPv4", "IPv6"],
    ipFamilyPolicy: "RequireDualStack",
    ports: [{
      name: "dns",
      port: PORT,
      protocol: "UDP",
      nodePort: NODE_PORT,
    }],
  },
};

/** The slices of both families, with these pods as endpoints. */
function slices(pods: readonly Namespace[]): KubeObject[] {
  return (["ipv4", "ipv6"] as const).map((family) => {
    const addresses = pods.map((pod) => pod[family]);
    const slice = kubeSlice("dns", addresses, { dns: TARGET_PORT });
    return {
      ...slice,
      metadata: { ...slice.metadata, name: `dns-${family}` },
      addressType: family === "ipv4" ? "IPv4" : "IPv6",
      ports: [{ name: "dns", port: TARGET_PORT, protocol: "UDP" }],
    };
  });
}

function endpoint(pod: Namespace, name: string): Promise<Child> {
  return pod.endpoint(
    [`udp/${pod.ipv4}/${TARGET_PORT}`, `udp/${pod.ipv6}/${TARGET_PORT}`],
    name,
  );
}

testWith(
  [netns],
  "[12.65, 12.66, 12.68, 12.69, 12.95] a UDP Service answers pods, the node, hosts outside and its own endpoint, whatever becomes of its endpoints",
  async (t) => {
    await using net = await Network.create({ hosts: ["outside"] });
    const { node, pods: [pod1, pod2] } = net;
    const outside = net.host("outside");
    assert.ok(pod1 !== undefined && pod2 !== undefined);
    await using _one = await endpoint(pod1, "one");
    await using _two = await endpoint(pod2, "two");
    await using folder = await temporaryFolder();
    const serve = (...pods: Namespace[]) =>
      folder.write("slices.yaml", manifest(...slices(pods)));
    await folder.write("service.yaml", stringify(SERVICE));
    await serve(pod1);
    await using proxy = startKubePortal([
      `--manifests=${folder.path}`,
      "--steer=route",
      "--service-cidr=10.96.0.0/16,fd00:96::/112",
      "--hostname-override=node",
      "--healthz-bind-address=",
    ], { namespace: node });
    await proxy.waitFor(/Ready/);
    const added = [...proxy.output.matchAll(/added service port/g)].length;

    const clients = [
      ...[pod1, pod2, node].flatMap((client) =>
        IPS.map((ip) => ({ client, ip, port: PORT }))
      ),
      ...[outside, pod2].flatMap((client) =>
        [node.ipv4, node.ipv6].map((ip) => ({ client, ip, port: NODE_PORT }))
      ),
    ];
    for (const { client, ip, port } of clients) {
      await t.step(`${client.name} asks ${ip} port ${port}`, async () => {
        // A reply from another address would be an error.
        const text = "who is it?";
        const reply = await client.dial("udp", ip, { port, text });
        assert.match(reply, /^one \S+\nwho is it\?$/);
      });
    }

    await t.step("60,000 bytes pass whole", async () => {
      const text = "0123456789".repeat(6_000);
      const reply = await pod2.dial("udp", IPS[0], { port: PORT, text });
      assert.equal(reply.slice(reply.indexOf("\n") + 1), text);
    });

    await t.step("clients go on to the endpoints there are", async () => {
      await using stack = new AsyncDisposableStack();
      const sending = clients.map(({ client, ip, port }) =>
        stack.use(
          client.startDeno("test/support/udp_client.ts", [ip, String(port)]),
        )
      );
      const hear = (pattern: RegExp) =>
        Promise.all(sending.map((child) => child.waitFor(pattern)));
      await hear(/^answer one$/m);
      await serve(pod2);
      await hear(/^(answer one\n)+answer two$/m);
      // No endpoint, no listener: the node refuses.
      await serve();
      await proxy.waitFor(new RegExp(`(removed service port[^]*){${added}}`));
      await serve(pod1);
      await hear(/^(answer one\n)+(answer two\n)+answer one$/m);
      for (const child of sending) {
        assert.doesNotMatch(child.output, /stranger/);
      }
    });
  },
);

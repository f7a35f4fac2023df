/**
 * Who answered whom through a real kube-proxy 1.36 (iptables mode), asked again
 * of this program with the same objects and addresses: `kp` is the node, `cl` a
 * host that routes through it. Steering is by route, and the two external
 * addresses are local by hand.
 */
import assert from "node:assert/strict";
import { parse } from "@std/yaml";
import { goldenText } from "../support/golden.ts";
import { matrixRows } from "../support/golden_matrix.ts";
import {
  CLIENT_IP,
  EXTERNAL_IPS,
  NODE_IP,
  POD_IPS,
  POD_PORTS,
} from "../support/golden_network.ts";
import { type KubeObject, manifest } from "../support/kube_objects.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

/** Enough for a rotation over two endpoints to show both. */
const DIALS = 3;

/**
 * Rows that differ on purpose: client and URL → what is seen here, and why. The
 * rest differs only in what is not compared: the choice is in turn and not at
 * random, and endpoints see the node's address.
 */
const DIFFERENCES: Readonly<Record<string, readonly [string, string]>> = {
  "kp http://10.96.7.223:9/": [
    "refused",
    "the whole CIDR is local: the kernel refuses what nobody serves",
  ],
  "cl http://10.96.7.223:9/": ["refused", "the same"],
  "kp http://203.0.113.70/": [
    POD_IPS.join(" "),
    "what the node sends to an address it has leaves from that address, which is in the ranges",
  ],
};

/** The addresses of the recording, on top of the network's own. */
async function readdress(
  { node, outside, pods }: {
    node: Namespace;
    outside: Namespace;
    pods: readonly Namespace[];
  },
): Promise<void> {
  const batch = (namespace: Namespace, lines: readonly string[]) =>
    namespace.run(["ip", "-batch", "-"], { stdin: lines.join("\n") + "\n" });
  for (const [index, pod] of pods.entries()) {
    await batch(pod, [`addr add ${POD_IPS[index]}/32 dev eth0`]);
  }
  await batch(node, [
    `addr add ${NODE_IP}/32 dev eth0`,
    `route add ${CLIENT_IP} dev eth0`,
    ...POD_IPS.map((ip) => `route add ${ip} dev cbr0`),
    ...EXTERNAL_IPS.map((ip) => `route add local ${ip} dev lo`),
  ]);
  const services = ["10.96.0.0/16", `${NODE_IP}/32`, ...EXTERNAL_IPS];
  await batch(outside, [
    `addr add ${CLIENT_IP}/32 dev eth0`,
    ...services.map((to) =>
      `route add ${to} via ${node.ipv4} src ${CLIENT_IP}`
    ),
  ]);
}

/** The Services as they were, with the status that a controller had written. */
function services(): string {
  const texts = goldenText("services.yaml").split("---\n");
  const objects = texts.map((text) => parse(text) as KubeObject);
  return manifest(
    ...objects.map((object) =>
      object.metadata.name === "lb-ranges"
        ? {
          ...object,
          status: { loadBalancer: { ingress: [{ ip: "203.0.113.70" }] } },
        }
        : object
    ),
  );
}

async function seenFrom(client: Namespace, url: URL): Promise<string[]> {
  const protocol = url.protocol === "udp:" ? "udp" : "tcp";
  const port = url.port === "" ? 80 : Number(url.port);
  const seen = new Set<string>();
  for (let i = 0; i < DIALS; i++) {
    const reply = await client.dial(protocol, url.hostname, {
      port,
      text: "x",
    });
    seen.add(
      reply.startsWith("error:") || reply === ""
        ? "refused"
        : reply.split(" ")[0] ?? "",
    );
  }
  return [...seen].sort();
}

testWith(
  [netns],
  "[5.68, 5.69, 5.70, 5.72, 5.73, 5.74, 6.24] the node and another host are answered as by kube-proxy 1.36",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const net = stack.use(await Network.create({ hosts: ["outside"] }));
    const { node, pods } = net;
    const outside = net.host("outside");
    await readdress({ node, outside, pods });
    for (const [index, pod] of pods.entries()) {
      const ip = POD_IPS[index] ?? "";
      const listen = POD_PORTS.map((each) => each.replace("/", `/${ip}/`));
      stack.use(await pod.endpoint(listen, ip));
    }
    const folder = stack.use(await temporaryFolder());
    await folder.write("services.yaml", services());
    for (const name of ["slices.yaml", "node.yaml"]) {
      await folder.write(name, goldenText(name));
    }
    const proxy = stack.use(startKubePortal([
      "--steer=route",
      "--service-cidr=10.96.0.0/16",
      "--healthz-bind-address=127.0.0.1:10256",
      "--hostname-override=kp",
      `--manifests=${folder.path}`,
    ], { namespace: node }));
    await proxy.waitFor(" Ready ");

    for (const row of matrixRows(goldenText("matrix-1.36-iptables.txt"))) {
      const { client, url, endpoints } = row;
      // Where endpoints saw the client itself, local ones alone may answer.
      const isLocalOnly = row.saw.includes(CLIENT_IP);
      await t.step(`${client} → ${url}`, async () => {
        const seen = await seenFrom(client === "kp" ? node : outside, url);
        const [difference] = DIFFERENCES[`${client} ${url}`] ?? [];
        if (difference !== undefined) {
          assert.deepEqual(seen, difference.split(" "));
        } else if (row.isRefused) {
          assert.deepEqual(seen, ["refused"]);
        } else if (isLocalOnly) {
          assert.deepEqual(seen, endpoints);
        } else if (url.hostname === "10.96.20.20") {
          // Session affinity: one, and which one is chance.
          assert.equal(seen.length, 1);
          assert.ok(POD_IPS.includes(seen[0] ?? ""));
        } else {
          // By chance it did not see both each time; in turn, we do.
          assert.ok(endpoints.every((each) => POD_IPS.includes(each)));
          assert.deepEqual(seen, POD_IPS);
        }
      });
    }
  },
);

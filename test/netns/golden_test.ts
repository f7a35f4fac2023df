/**
 * Who answered whom through a real kube-proxy 1.36 (iptables mode), asked again
 * of this program with the same objects and addresses: `kp` is the node, `cl` a
 * host that routes through it. Steering is by route, and the two external
 * addresses are local by hand.
 */
import assert from "node:assert/strict";
import { parse } from "@std/yaml";
import { type KubeObject, manifest } from "../support/kube_objects.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const GOLDEN = new URL("../fixture/golden/", import.meta.url);
const NODE_IP = "10.200.0.2";
const CLIENT_IP = "10.201.0.50";
const POD_IPS = ["10.200.0.11", "10.200.0.12"];
const POD_PORTS = [26_880, 8081, 5000, 5500, 8080].map((port) => `tcp/${port}`)
  .concat("udp/5353");
const EXTERNAL_IPS = ["198.51.100.40", "203.0.113.70"];
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

interface Row {
  readonly client: string;
  readonly url: URL;
  /** `refused`, `timeout`, or the endpoints that answered. */
  readonly want: readonly string[];
  /** Endpoints saw the client itself: only local ones may answer. */
  readonly isLocalOnly: boolean;
}

/** `from kp | NAME | http://10.96.7.223:26880/ | 3 10.200.0.11:26880 saw …;` */
function matrix(text: string): Row[] {
  return text.trimEnd().split("\n").map((line) => {
    const [from = "", , url = "", answers = ""] = line.split(" | ");
    const want = answers.split(";").filter((each) => each !== "").map(
      (each) => {
        const seen = each.split(" ")[1] ?? "";
        if (seen === "curl-exit-7") return "refused";
        if (seen === "curl-exit-28") return "timeout";
        return seen.replace("udp-", "").split(":")[0] ?? "";
      },
    );
    return {
      client: from.replace("from ", ""),
      url: new URL(url),
      want,
      isLocalOnly: answers.includes(`saw ${CLIENT_IP}`),
    };
  });
}

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

function golden(name: string): Promise<string> {
  return Deno.readTextFile(new URL(name, GOLDEN));
}

/** The Services as they were, with the status that a controller had written. */
async function services(): Promise<string> {
  const texts = (await golden("services.yaml")).split("---\n");
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
    await folder.write("services.yaml", await services());
    for (const name of ["slices.yaml", "node.yaml"]) {
      await folder.write(name, await golden(name));
    }
    const proxy = stack.use(startKubePortal([
      "--steer=route",
      "--service-cidr=10.96.0.0/16",
      "--healthz-bind-address=127.0.0.1:10256",
      "--hostname-override=kp",
      `--manifests=${folder.path}`,
    ], { namespace: node }));
    await proxy.waitFor(" Ready ");

    for (const row of matrix(await golden("matrix-1.36-iptables.txt"))) {
      const { client, url, want, isLocalOnly } = row;
      await t.step(`${client} → ${url}`, async () => {
        const seen = await seenFrom(client === "kp" ? node : outside, url);
        const [difference] = DIFFERENCES[`${client} ${url}`] ?? [];
        if (difference !== undefined) {
          assert.deepEqual(seen, difference.split(" "));
        } else if (want.includes("refused") || isLocalOnly) {
          assert.deepEqual(seen, want);
        } else if (url.hostname === "10.96.20.20") {
          // Session affinity: one, and which one is chance.
          assert.equal(seen.length, 1);
          assert.ok(POD_IPS.includes(seen[0] ?? ""));
        } else {
          // By chance it did not see both each time; in turn, we do.
          assert.ok(want.every((each) => POD_IPS.includes(each)));
          assert.deepEqual(seen, POD_IPS);
        }
      });
    }
  },
);

/**
 * The whole program on a node, in network namespaces: `--steer redirect`, with
 * clients everywhere, with processes that hold the same ports, with crashes,
 * and with Services that would lead back to themselves.
 */
import assert from "node:assert/strict";
import type { Child } from "../support/child.ts";
import {
  type KubeObject,
  kubeService,
  kubeSlice,
  manifest,
} from "../support/kube_objects.ts";
import { formatHostPort } from "../../proxy/ip.ts";
import { REDIRECT_TARGETS } from "../../proxy/rules/redirection.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import {
  type TemporaryFolder,
  temporaryFolder,
} from "../support/temporary_folder.ts";

const REFUSED = "error: ConnectionRefused";
const NODE_PORT = 30_080;
/** Last byte of the cluster IPs of a Service, in both families. */
const SERVICES = { web: 10, own: 20, empty: 30, loop: 40 };
const PORTS = [
  { name: "http", port: 80, protocol: "TCP", targetPort: 8080 },
  { name: "dns", port: 53, protocol: "UDP", targetPort: 8053 },
];
const FAMILIES = ["IPv4", "IPv6"] as const;
const needs = [netns, program("iptables-save"), program("conntrack")];

function clusterIps(name: keyof typeof SERVICES): [string, string] {
  const last = SERVICES[name];
  return [`10.96.0.${last}`, `fd00:96::${last}`];
}

/** A dual-stack Service for TCP and UDP; `endpoints` as [IPv4, IPv6]. */
function service(
  name: keyof typeof SERVICES,
  endpoints: readonly (readonly [string, string])[],
  more: { nodePort?: number; targets?: readonly [number, number] } = {},
): KubeObject[] {
  const ips = clusterIps(name);
  const targets = more.targets ?? [8080, 8053];
  const { nodePort } = more;
  const object = kubeService(name, ips[0], {});
  const ports = PORTS.map((port) => ({
    ...port,
    ...nodePort === undefined ? {} : { nodePort },
  }));
  const spec = {
    type: nodePort === undefined ? "ClusterIP" : "NodePort",
    clusterIP: ips[0],
    clusterIPs: ips,
    ipFamilies: FAMILIES,
    ports,
  };
  const slices = FAMILIES.map((addressType, index) => {
    const addresses = endpoints.map((each) => each[index] ?? "");
    const slice = kubeSlice(name, addresses, {});
    return {
      ...slice,
      metadata: { ...slice.metadata, name: `${name}-${index}` },
      addressType,
      ports: PORTS.map(({ name, protocol }, at) => ({
        name,
        protocol,
        port: targets[at],
      })),
    };
  });
  return [
    { ...object, spec },
    ...(endpoints.length === 0 ? [] : slices),
  ];
}

interface Stage {
  readonly node: Namespace;
  readonly outside: Namespace;
  readonly pods: readonly [Namespace, Namespace];
  readonly folder: TemporaryFolder;
  start(): Child;
}

/** A node with two pods that answer, and a folder with Services. */
async function stage(stack: AsyncDisposableStack): Promise<Stage> {
  const net = stack.use(await Network.create({ hosts: ["outside"] }));
  const { node, pods: [pod1, pod2] } = net;
  assert.ok(pod1 !== undefined && pod2 !== undefined);
  for (const pod of [pod1, pod2]) {
    stack.use(
      await pod.endpoint([pod.ipv4, pod.ipv6].flatMap((ip) => [
        `tcp/${ip}/8080`,
        `udp/${ip}/8053`,
      ])),
    );
  }
  const folder = stack.use(await temporaryFolder());
  const endpoints = [pod1, pod2].map(({ ipv4, ipv6 }) => [ipv4, ipv6] as const);
  const web = service("web", endpoints, { nodePort: NODE_PORT });
  const own = service("own", endpoints.slice(0, 1));
  await folder.write("web.yaml", manifest(...web));
  await folder.write("own.yaml", manifest(...own, ...service("empty", [])));
  const start = () =>
    stack.use(startKubePortal([
      "--steer=redirect",
      "--healthz-bind-address=",
      "--hostname-override=node",
      `--manifests=${folder.path}`,
    ], { namespace: node }));
  return {
    node,
    outside: net.host("outside"),
    pods: [pod1, pod2],
    folder,
    start,
  };
}

/** The endpoint that answers, or the error. */
async function who(
  from: Namespace,
  ip: string,
  { port = 80, protocol = "tcp" }: { port?: number; protocol?: "tcp" | "udp" } =
    {},
): Promise<string> {
  const reply = await from.dial(protocol, ip, { port, text: "hello" });
  if (reply.startsWith("error:")) return reply;
  assert.match(reply, /\nhello$/);
  return reply.split(" ")[0] ?? "";
}

async function rules(node: Namespace): Promise<string> {
  const saved = await Promise.all(
    ["iptables-save", "ip6tables-save"].map((name) => node.run([name])),
  );
  return saved.join("").replaceAll(/^#.*\n| \[\d+:\d+\]$/gm, "");
}

testWith(
  needs,
  "run --steer redirect: every client reaches Services by TCP and UDP, and nobody else comes in",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const { node, outside, pods, folder, start } = await stage(stack);
    const [pod1, pod2] = pods;
    // Before and after us, on the ports that Services have: each gets its own.
    stack.use(await node.endpoint(["tcp/0.0.0.0/80"], "host"));
    const proxy = start();
    await proxy.waitFor(" Ready ");
    stack.use(
      await node.endpoint([`tcp/${node.ipv6}/80`, "udp/0.0.0.0/53"], "host"),
    );

    for (const [index, family] of FAMILIES.entries()) {
      const web = clusterIps("web")[index] ?? "";
      const nodeIp = index === 0 ? node.ipv4 : node.ipv6;
      await t.step(`${family}: pods and the node → ClusterIP`, async () => {
        for (const client of [pod1, pod2, node]) {
          const tcp = [await who(client, web), await who(client, web)];
          assert.deepEqual(tcp.sort(), ["pod1", "pod2"], client.name);
          const udp = await who(client, web, { port: 53, protocol: "udp" });
          assert.match(udp, /^pod[12]$/, client.name);
        }
      });
      await t.step(`${family}: pod → its own Service`, async () => {
        const own = clusterIps("own")[index] ?? "";
        assert.equal(await who(pod1, own), "pod1");
        const udp = { port: 53, protocol: "udp" } as const;
        assert.equal(await who(pod1, own, udp), "pod1");
      });
      await t.step(
        `${family}: outside, pods and the node → NodePort`,
        async () => {
          for (const client of [outside, pod2, node]) {
            const port = NODE_PORT;
            assert.match(await who(client, nodeIp, { port }), /^pod[12]$/);
            const udp = { port, protocol: "udp" } as const;
            assert.match(
              await who(client, nodeIp, udp),
              /^pod[12]$/,
              client.name,
            );
          }
        },
      );
      await t.step(`${family}: what nobody serves is refused`, async () => {
        const empty = clusterIps("empty")[index] ?? "";
        for (const client of [pod1, node]) {
          assert.equal(await who(client, empty), REFUSED, client.name);
        }
      });
      await t.step(`${family}: the node's own ports stay its own`, async () => {
        assert.match(await who(outside, nodeIp), /^host/);
      });
      await t.step(`${family}: no back door`, async () => {
        const target = REDIRECT_TARGETS[family];
        const added = `default/web:http ${formatHostPort(web, 80)}/TCP`;
        const line = proxy.output.split("\n")
          .find((each) => each.includes(`added service port ${added}`));
        const port = /listen=\S*:(\d+)/.exec(line ?? "")?.[1];
        await outside.run(["ip", "route", "add", target, "via", nodeIp]);
        const options = { port: Number(port), text: "x", timeoutMs: 1_000 };
        assert.deepEqual(
          await Promise.all([
            outside.dial("tcp", target, options),
            pod1.dial("tcp", target, options),
            outside.dial("tcp", nodeIp, options),
          ]),
          ["error: Timeout", "error: Timeout", REFUSED],
        );
      });
    }

    await t.step(
      "a Service whose endpoint is a Service does not loop",
      async () => {
        const targets = [80, 53] as const;
        const [v4, v6] = clusterIps("loop");
        await folder.write(
          "loop.yaml",
          manifest(...service("loop", [[v4, v6]], { targets })),
        );
        await proxy.waitFor("added service port default/loop:http");
        for (const ip of [v4, v6]) {
          const reply = await who(pod1, ip).catch(() => "ended");
          assert.match(reply, /^$|ended|error: /);
        }
        await proxy.waitFor("Cannot reach any endpoint");
        assert.match(await who(pod1, clusterIps("web")[0]), /^pod[12]$/);
      },
    );
  },
);

testWith(
  needs,
  "run --steer redirect: kill -9 and a restart fail no connection but those in between",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const { node, pods: [, pod2], folder, start } = await stage(stack);
    const first = start();
    await first.waitFor(" Ready ");
    const installed = await rules(node);
    assert.match(installed, /--comment "default\/web:dns"/);
    const tcp = clusterIps("web").map((ip) =>
      stack.use(pod2.startDeno("test/support/tcp_client.ts", [ip, "80"]))
    );
    const udp = clusterIps("own").map((ip) =>
      stack.use(pod2.startDeno("test/support/udp_client.ts", [ip, "53"]))
    );
    for (const client of [...tcp, ...udp]) await client.waitFor(/^answer/m);

    await t.step("killed, clients are refused, not routed out", async () => {
      first.kill("SIGKILL");
      await first.status;
      for (const client of tcp) await client.waitFor(REFUSED);
      assert.equal(await rules(node), installed);
    });
    await t.step(
      "started again, nothing is written, and all goes on",
      async () => {
        const second = start();
        await second.waitFor(" Ready ");
        assert.equal(await rules(node), installed);
        for (const client of tcp) {
          await client.waitFor(/error: \w+\nanswer\n$/);
          // Those on their way when it was killed were reset, or cut; none
          // waited in vain.
          assert.match(
            client.output,
            /^answer\n(error: (Cut|ConnectionReset|ConnectionRefused)\n)+answer\n$/,
          );
        }
        // Other answers, to the ports that the clients had all the time.
        const { ipv4, ipv6 } = pod2;
        await folder.write(
          "own.yaml",
          manifest(...service("own", [[ipv4, ipv6]])),
        );
        for (const client of udp) {
          await client.waitFor("answer pod2");
          assert.doesNotMatch(client.output, /stranger/);
        }
        for (const client of tcp) assert.match(client.output, /answer\n$/);
        second.kill("SIGTERM");
        assert.equal((await second.status).code, 0, second.output);
        assert.equal(await rules(node), installed);
      },
    );
    await t.step("cleanup takes it all away, twice", async () => {
      for (let n = 0; n < 2; n++) {
        await using cleanup = startKubePortal(["cleanup"], { namespace: node });
        assert.equal((await cleanup.status).code, 0, cleanup.output);
        assert.doesNotMatch(await rules(node), /KUBE-/);
        const routes = await node.run(["ip", "route", "show", "table", "all"]);
        assert.doesNotMatch(routes, /169\.254\.107\.1/);
      }
    });
  },
);

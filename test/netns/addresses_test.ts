/**
 * Every address of a Service with the whole program on a node, steered by
 * route: who reaches which endpoint from outside, from a pod and from the node
 * itself.
 */
import assert from "node:assert/strict";
import type { Child } from "../support/child.ts";
import { type KubeObject, manifest } from "../support/kube_objects.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { eventually } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import {
  type TemporaryFolder,
  temporaryFolder,
} from "../support/temporary_folder.ts";

const POD_PORT = 8080;
const NODE_NAME = "node";
const REFUSED = "error: ConnectionRefused";

interface Stage {
  readonly node: Namespace;
  readonly outside: Namespace;
  readonly pods: readonly [Namespace, Namespace];
  readonly folder: TemporaryFolder;
  readonly proxy: Child;
  /** Writes Services and slices; the proxy follows the file. */
  apply(file: string, ...objects: readonly KubeObject[]): Promise<void>;
}

/** External addresses that the node has, by hand; the outside routes them. */
const HELD_IPS = ["198.51.100.40", "203.0.113.70"];

async function stage(
  stack: AsyncDisposableStack,
  ...flags: readonly string[]
): Promise<Stage> {
  const net = stack.use(await Network.create({ hosts: ["outside"] }));
  const [pod1, pod2] = net.pods;
  assert.ok(pod1 !== undefined && pod2 !== undefined);
  const { node } = net;
  const outside = net.host("outside");
  for (const pod of [pod1, pod2]) {
    stack.use(
      await pod.endpoint(
        [pod.ipv4, pod.ipv6].flatMap((ip) => [
          `tcp/${ip}/${POD_PORT}`,
          `udp/${ip}/${POD_PORT}`,
        ]),
      ),
    );
  }
  for (const ip of HELD_IPS) {
    await node.run(["ip", "route", "add", "local", ip, "dev", "lo"]);
    await outside.run(["ip", "route", "add", ip, "via", node.ipv4]);
  }
  const folder = stack.use(await temporaryFolder());
  await folder.write("node.yaml", manifest(ownNode(node)));
  const proxy = stack.use(startKubePortal([
    "--steer=route",
    "--service-cidr=10.96.0.0/16,fd00:96::/112",
    "--healthz-bind-address=127.0.0.1:10256",
    `--hostname-override=${NODE_NAME}`,
    `--manifests=${folder.path}`,
    ...flags,
  ], { namespace: node }));
  await proxy.waitFor(" Ready ");
  return {
    node,
    outside,
    pods: [pod1, pod2],
    folder,
    proxy,
    async apply(file, ...objects) {
      await folder.write(file, manifest(...objects));
    },
  };
}

function ownNode({ ipv4, ipv6 }: Namespace): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: NODE_NAME },
    spec: { podCIDRs: ["10.244.0.0/24", "fd00:244::/64"] },
    status: {
      addresses: [ipv4, ipv6].map((address) => ({
        type: "InternalIP",
        address,
      })),
    },
  };
}

let allotted = 9;

/** A dual-stack Service with one port, 80, and where its endpoints are. */
function service(
  name: string,
  options: {
    readonly spec?: Readonly<Record<string, unknown>>;
    readonly nodePort?: number;
    readonly protocols?: readonly string[];
    readonly ingress?: readonly string[];
    readonly created?: string;
    /** Each pod and the name of its node. */
    readonly endpoints: readonly (readonly [Namespace, string])[];
  },
): KubeObject[] {
  allotted++;
  const clusterIPs = [`10.96.0.${allotted}`, `fd00:96::${allotted}`];
  const { protocols = ["TCP"], endpoints } = options;
  const spec = {
    type: "NodePort",
    clusterIP: clusterIPs[0],
    clusterIPs,
    ipFamilies: ["IPv4", "IPv6"],
    ports: protocols.map((protocol) => ({
      name: protocol.toLowerCase(),
      protocol,
      port: 80,
      ...(options.nodePort === undefined ? {} : { nodePort: options.nodePort }),
    })),
    ...options.spec,
  };
  const ingress = options.ingress?.map((ip) => ({ ip })) ?? [];
  const slices = (["ipv4", "ipv6"] as const).map((family): KubeObject => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${name}-${family}`,
      labels: { "kubernetes.io/service-name": name },
    },
    addressType: family === "ipv4" ? "IPv4" : "IPv6",
    ports: protocols.map((protocol) => ({
      name: protocol.toLowerCase(),
      protocol,
      port: POD_PORT,
    })),
    endpoints: endpoints.map(([pod, nodeName]) => ({
      addresses: [pod[family]],
      nodeName,
      conditions: { ready: true },
    })),
  }));
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: {
        name,
        creationTimestamp: options.created ?? "2026-01-01T00:00:00Z",
      },
      spec,
      status: { loadBalancer: { ingress } },
    },
    ...slices,
  ];
}

/** Who answers over three connections: `pod1`, `pod1 pod2`, or `nobody`. */
async function who(
  from: Namespace,
  ip: string,
  options: { readonly port: number; readonly protocol?: "tcp" | "udp" },
): Promise<string> {
  const { port, protocol = "tcp" } = options;
  const names = new Set<string>();
  for (let i = 0; i < 3; i++) {
    const reply = await from.dial(protocol, ip, { port, text: "hello" });
    names.add(reply.startsWith("pod") ? reply.split(" ")[0] ?? "" : "nobody");
  }
  return [...names].sort().join(" ");
}

/** Waits until this client sees what it should. */
async function eventuallyWho(
  want: string,
  from: Namespace,
  ip: string,
  port: number,
): Promise<void> {
  await eventually(
    `${from.name} → ${ip}:${port} is answered by ${want}`,
    () => who(from, ip, { port }),
    (seen) => seen === want,
  );
}

testWith(
  [netns, program("ss")],
  "[6.9, 6.11, 6.12, 6.14, 6.17, 6.19, 12.10, 12.19, 12.57, 12.58] a NodePort answers the outside, pods and the node, and is gone with its Service",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const { node, outside, pods, folder, apply } = await stage(stack);
    const [pod1, pod2] = pods;
    await apply(
      "web.yaml",
      ...service("web", {
        nodePort: 30_080,
        protocols: ["TCP", "UDP"],
        endpoints: [[pod1, NODE_NAME], [pod2, "other"]],
      }),
    );
    await eventuallyWho("pod1 pod2", outside, node.ipv4, 30_080);
    const table: readonly [Namespace, readonly string[]][] = [
      [outside, [node.ipv4, node.ipv6]],
      [pod1, [node.ipv4, "10.244.0.1", node.ipv6, "fd00:244::1"]],
      [node, [node.ipv4, "127.0.0.1", "::1", node.ipv6]],
    ];
    for (const [client, ips] of table) {
      await t.step(`from ${client.name}`, async () => {
        for (const ip of ips) {
          for (const protocol of ["tcp", "udp"] as const) {
            const seen = await who(client, ip, { port: 30_080, protocol });
            assert.equal(seen, "pod1 pod2", `${protocol} ${ip}`);
          }
        }
      });
    }
    await t.step("an address that is nobody's is left alone", async () => {
      const reply = await node.dial("tcp", "127.0.0.2", { port: 30_080 });
      assert.equal(reply, REFUSED);
    });
    await t.step("after the Service is gone", async () => {
      await Deno.remove(`${folder.path}/web.yaml`);
      const sockets = () => node.run(["ss", "-Hlntu46", "sport = :30080"]);
      await eventually("nothing listens", sockets, (seen) => seen === "");
    });
  },
);

testWith(
  [netns],
  "[5.47, 5.51, 5.52, 5.66, 5.69, 5.70, 5.73, 12.36] externalTrafficPolicy Local is about the outside alone",
  async () => {
    await using stack = new AsyncDisposableStack();
    const { node, outside, pods: [pod1, pod2], apply } = await stage(stack);
    const local = (name: string, nodePort: number, first: string) =>
      service(name, {
        nodePort,
        spec: { externalTrafficPolicy: "Local" },
        endpoints: [[pod1, first], [pod2, "other"]],
      });
    await apply("here.yaml", ...local("here", 30_081, NODE_NAME));
    await apply("there.yaml", ...local("there", 30_082, "other"));
    await eventuallyWho("pod1 pod2", node, "127.0.0.1", 30_081);
    await eventuallyWho("pod1 pod2", node, "127.0.0.1", 30_082);
    const both = "pod1 pod2";
    const table: readonly [Namespace, string, string, string][] = [
      [outside, node.ipv4, "pod1", "nobody"],
      [outside, node.ipv6, "pod1", "nobody"],
      [pod2, node.ipv4, both, both],
      [pod2, "fd00:244::1", both, both],
      [node, node.ipv4, both, both],
      [node, "::1", both, both],
    ];
    for (const [client, ip, here, there] of table) {
      const what = `${client.name} ${ip}`;
      assert.equal(await who(client, ip, { port: 30_081 }), here, what);
      assert.equal(await who(client, ip, { port: 30_082 }), there, what);
    }
  },
);

testWith(
  [netns],
  "[6.15, 6.25, 6.29, 6.31, 6.32, 6.33] source ranges keep clients from load-balancer IPs, and from nothing else",
  async () => {
    await using stack = new AsyncDisposableStack();
    const { node, outside, pods: [pod1, pod2], apply } = await stage(stack);
    const [externalIp = "", loadBalancerIp = ""] = HELD_IPS;
    const ranged = (range: string) =>
      service("lb", {
        nodePort: 30_083,
        ingress: [loadBalancerIp],
        spec: {
          type: "LoadBalancer",
          loadBalancerSourceRanges: [range],
          externalIPs: [externalIp],
        },
        endpoints: [[pod1, NODE_NAME], [pod2, "other"]],
      });
    const both = "pod1 pod2";
    const free = async () => {
      for (const client of [outside, pod1, node]) {
        assert.equal(await who(client, externalIp, { port: 80 }), both);
        assert.equal(await who(client, node.ipv4, { port: 30_083 }), both);
      }
    };
    await apply("lb.yaml", ...ranged("10.244.0.0/24"));
    await eventuallyWho(both, pod1, loadBalancerIp, 80);
    await eventuallyWho("nobody", outside, loadBalancerIp, 80);
    assert.equal(await who(node, loadBalancerIp, { port: 80 }), "nobody");
    await free();
    // The node's address is in this one: what it sends leaves from the
    // load-balancer IP itself.
    await apply("lb.yaml", ...ranged("192.0.2.0/24"));
    await eventuallyWho("nobody", pod1, loadBalancerIp, 80);
    await eventuallyWho(both, outside, loadBalancerIp, 80);
    assert.equal(await who(node, loadBalancerIp, { port: 80 }), both);
    await free();
  },
);

testWith(
  [netns],
  "[5.51, 6.16, 6.26] what is taken is named and handed on, and an external address is the node's own",
  async () => {
    await using stack = new AsyncDisposableStack();
    const { node, outside, pods: [pod1, pod2], folder, apply, proxy } =
      await stage(stack, "--nodeport-addresses=primary");
    const [externalIp = ""] = HELD_IPS;
    const claiming = (name: string, year: number, pod: Namespace) =>
      service(name, {
        created: `${year}-01-01T00:00:00Z`,
        spec: {
          type: "ClusterIP",
          externalIPs: [externalIp],
          externalTrafficPolicy: "Local",
        },
        endpoints: [[pod, "other"]],
      });
    await apply("young.yaml", ...claiming("young", 2026, pod2));
    await eventuallyWho("pod2", node, externalIp, 80);
    assert.equal(await who(outside, externalIp, { port: 80 }), "nobody");
    await apply("old.yaml", ...claiming("old", 2025, pod1));
    await eventuallyWho("pod1", node, externalIp, 80);
    await proxy.waitFor(
      `Cannot serve default/young:tcp on ${externalIp}:80/TCP: another Service has it`,
    );
    await Deno.remove(`${folder.path}/old.yaml`);
    await eventuallyWho("pod2", node, externalIp, 80);

    const holder = await node.endpoint([`tcp/${node.ipv4}/30084`], "holder");
    await apply(
      "taken.yaml",
      ...service("taken", {
        nodePort: 30_084,
        endpoints: [[pod1, NODE_NAME]],
      }),
    );
    await proxy.waitFor(
      `Cannot listen on ${node.ipv4}:30084/TCP for default/taken:tcp`,
    );
    await eventuallyWho("pod1", outside, node.ipv6, 30_084);
    const reply = await node.dial("tcp", "127.0.0.1", { port: 30_084 });
    assert.equal(reply, REFUSED, "not the primary address");
    await holder[Symbol.asyncDispose]();
    await eventuallyWho("pod1", outside, node.ipv4, 30_084);
  },
);

/**
 * The whole program on a node, steering in one certain way, with clients all
 * around it and Services that every one of them can try: what the matrix of
 * strategies is made on.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Child } from "./child.ts";
import { type KubeObject, manifest } from "./kube_objects.ts";
import { startKubePortal } from "./kube_portal.ts";
import { findProgram } from "./needs.ts";
import { type Namespace, Network } from "./netns.ts";
import { temporaryFolder } from "./temporary_folder.ts";

/** Each strategy, and the programs that a node has for it. */
export const STRATEGIES = {
  "portal": { steer: "portal", programs: [] },
  "route": { steer: "route", programs: [] },
  "redirect, iptables-nft": {
    steer: "redirect",
    programs: iptables("nft"),
  },
  "redirect, iptables-legacy": {
    steer: "redirect",
    programs: iptables("legacy"),
  },
  "redirect, nft": { steer: "redirect", programs: ["nft"] },
} as const;

export type StrategyName = keyof typeof STRATEGIES;

function iptables(kind: string): readonly string[] {
  const rules = ["iptables", "ip6tables"].flatMap((name) => [
    `${name}-${kind}`,
    `${name}-${kind}-save`,
    `${name}-${kind}-restore`,
  ]);
  return [...rules, "ipset"];
}

/** What was removed by hand is back after this time at most. */
const SYNC_PERIOD_S = 2;
export const NODE_NAME = "node-1";
export const PORTS = { service: 80, unserved: 81, pod: 8080 } as const;
/** NodePorts of the Services. */
export const NODE_PORTS = { web: 30_080, empty: 30_081 } as const;

/** By family: 0 is IPv4, 1 is IPv6. */
export const WEB = ["10.96.0.10", "fd00:96::10"] as const;
export const EMPTY = ["10.96.0.20", "fd00:96::20"] as const;
const RANGES = ["10.96.0.30", "fd00:96::30"] as const;
/** External addresses: one that the node has, one that it has not. */
export const HELD = ["198.51.100.40", "fd00:51::40"] as const;
export const FAR = ["198.51.100.50", "fd00:51::50"] as const;
/** A load balancer's, which the node has; only `outside` is in its ranges. */
export const BALANCED = ["203.0.113.70", "fd00:71::70"] as const;

export interface SteeringStage {
  readonly steer: "portal" | "route" | "redirect";
  /** The folder with the cluster's objects. */
  readonly manifests: string;
  readonly node: Namespace;
  /** The endpoint of every Service. */
  readonly pod1: Namespace;
  readonly pod2: Namespace;
  readonly outside: Namespace;
  readonly node2: Namespace;
  /** With which the program is started. */
  readonly flags: readonly string[];
  /** Starts the program, with more flags, and waits until it is ready. */
  start(...more: readonly string[]): Promise<Child>;
  /** Starts another command of it on the node. */
  command(...args: readonly string[]): Child;
  /** The same, started by other programs such as `setpriv`. */
  commandWith(prefix: readonly string[], ...args: readonly string[]): Child;
}

export async function steeringStage(
  stack: AsyncDisposableStack,
  strategy: StrategyName,
): Promise<SteeringStage> {
  const net = stack.use(await Network.create({ hosts: ["outside", "node2"] }));
  const { node, pods: [pod1, pod2] } = net;
  assert.ok(pod1 !== undefined && pod2 !== undefined);
  const [outside, node2] = [net.host("outside"), net.host("node2")];
  await wire(node, [outside, node2]);
  stack.use(
    await pod1.endpoint([pod1.ipv4, pod1.ipv6].flatMap((ip) => [
      `tcp/${ip}/${PORTS.pod}`,
      `udp/${ip}/${PORTS.pod}`,
    ])),
  );
  const objects = stack.use(await temporaryFolder());
  await objects.write("node.yaml", manifest(ownNode(node)));
  await objects.write("services.yaml", manifest(...services(pod1, outside)));
  const { steer, programs } = STRATEGIES[strategy];
  const tools = stack.use(await toolbox(programs));
  const commandWith = (
    prefix: readonly string[],
    ...args: readonly string[]
  ) =>
    startKubePortal(args, {
      namespace: node,
      prefix: [...prefix, "/usr/bin/env", `PATH=${tools.path}`],
    });
  const command = (...args: readonly string[]) => commandWith([], ...args);
  const flags = [
    `--steer=${steer}`,
    "--service-cidr=10.96.0.0/16,fd00:96::/112",
    `--hostname-override=${NODE_NAME}`,
    "--healthz-bind-address=127.0.0.1:10256",
    "--drain-timeout=1s",
    `--iptables-sync-period=${SYNC_PERIOD_S}s`,
    `--manifests=${objects.path}`,
  ];
  return {
    steer,
    flags,
    manifests: objects.path,
    node,
    pod1,
    pod2,
    outside,
    node2,
    command,
    commandWith,
    async start(...more) {
      const proxy = stack.use(command(...flags, ...more));
      await proxy.waitFor(" Ready ");
      return proxy;
    },
  };
}

/** The node forwards packets, and has some addresses beside its own. */
async function wire(
  node: Namespace,
  clients: readonly Namespace[],
): Promise<void> {
  const batch = (namespace: Namespace, lines: readonly string[]) =>
    namespace.run(["ip", "-batch", "-"], { stdin: lines.join("\n") + "\n" });
  await node.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
  await node.run(["sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=1"]);
  const held = [...HELD, ...BALANCED];
  await batch(
    node,
    held.map((ip) =>
      `addr add ${ip}/${ip.includes(":") ? "128 nodad" : 32} dev lo`
    ),
  );
  const toNode = [...WEB, ...EMPTY, ...FAR, ...held];
  for (const client of clients) {
    await batch(
      client,
      toNode.map((ip) =>
        `route add ${ip} via ${ip.includes(":") ? node.ipv6 : node.ipv4}`
      ),
    );
  }
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

function services(pod1: Namespace, outside: Namespace): KubeObject[] {
  return [
    service("web", WEB, {
      nodePort: NODE_PORTS.web,
      more: { externalIPs: [...HELD, ...FAR] },
    }),
    service("empty", EMPTY, { nodePort: NODE_PORTS.empty }),
    {
      ...service("ranges", RANGES, {
        more: {
          type: "LoadBalancer",
          loadBalancerSourceRanges: [
            `${outside.ipv4}/32`,
            `${outside.ipv6}/128`,
          ],
        },
      }),
      status: { loadBalancer: { ingress: BALANCED.map((ip) => ({ ip })) } },
    },
    ...["web", "ranges"].flatMap((name) => [
      slice(name, "IPv4", pod1.ipv4),
      slice(name, "IPv6", pod1.ipv6),
    ]),
  ];
}

const PROTOCOLS = ["TCP", "UDP"] as const;

function service(
  name: string,
  clusterIPs: readonly string[],
  { nodePort, more }: {
    nodePort?: number;
    more?: Readonly<Record<string, unknown>>;
  },
): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name },
    spec: {
      type: "NodePort",
      clusterIP: clusterIPs[0],
      clusterIPs,
      ipFamilies: ["IPv4", "IPv6"],
      ports: PROTOCOLS.map((protocol) => ({
        name: protocol.toLowerCase(),
        protocol,
        port: PORTS.service,
        ...(nodePort === undefined ? {} : { nodePort }),
      })),
      ...more,
    },
  };
}

function slice(name: string, addressType: string, ip: string): KubeObject {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${name}-${addressType.toLowerCase()}`,
      labels: { "kubernetes.io/service-name": name },
    },
    addressType,
    ports: PROTOCOLS.map((protocol) => ({
      name: protocol.toLowerCase(),
      protocol,
      port: PORTS.pod,
    })),
    endpoints: [{ addresses: [ip], conditions: { ready: true } }],
  };
}

/** A folder with these programs, and what every node has. */
async function toolbox(programs: readonly string[]) {
  const folder = await temporaryFolder();
  for (const name of ["ip", "cat", "conntrack", ...programs]) {
    const path = findProgram(name);
    if (path !== undefined) await Deno.symlink(path, `${folder.path}/${name}`);
  }
  return folder;
}

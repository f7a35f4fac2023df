/**
 * A node whose kernel runs the program of a mode, clients around it, and
 * Services at random: where explanations are held against real packets.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { buildDesiredState } from "../../proxy/desired_state.ts";
import type { Question } from "../../proxy/explain/mod.ts";
import { DEFAULT_MODE_SETTINGS } from "./mode_settings.ts";
import type { EndpointSlice, Service } from "../../watch/types.ts";
import { type Namespace, Network } from "./netns.ts";
import { node as nodeObject, service, slice } from "./objects.ts";

export const CLIENTS = ["pod", "node", "outside"] as const;
export type ClientName = typeof CLIENTS[number];

const NODE_NAME = "n1";
const POD_PORT = 8080;

export interface ExplainedNetwork {
  readonly node: Namespace;
  readonly clients: Readonly<Record<ClientName, Namespace>>;
  /** All that is asked about, but for target, client and modes. */
  readonly facts: Omit<Question, "target" | "from" | "modes">;
  /** Addresses that clients dial: `10.96.0.1:80`. */
  readonly targets: readonly string[];
}

export async function explainedNetwork(
  stack: AsyncDisposableStack,
  { seed, count }: { seed: number; count: number },
): Promise<ExplainedNetwork> {
  const net = stack.use(
    await Network.create({ pods: 3, hosts: ["outside"] }),
  );
  const { node, pods: [pod1, pod2, client] } = net;
  assert.ok(pod1 !== undefined && pod2 !== undefined && client !== undefined);
  const outside = net.host("outside");
  await wire(node, { pods: net.pods, outside });
  for (const pod of [pod1, pod2]) {
    stack.use(
      await pod.endpoint([
        `tcp/${pod.ipv4}/${POD_PORT}`,
        `udp/${pod.ipv4}/${POD_PORT}`,
      ], pod.ipv4),
    );
  }
  const made = fc.sample(servicesAtRandom(count, [pod1.ipv4, pod2.ipv4]), {
    seed,
    numRuns: 1,
  })[0]!;
  const own = nodeObject(NODE_NAME, {
    addresses: [{ type: "InternalIP", address: node.ipv4 }],
    podCIDRs: ["10.244.0.0/24"],
  });
  return {
    node,
    clients: { pod: client, node, outside },
    facts: {
      family: "IPv4",
      state: buildDesiredState(made.map((each) => each.service), {
        slices: made.map((each) => each.slice),
        node: { name: NODE_NAME, zone: "" },
      }),
      slices: made.map((each) => each.slice),
      settings: { ...DEFAULT_MODE_SETTINGS, clusterCidrs: ["10.244.0.0/16"] },
      nodeName: NODE_NAME,
      node: own,
      interfaceIps: ["127.0.0.1", "10.244.0.1", node.ipv4],
      serviceCidrs: ["10.96.0.0/16"],
    },
    targets: made.flatMap(({ service }) => targetsOf(service, node.ipv4)),
  };
}

/** The node routes everything: pods too reach each other by it alone. */
async function wire(
  node: Namespace,
  { pods, outside }: { pods: readonly Namespace[]; outside: Namespace },
): Promise<void> {
  // What is refused is told by ICMP, which must not be rationed.
  const settings = [
    "ip_forward=1",
    "icmp_ratelimit=0",
    ...["all", "cbr0", "eth0"].map((link) => `conf.${link}.send_redirects=0`),
  ].map((setting) => `net.ipv4.${setting}`);
  await node.run(["sysctl", "-q", "-w", ...settings]);
  for (const pod of pods) {
    await pod.run(["ip", "route", "add", "10.244.0.1", "dev", "eth0"]);
    await pod.run(["ip", "route", "del", "10.244.0.0/24", "dev", "eth0"]);
  }
  for (const to of ["10.96.0.0/16", "10.244.0.0/16", "198.51.100.0/24"]) {
    await outside.run(["ip", "route", "add", to, "via", node.ipv4]);
  }
}

interface Made {
  readonly service: Service;
  readonly slice: EndpointSlice;
}

/** Each with addresses and ports of its own, and everything else by chance. */
function servicesAtRandom(
  count: number,
  ips: readonly string[],
): fc.Arbitrary<Made[]> {
  const policy = fc.constantFrom("Cluster" as const, "Local" as const);
  const one = (index: number) =>
    fc.record({
      type: fc.constantFrom("ClusterIP", "NodePort", "LoadBalancer"),
      protocol: fc.constantFrom("TCP" as const, "TCP" as const, "UDP" as const),
      internalTrafficPolicy: policy,
      externalTrafficPolicy: policy,
      hasExternalIp: fc.boolean(),
      sessionAffinity: fc.constantFrom("None" as const, "ClientIP" as const),
      ranges: fc.constantFrom([], ["192.0.2.0/24"], ["203.0.113.0/24"]),
      endpoints: fc.tuple(...ips.map((ip) =>
        fc.record({
          ip: fc.constant(ip),
          nodeName: fc.constantFrom(NODE_NAME, "n2"),
          ready: fc.constantFrom(true, true, false),
        })
      )),
    }).map((made): Made => {
      const { hasExternalIp, ranges, endpoints, protocol, ...spec } = made;
      const isOpen = spec.type !== "ClusterIP";
      const key = `default/s${index}`;
      return {
        service: service(key, {
          ...spec,
          clusterIP: `10.96.0.${index + 10}`,
          externalIPs: hasExternalIp ? [`198.51.100.${index + 10}`] : [],
          ports: [{
            name: "p",
            port: 80,
            protocol,
            nodePort: isOpen ? 30_000 + index : 0,
          }],
          loadBalancerSourceRanges: spec.type === "LoadBalancer" ? ranges : [],
          ingress: spec.type === "LoadBalancer"
            ? [`198.51.100.${index + 110}`]
            : [],
        }),
        slice: slice(key, {
          ports: [{ name: "p", port: POD_PORT, protocol }],
          endpoints,
        }),
      };
    });
  return fc.tuple(...Array.from({ length: count }, (_, index) => one(index)));
}

function targetsOf({ spec, status }: Service, nodeIp: string): string[] {
  const [port] = spec.ports;
  assert.ok(port !== undefined);
  return [
    [spec.clusterIP, port.port],
    ...spec.externalIPs.map((ip) => [ip, port.port]),
    ...status.loadBalancer.ingress.map(({ ip }) => [ip, port.port]),
    ...port.nodePort === 0 ? [] : [[nodeIp, port.nodePort]],
  ].map(([ip, number]) => `${ip}:${number}/${port.protocol}`);
}

/**
 * Connects once from there, by a shell, which is quick to start.
 *
 * @param seconds how long to wait. A refusal may take one: between namespaces
 *   it comes while the client's socket is still locked by its `connect`, and
 *   Linux drops it then; the next one answers the second try.
 * @returns what the endpoint said: its address and its client's; or `refused`,
 *   or `silence`
 */
export async function dialOnce(
  from: Namespace,
  target: string,
  seconds: number,
): Promise<string> {
  const [, ip = "", port = "", protocol = ""] =
    /^(.*):(\d+)\/(TCP|UDP)$/.exec(target) ?? [];
  const script = `exec 3<>/dev/${protocol.toLowerCase()}/${ip}/${port} && ` +
    `{ ${protocol === "UDP" ? "echo x >&3;" : ""} head -n 1 <&3; }`;
  const command = `timeout ${seconds} bash -c '${script}' 2>&1; true`;
  const output = (await from.run(["bash", "-c", command])).trim();
  if (/refused/i.test(output)) return "refused";
  const answer = /^([\d.]+) ([\d.]+):\d+$/m.exec(output);
  return answer === null ? "silence" : `${answer[1]} saw ${answer[2]}`;
}

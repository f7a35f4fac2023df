/**
 * The machines that modes are compared on, each a network namespace with a veth
 * pair to one switch:
 *
 *     client ──► node of the mode ──► endpoint          API server
 *                one for each mode, and one that only routes
 *
 * The client is a pod to its node: it is inside the cluster's range and nobody
 * masquerades it. It has an address for each node, so that answers come back
 * the way they went, by that node. All nodes are there at the same time; where
 * a Service's address leads is the client's route.
 *
 * @module
 */
import { type Namespace, Network } from "../../support/netns.ts";

export const SERVICE_CIDR = "10.96.0.0/16";
export const CLUSTER_CIDR = "10.244.0.0/16";

/** Where the load's endpoints are. */
export const ENDPOINT_IPS: readonly string[] = [1, 2, 3, 4].map((n) =>
  `10.244.0.${n}`
);
const ENDPOINTS = "10.244.0.0/24";
/** Where endpoints that come with a change are: every address answers. */
const NEW_ENDPOINTS = "10.244.128.0/17";
const CLIENTS = "10.244.1.0/24";

/** The name of the node that only routes. */
export const DIRECT = "direct";

/** The namespaces of one comparison. */
export interface ModesNetwork extends AsyncDisposable {
  readonly client: Namespace;
  readonly endpoint: Namespace;
  /** Where the API server is. */
  readonly api: Namespace;
  /** By the mode's name, `direct` too. */
  node(mode: string): Namespace;
  /** Leads the client's connections to Services to the node of this mode. */
  lead(mode: string): Promise<void>;
}

/** An address of the `n`th new endpoint; none is used twice. */
export function newEndpointIp(n: number): string {
  return `10.244.${128 + Math.floor(n / 250)}.${1 + n % 250}`;
}

/** Makes it all, with a node for each of these modes and `direct`. */
export async function modesNetwork(
  modes: readonly string[],
): Promise<ModesNetwork> {
  const nodes = [DIRECT, ...modes];
  await using stack = new AsyncDisposableStack();
  const net = stack.use(
    await Network.create({ pods: 0, hosts: ["client", "endpoint", ...nodes] }),
  );
  const client = net.host("client");
  const endpoint = net.host("endpoint");
  const clientIp = (name: string) => `10.244.1.${1 + nodes.indexOf(name)}`;
  for (const name of nodes) {
    const node = net.host(name);
    await router(node);
    await ip(
      node,
      `route add ${ENDPOINTS} via ${endpoint.ipv4}`,
      `route add ${NEW_ENDPOINTS} via ${endpoint.ipv4}`,
      `route add ${CLIENTS} via ${client.ipv4}`,
    );
  }
  await ip(
    endpoint,
    ...ENDPOINT_IPS.map((address) => `addr add ${address}/32 dev lo`),
    `route add local ${NEW_ENDPOINTS} dev lo`,
    ...nodes.map((name) =>
      `route add ${clientIp(name)} via ${net.host(name).ipv4}`
    ),
  );
  const via = (name: string) =>
    `via ${net.host(name).ipv4} src ${clientIp(name)}`;
  await ip(
    client,
    ...nodes.map((name) => `addr add ${clientIp(name)}/32 dev lo`),
    `route add ${ENDPOINTS} ${via(DIRECT)}`,
  );
  const parts = stack.move();
  return {
    client,
    endpoint,
    api: net.node,
    node: (mode) => net.host(mode),
    lead: (mode) => ip(client, `route replace ${SERVICE_CIDR} ${via(mode)}`),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

/** Packets leave by the link that they came by, and nobody is told of it. */
async function router(node: Namespace): Promise<void> {
  await node.run([
    "sh",
    "-c",
    "cd /proc/sys/net/ipv4 && echo 1 > ip_forward && " +
    "for f in conf/*/send_redirects; do echo 0 > $f; done && " +
    "echo 0 > icmp_ratelimit",
  ]);
}

/**
 * Makes a node refuse at once what no rule of it leads to an endpoint, as the
 * listeners' stage does by itself: else a client would wait a second for its
 * second packet.
 */
export async function refuseServices(node: Namespace): Promise<void> {
  await ip(node, `route add unreachable ${SERVICE_CIDR}`);
}

async function ip(
  namespace: Namespace,
  ...lines: readonly string[]
): Promise<void> {
  await namespace.run(["ip", "-batch", "-"], {
    stdin: lines.join("\n") + "\n",
  });
}

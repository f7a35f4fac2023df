/**
 * A cluster of one node for tests: network namespaces, the development API
 * server and the proxy as processes on the node, steered by route, and
 * endpoints in pods.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Child } from "./child.ts";
import {
  collectionOf,
  type KubeObject,
  manifest,
  pathOf,
} from "./kube_objects.ts";
import { startKubePortal } from "./kube_portal.ts";
import { eventually } from "./loopback.ts";
import { type Namespace, Network } from "./netns.ts";
import { type TemporaryFolder, temporaryFolder } from "./temporary_folder.ts";

export const NODE_NAME = "node-1";
const SERVER = "http://127.0.0.1:8001";

/** External addresses that the node has, by hand; `outside` routes them. */
export const EXTERNAL_IPS = ["198.51.100.40", "203.0.113.70"] as const;

export interface NodeClusterOptions {
  /** Default: 2. */
  readonly pods?: number;
  /** Instead of `--steer=route`: another mode, and what it needs. */
  readonly proxyArgs?: readonly string[];
  /** `false`: the test starts one by itself. */
  readonly startsProxy?: boolean;
}

export class NodeCluster implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly net: Network;
  readonly folder: TemporaryFolder;
  apiserver!: Child;
  proxy!: Child;

  private constructor(
    stack: AsyncDisposableStack,
    net: Network,
    folder: TemporaryFolder,
  ) {
    this.#stack = stack;
    this.net = net;
    this.folder = folder;
  }

  /** Everything runs, and the proxy has said that it is ready. */
  static async start(options: NodeClusterOptions = {}): Promise<NodeCluster> {
    const stack = new AsyncDisposableStack();
    try {
      const { pods = 2, proxyArgs = [], startsProxy = true } = options;
      const net = stack.use(
        await Network.create({ pods, hosts: ["outside"] }),
      );
      const folder = stack.use(await temporaryFolder());
      const cluster = new NodeCluster(stack, net, folder);
      const { node, outside } = cluster;
      for (const ip of EXTERNAL_IPS) {
        await node.run(["ip", "route", "add", "local", ip, "dev", "lo"]);
        await outside.run(["ip", "route", "add", ip, "via", node.ipv4]);
      }
      await folder.write("node.yaml", manifest(ownNode(node)));
      await cluster.startApiserver(["10.96.0.0/16", "fd00:96::/112"]);
      if (startsProxy) await cluster.startProxy(...proxyArgs);
      return cluster;
    } catch (error) {
      await stack.disposeAsync();
      throw error;
    }
  }

  get node(): Namespace {
    return this.net.node;
  }

  get outside(): Namespace {
    return this.net.host("outside");
  }

  /** `pod1` is number 1. */
  pod(number: number): Namespace {
    const pod = this.net.pods[number - 1];
    assert.ok(pod !== undefined);
    return pod;
  }

  /** Ends with the cluster, if not before. */
  use<T extends AsyncDisposable>(resource: T): T {
    return this.#stack.use(resource);
  }

  async startApiserver(serviceCidrs: readonly string[]): Promise<void> {
    this.apiserver = this.use(startKubePortal([
      "apiserver",
      `--manifests=${this.folder.path}`,
      `--service-cidr=${serviceCidrs.join()}`,
    ], { namespace: this.node }));
    await this.apiserver.waitFor("nothing is kept when it ends");
    assert.doesNotMatch(this.apiserver.output, /Cannot load/);
  }

  /** @param args more of them, `--engine=portable` */
  async startProxy(...args: readonly string[]): Promise<void> {
    this.proxy = this.use(startKubePortal([
      "--steer=route",
      `--master=${SERVER}`,
      `--hostname-override=${NODE_NAME}`,
      ...args,
    ], { namespace: this.node }));
    await this.proxy.waitFor(" Ready ");
  }

  /** An endpoint of this name on these ports of its addresses, TCP and UDP. */
  async serve(
    at: Namespace,
    options: { readonly ports?: readonly number[]; readonly name?: string } =
      {},
  ): Promise<Child> {
    const { ports = [8080], name = at.name } = options;
    const addresses = [at.ipv4, at.ipv6].flatMap((ip) =>
      ports.flatMap((port) => [`tcp/${ip}/${port}`, `udp/${ip}/${port}`])
    );
    return this.use(await at.endpoint(addresses, name));
  }

  /** Makes these objects, or changes them where they are. */
  async apply(...objects: readonly KubeObject[]): Promise<void> {
    for (const object of objects) {
      const path = pathOf(object);
      const made = await this.#send("POST", collectionOf(object), object);
      if (made !== 201) {
        assert.equal(made, 409);
        assert.equal(await this.#send("PATCH", path, object), 200);
      }
      // Only this way: elsewhere the API server does not look at it.
      if (object.kind === "Service" && object["status"] !== undefined) {
        assert.equal(
          await this.#send("PATCH", `${path}/status`, object),
          200,
        );
      }
    }
  }

  async delete(...objects: readonly KubeObject[]): Promise<void> {
    for (const object of objects) {
      assert.equal(await this.#send("DELETE", pathOf(object)), 200);
    }
  }

  /** @returns the status; what the API server says of an error is thrown */
  async #send(
    method: string,
    path: string,
    body?: KubeObject,
  ): Promise<number> {
    const type = method === "PATCH"
      // Replaces lists as a whole, unlike the strategic kind.
      ? "application/merge-patch+json"
      : "application/json";
    const answer = await this.node.run([
      "curl",
      "-sS",
      "-w\n%{http_code}",
      `-X${method}`,
      `-HContent-Type: ${type}`,
      ...(body === undefined ? [] : ["--data-binary", JSON.stringify(body)]),
      `${SERVER}${path}`,
    ]);
    const status = Number(answer.slice(answer.lastIndexOf("\n")));
    if (status < 400 || status === 409) return status;
    throw new Error(`${method} ${path}: ${answer}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
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

export interface PortOptions {
  readonly name: string;
  readonly protocol?: "TCP" | "UDP";
  readonly port: number;
  readonly nodePort?: number;
  /** Of the endpoints. Default: 8080. */
  readonly targetPort?: number;
}

export interface EndpointOptions {
  readonly pod: Namespace;
  /** Default: the cluster's node. */
  readonly nodeName?: string;
  readonly ready?: boolean;
  readonly serving?: boolean;
  readonly terminating?: boolean;
}

export interface ServiceOptions {
  /** Of the ClusterIPs `10.96.0.N` and `fd00:96::N`, in decimal. */
  readonly number: number;
  /** Default: 80/TCP named `http`. */
  readonly ports?: readonly PortOptions[];
  readonly endpoints: readonly (Namespace | EndpointOptions)[];
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly ingress?: readonly string[];
}

/** A dual-stack Service, and its slice of each family. */
export function serviceObjects(
  name: string,
  options: ServiceOptions,
): KubeObject[] {
  const { number, ports = [{ name: "http", port: 80 }] } = options;
  const clusterIPs = [`10.96.0.${number}`, `fd00:96::${number}`];
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name },
      spec: {
        clusterIP: clusterIPs[0],
        clusterIPs,
        ipFamilyPolicy: "RequireDualStack",
        ipFamilies: ["IPv4", "IPv6"],
        ports: ports.map(({ targetPort, protocol = "TCP", ...port }) => ({
          ...port,
          protocol,
          targetPort: targetPort ?? 8080,
        })),
        ...options.spec,
      },
      ...(options.ingress === undefined ? {} : {
        status: {
          loadBalancer: { ingress: options.ingress.map((ip) => ({ ip })) },
        },
      }),
    },
    ...sliceObjects(name, options),
  ];
}

/** The slices alone, for a change of endpoints. */
export function sliceObjects(
  name: string,
  { ports = [{ name: "http", port: 80 }], endpoints }: Pick<
    ServiceOptions,
    "ports" | "endpoints"
  >,
): KubeObject[] {
  return (["ipv4", "ipv6"] as const).map((family) => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${name}-${family}`,
      labels: { "kubernetes.io/service-name": name },
    },
    addressType: family === "ipv4" ? "IPv4" : "IPv6",
    ports: ports.map(({ name, protocol = "TCP", targetPort = 8080 }) => ({
      name,
      protocol,
      port: targetPort,
    })),
    endpoints: endpoints.map((given) => {
      const { pod, ...more } = "pod" in given ? given : { pod: given };
      const { ready = true, terminating = false } = more;
      return {
        addresses: [pod[family]],
        nodeName: more.nodeName ?? NODE_NAME,
        conditions: { ready, serving: more.serving ?? ready, terminating },
      };
    }),
  }));
}

/**
 * Who answers, of so many connections or datagrams one after the other: names
 * in the order they came, as `ask.ts` prints them.
 */
export async function askAll(
  from: Namespace,
  ip: string,
  options: {
    readonly port?: number;
    readonly protocol?: "tcp" | "udp";
    readonly times?: number;
    readonly bytes?: number;
  } = {},
): Promise<string> {
  const { port = 80, protocol = "tcp", times = 1, bytes = 5 } = options;
  const child = from.startDeno("test/support/ask.ts", [
    protocol,
    ip,
    ...[port, times, bytes].map(String),
  ]);
  await using _child = child;
  await child.status;
  await child.ended;
  return child.output.trim();
}

/** The same, sorted: who is there, whatever the order. */
export async function whoAnswers(
  ...args: Parameters<typeof askAll>
): Promise<string> {
  const names = (await askAll(...args)).split(" ");
  return [...new Set(names)].sort().join(" ");
}

/** Waits until this is who answers; changes come through a watch. */
export async function untilAnswers(
  want: string,
  ...args: Parameters<typeof askAll>
): Promise<void> {
  await eventually(
    `${args[0].name} → ${args[1]} is answered by "${want}"`,
    () => whoAnswers(...args),
    (seen) => seen === want,
  );
}

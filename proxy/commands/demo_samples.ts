/**
 * What the demo shows: a Node, three Services (two of them from the article
 * that this project grew from), and the HTTP servers that stand for their pods.
 * Everything has an address in 127.0.0.0/8, which needs no root on Linux.
 *
 * @module
 */
import type { ApiClient } from "../../watch/mod.ts";
import { cannotListen } from "./addresses.ts";

/** A pod of the demo: one HTTP server for each of its named ports. */
export interface SamplePod {
  readonly name: string;
  readonly ip: string;
  readonly ports: Readonly<Record<string, number>>;
}

export interface SampleService {
  readonly name: string;
  readonly clusterIP: string;
  /** Port name → number. */
  readonly ports: Readonly<Record<string, number>>;
  readonly pods: number;
  /** Where its pods live: `127.97.7.` and a number. */
  readonly podNetwork: string;
}

export const DEMO_SERVICE_CIDR = "127.96.0.0/16";
export const DEMO_NODE = "demo";

export const SAMPLE_SERVICES: readonly SampleService[] = [
  {
    name: "services-prod-6059-oms-api",
    clusterIP: "127.96.7.223",
    ports: { "http-0": 26880 },
    pods: 3,
    podNetwork: "127.97.7.",
  },
  {
    name: "addon-nexus",
    clusterIP: "127.96.20.10",
    ports: {
      "addon-nexus-tcp-8081": 8081,
      "addon-nexus-tcp-5000": 5000,
      "addon-nexus-tcp-5500": 5500,
    },
    pods: 3,
    podNetwork: "127.97.20.",
  },
  {
    name: "no-endpoints-yet",
    clusterIP: "127.96.30.1",
    ports: { http: 8080 },
    pods: 0,
    podNetwork: "127.97.30.",
  },
];

/** Starts the servers of a Service's pods; they stop when `signal` aborts. */
export function servePods(
  service: SampleService,
  signal: AbortSignal,
): SamplePod[] {
  return Array.from({ length: service.pods }, (_, index) => {
    const name = `${service.name}-${index + 1}`;
    const ip = Deno.build.os === "linux"
      ? `${service.podNetwork}${index + 1}`
      // Elsewhere 127.0.0.1 is the only loopback address: then the ports of
      // the pods differ instead.
      : "127.0.0.1";
    const ports = Object.fromEntries(
      Object.entries(service.ports).map(([portName, port]) => [
        portName,
        servePort({ name, ip, port: ip === "127.0.0.1" ? 0 : port }, signal),
      ]),
    );
    return { name, ip, ports };
  });
}

function servePort(
  { name, ip, port }: { name: string; ip: string; port: number },
  signal: AbortSignal,
): number {
  const answer = (_request: Request, { remoteAddr }: Deno.ServeHandlerInfo) => {
    const { hostname, port: from } = remoteAddr as Deno.NetAddr;
    return new Response(
      `${name}:${server.addr.port} on ${ip}, asked by ${hostname}:${from}\n`,
      // A kept connection would stay with its endpoint, and hide the rotation.
      { headers: { "Connection": "close" } },
    );
  };
  const server = servePodAddress({ ip, port, signal }, answer);
  return server.addr.port;
}

/** @throws {UserError} if somebody has the address, mostly another demo */
function servePodAddress(
  { ip, port, signal }: { ip: string; port: number; signal: AbortSignal },
  answer: Deno.ServeHandler<Deno.NetAddr>,
): Deno.HttpServer<Deno.NetAddr> {
  try {
    return Deno.serve(
      { hostname: ip, port, signal, onListen: () => {} },
      answer,
    );
  } catch (error) {
    throw cannotListen(error, {
      address: { ip, port },
      advice: "is another demo running?",
    });
  }
}

function nodeObject(): Record<string, unknown> {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name: DEMO_NODE,
      labels: { "topology.kubernetes.io/zone": "loopback" },
    },
    spec: {},
  };
}

function serviceObject(service: SampleService): Record<string, unknown> {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: service.name, namespace: "default" },
    spec: {
      clusterIP: service.clusterIP,
      ports: Object.entries(service.ports).map(([name, port]) => ({
        name,
        port,
        protocol: "TCP",
        targetPort: port,
      })),
    },
  };
}

/** One slice for all pods with the same port numbers, as the controller does. */
export function sliceObjects(
  service: SampleService,
  pods: readonly SamplePod[],
): Record<string, unknown>[] {
  const groups = Map.groupBy(pods, (pod) => JSON.stringify(pod.ports));
  return [...groups.values()].map((group, index) => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${service.name}-${index + 1}`,
      namespace: "default",
      labels: { "kubernetes.io/service-name": service.name },
    },
    addressType: "IPv4",
    ports: Object.entries(group[0]?.ports ?? {}).map(([name, port]) => ({
      name,
      port,
      protocol: "TCP",
    })),
    endpoints: group.map((pod) => ({
      addresses: [pod.ip],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: DEMO_NODE,
    })),
  }));
}

const SERVICES_PATH = "/api/v1/namespaces/default/services";
export const SLICES_PATH =
  "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/** Puts the Node, the Services and the slices of their pods into the cluster. */
export async function createSamples(
  client: ApiClient,
  pods: ReadonlyMap<string, readonly SamplePod[]>,
): Promise<void> {
  await create(client, "/api/v1/nodes", nodeObject());
  for (const service of SAMPLE_SERVICES) {
    await create(client, SERVICES_PATH, serviceObject(service));
    for (const slice of sliceObjects(service, pods.get(service.name) ?? [])) {
      await create(client, SLICES_PATH, slice);
    }
  }
}

async function create(
  client: ApiClient,
  path: string,
  body: unknown,
): Promise<void> {
  const response = await client.request(path, { method: "POST", body });
  await response.body?.cancel();
}

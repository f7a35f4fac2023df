/**
 * Clusters of many Services to measure: an API server and a proxy, each a
 * process of its own, and what happens after a change.
 *
 * @module
 */
import {
  type KubeObject,
  kubeService,
  kubeSlice,
  KubeWriter,
  manifest,
} from "../support/kube_objects.ts";
import type { Child } from "../support/child.ts";
import { freePort, startKubePortal } from "../support/kube_portal.ts";
import { loopbackRange } from "../support/loopback.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";
import { REQUEST_AND_CLOSE } from "./load/protocol.ts";
import type { Address } from "./load/sys.ts";

const PORT = 8080;
const SAMPLE_TIMEOUT_MS = 5_000;
/** Ten thousand Services take their time to be read. */
const START_TIMEOUT_MS = 120_000;
/** Services in one part of a range; `.0` and `.255` are left out. */
const PER_PART = 250;

/** An API server with Services, on addresses that no other one uses. */
export interface Cluster extends AsyncDisposable {
  readonly services: number;
  /** Where Services are, in order. */
  readonly addresses: readonly Address[];
  readonly server: string;
  readonly range: string;
  readonly writer: KubeWriter;
  /** What all Services had for an endpoint at first. */
  readonly endpoint: Address;
  /** The port of all endpoints that samples make. */
  readonly podPort: number;
}

const usedRanges = new Set<string>();

/**
 * Starts an API server with that many Services.
 *
 * @param endpoint of all of them; default: nobody is there
 */
export async function startCluster(
  services: number,
  endpoint?: Address,
): Promise<Cluster> {
  let range = loopbackRange();
  while (usedRanges.has(range)) range = loopbackRange();
  usedRanges.add(range);
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const podPort = freePort();
  const first = endpoint ?? { ip: `${range}.255.254`, port: podPort };
  const objects: KubeObject[] = [];
  const addresses: Address[] = [];
  for (let n = 0; n < services; n++) {
    const address = { ip: serviceIp(range, n), port: PORT };
    addresses.push(address);
    objects.push(
      kubeService(nameOf(n), address.ip, { http: PORT }),
      sliceTo(n, first),
    );
  }
  await folder.write("services.yaml", manifest(...objects));
  const apiPort = freePort();
  const server = `http://127.0.0.1:${apiPort}`;
  const apiserver = stack.use(startKubePortal([
    "apiserver",
    `--port=${apiPort}`,
    `--service-cidr=${range}.0.0/17`,
    `--manifests=${folder.path}`,
  ]));
  await apiserver.waitFor("nothing is kept when it ends", START_TIMEOUT_MS);
  const parts = stack.move();
  return {
    services,
    addresses,
    server,
    range,
    writer: new KubeWriter(server),
    endpoint: first,
    podPort,
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

/** A proxy of the cluster; `readyMs`: from its start to its first sync. */
export async function startProxy(
  { server }: Cluster,
  args: readonly string[] = [],
): Promise<{ readonly child: Child; readonly readyMs: number }> {
  const startedAt = performance.now();
  const child = startKubePortal([
    `--master=${server}`,
    "--steer=none",
    "--healthz-bind-address=",
    "--metrics-bind-address=",
    ...args,
  ]);
  await child.waitFor(" Ready ", START_TIMEOUT_MS);
  return { child, readyMs: performance.now() - startedAt };
}

export interface Sample {
  /** Until the API server has answered. */
  readonly writtenMs: number;
  /** Until the new endpoint has the connection; both from the sending on. */
  readonly connectedMs: number;
}

/**
 * Replaces the only endpoint of a Service by one on an address that no sample
 * of a smaller `n` has used, then connects again and again until it answers.
 *
 * @throws if no connection gets there in 5 s
 */
export async function sample(cluster: Cluster, n: number): Promise<Sample> {
  const { range, podPort, writer } = cluster;
  const service = n % cluster.services;
  const podIp = `${range}.${128 + Math.floor(n / 250)}.${1 + n % 250}`;
  const pod = Deno.listen({ hostname: podIp, port: podPort });
  const reached = pod.accept().then((connection) => {
    connection.close();
    return performance.now();
  }, () => undefined);
  const slice = sliceTo(service, { ip: podIp, port: podPort });
  const startedAt = performance.now();
  const written = writer.replace(slice).then(() => performance.now());
  const ip = serviceIp(range, service);
  let connectedAt: number | undefined;
  const deadline = startedAt + SAMPLE_TIMEOUT_MS;
  while (connectedAt === undefined && performance.now() < deadline) {
    await knock(ip);
    connectedAt = await Promise.race([reached, soon()]);
  }
  pod.close();
  if (connectedAt === undefined) {
    throw new Error(`No connection reached ${podIp} of ${nameOf(service)}`);
  }
  return {
    writtenMs: await written - startedAt,
    connectedMs: connectedAt - startedAt,
  };
}

/** Takes back what `sample` of this `n` has changed. */
export async function restore(cluster: Cluster, n: number): Promise<void> {
  const { writer, endpoint, services } = cluster;
  await writer.replace(sliceTo(n % services, endpoint));
}

/** Connects, and waits until whoever it is has answered or closed. */
async function knock(ip: string): Promise<void> {
  try {
    using connection = await Deno.connect({ hostname: ip, port: PORT });
    await connection.write(REQUEST_AND_CLOSE);
    await connection.read(new Uint8Array(1));
  } catch {
    // Refused or reset: it is not there yet.
  }
}

/** One turn of the event loop: what has arrived is taken. */
function soon(): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), 0));
}

function sliceTo(service: number, { ip, port }: Address): KubeObject {
  return kubeSlice(nameOf(service), [ip], { http: port });
}

function nameOf(n: number): string {
  return `service-${n}`;
}

function serviceIp(range: string, n: number): string {
  return `${range}.${1 + Math.floor(n / PER_PART)}.${1 + n % PER_PART}`;
}

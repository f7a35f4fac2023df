/**
 * How long a change takes to become true: from sending an EndpointSlice to the
 * API server until the first connection that the new endpoint accepts. The API
 * server, the proxy and the client are three processes, as in a cluster.
 *
 *     deno run -A test/bench/event_to_connection.ts --services 100
 *
 * Each sample replaces the only endpoint of one Service by one on an address
 * that no sample has used, then connects again and again until it is that
 * endpoint that answers.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { print, table } from "../../proxy/commands/terminal.ts";
import {
  type KubeObject,
  kubeService,
  kubeSlice,
  KubeWriter,
  manifest,
} from "../support/kube_objects.ts";
import { freePort, startKubePortal } from "../support/kube_portal.ts";
import { loopbackRange } from "../support/loopback.ts";
import { percentiles } from "../support/percentiles.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const PORT = 8080;
const SAMPLE_TIMEOUT_MS = 5_000;

interface Sample {
  /** Until the API server has answered. */
  readonly writtenMs: number;
  /** Until the new endpoint has the connection; both from the sending on. */
  readonly connectedMs: number;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      services: { type: "string", default: "100" },
      samples: { type: "string", default: "200" },
    },
  });
  const services = Number(values.services);
  const samples = Number(values.samples);
  await using stack = new AsyncDisposableStack();
  const cluster = await startCluster(stack, services);
  print(
    `${services} Services, ${samples} samples, ready after ` +
      `${cluster.readyMs.toFixed(0)} ms\n\n`,
  );
  const results: Sample[] = [];
  for (let n = 0; n < samples; n++) results.push(await sample(cluster, n));
  print(table(["FROM SENDING A SLICE UNTIL", "P50", "P99", "MAX"], [
    [
      "the API server has answered",
      ...percentiles(results.map((s) => s.writtenMs)),
    ],
    [
      "a connection reaches the new endpoint",
      ...percentiles(results.map((s) => s.connectedMs)),
    ],
  ]));
}

interface Cluster {
  readonly range: string;
  readonly services: number;
  readonly writer: KubeWriter;
  /** Of the proxy: from its start to its first complete sync. */
  readonly readyMs: number;
  /** The address and port of all endpoints differ in the address alone. */
  readonly podPort: number;
}

async function startCluster(
  stack: AsyncDisposableStack,
  services: number,
): Promise<Cluster> {
  const range = loopbackRange();
  const folder = stack.use(await temporaryFolder());
  const podPort = freePort();
  const objects: KubeObject[] = [];
  for (let n = 0; n < services; n++) {
    objects.push(
      kubeService(nameOf(n), serviceIp(range, n), { http: PORT }),
      kubeSlice(nameOf(n), [`${range}.255.254`], { http: podPort }),
    );
  }
  await folder.write("services.yaml", manifest(...objects));
  const port = freePort();
  const server = `http://127.0.0.1:${port}`;
  const apiserver = stack.use(startKubePortal([
    "apiserver",
    `--port=${port}`,
    `--service-cidr=${range}.0.0/17`,
    `--manifests=${folder.path}`,
  ]));
  await apiserver.waitFor("nothing is kept when it ends");
  const startedAt = performance.now();
  const proxy = stack.use(startKubePortal([
    `--master=${server}`,
    "--steer=none",
    "--healthz-bind-address=",
    "--metrics-bind-address=",
  ]));
  await proxy.waitFor(" Ready ");
  const readyMs = performance.now() - startedAt;
  return { range, services, writer: new KubeWriter(server), readyMs, podPort };
}

async function sample(cluster: Cluster, n: number): Promise<Sample> {
  const { range, podPort, writer } = cluster;
  const service = n % cluster.services;
  const podIp = `${range}.${128 + Math.floor(n / 250)}.${1 + n % 250}`;
  const pod = Deno.listen({ hostname: podIp, port: podPort });
  const reached = pod.accept().then((connection) => {
    connection.close();
    return performance.now();
  }, () => undefined);
  const slice = kubeSlice(nameOf(service), [podIp], { http: podPort });
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

/** Connects, and waits until whoever it is has closed. */
async function knock(ip: string): Promise<void> {
  try {
    using connection = await Deno.connect({ hostname: ip, port: PORT });
    await connection.read(new Uint8Array(1));
  } catch {
    // Refused or reset: it is not there yet.
  }
}

/** One turn of the event loop: what has arrived is taken. */
function soon(): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), 0));
}

function nameOf(n: number): string {
  return `service-${n}`;
}

function serviceIp(range: string, n: number): string {
  return `${range}.${1 + Math.floor(n / 250)}.${1 + n % 250}`;
}

if (import.meta.main) await main();

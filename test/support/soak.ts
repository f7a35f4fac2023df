/**
 * A soak: the whole program for a while, with Services, endpoints and
 * connections that come and go all the time, and what it has to show for it at
 * the end.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createApiServer } from "../../watch/apiserver/mod.ts";
import { kubeNode, kubeService, kubeSlice } from "./kube_objects.ts";
import { freePort, startKubePortal } from "./kube_portal.ts";
import { eventually, loopbackRange } from "./loopback.ts";

/** Services that clients use, and that stay; their endpoints change. */
const STEADY = 20;
/** Services that come and go beside them. */
const PASSING = 200;
const ENDPOINTS = 4;
const CLIENTS = 16;
const CHANGES_EVERY_MS = 20;
const BYTES_MAX = 100_000;
export const DESCRIPTORS_OF_PIPE = 2;

export interface SoakOptions {
  readonly seconds: number;
  readonly engine: "splice" | "portable";
  /** A client rests so long between two connections. Default: not at all. */
  readonly pauseMs?: number;
  /** Of a sample, every `sampleMs`. */
  readonly sampled?: (sample: Sample) => void;
  readonly sampleMs: number;
}

export interface Sample {
  /** Seconds since the start. */
  readonly at: number;
  readonly residentMiB: number;
  readonly descriptors: number;
  readonly connections: number;
  readonly changes: number;
}

export interface SoakResult {
  readonly samples: readonly Sample[];
  readonly changes: number;
  /** As the clients counted, */
  readonly clients: Counts;
  /** as the endpoints did, */
  readonly endpoints: Counts;
  /** and as `/metrics` says. */
  readonly proxy: Counts & { readonly open: number };
  readonly failedConnections: number;
  /** Before the first connection, and after the last. */
  readonly descriptors: { readonly before: number; readonly after: number };
}

export interface Counts {
  readonly connections: number;
  readonly bytesToEndpoints: number;
  readonly bytesToClients: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export async function soak(options: SoakOptions): Promise<SoakResult> {
  await using stack = new AsyncDisposableStack();
  const range = loopbackRange();
  const server = stack.use(
    createApiServer({ serviceCIDRs: [`${range}.0.0/17`] }),
  );
  const { url } = stack.use(await server.listen());
  const endpoints = { connections: 0, bytesToEndpoints: 0, bytesToClients: 0 };
  const ports = Array.from(
    { length: ENDPOINTS },
    () => stack.use(echoEndpoint(endpoints)).port,
  );
  server.create("nodes", kubeNode("node-1"));
  const steady = Array.from({ length: STEADY }, (_, index) => ({
    name: `steady-${index}`,
    ip: `${range}.1.${index + 1}`,
  }));
  for (const { name, ip } of steady) {
    server.create("services", inDefault(kubeService(name, ip, { http: 80 })));
    server.create("endpointslices", sliceOf(name, ports));
  }
  const metricsPort = freePort();
  const proxy = stack.use(startKubePortal([
    `--master=${url}`,
    "--hostname-override=node-1",
    "--steer=none",
    `--engine=${options.engine}`,
    "--healthz-bind-address=",
    `--metrics-bind-address=127.0.0.1:${metricsPort}`,
  ]));
  await proxy.waitFor(" Ready ");
  const metrics = () => readMetrics(`http://127.0.0.1:${metricsPort}/metrics`);
  await metrics();
  const before = descriptorsOf(proxy.pid);

  const clients = { connections: 0, bytesToEndpoints: 0, bytesToClients: 0 };
  const state = { isOver: false, failed: 0, changes: 0 };
  const churn = changeThings(state, () => {
    const index = Math.floor(Math.random() * PASSING);
    const name = `passing-${index}`;
    const service = steady[index % STEADY]!;
    if (index % 3 === 0) {
      // Two of the endpoints at least, since all of them answer.
      const some = ports.filter((_, n) => n < 2 || Math.random() < 0.5);
      server.update("endpointslices", sliceOf(service.name, some));
    } else if (exists(() => server.get("services", at(name)))) {
      server.delete("services", at(name));
    } else {
      const ip = `${range}.2.${index + 1}`;
      server.create("services", inDefault(kubeService(name, ip, { p: 80 })));
      if (!exists(() => server.get("endpointslices", at(`${name}-1`)))) {
        server.create("endpointslices", sliceOf(name, ports.slice(0, 2), "p"));
      }
    }
  });
  const using = Array.from(
    { length: CLIENTS },
    () => useServices(state, { steady, clients, pauseMs: options.pauseMs }),
  );
  const samples: Sample[] = [];
  const started = performance.now();
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, options.sampleMs));
    const seconds = (performance.now() - started) / 1_000;
    const sample = {
      at: Math.round(seconds),
      residentMiB: residentMiB(proxy.pid),
      descriptors: descriptorsOf(proxy.pid),
      connections: clients.connections,
      changes: state.changes,
    };
    samples.push(sample);
    options.sampled?.(sample);
    if (seconds >= options.seconds) break;
  }
  state.isOver = true;
  await Promise.all([churn, ...using]);
  for (let index = 0; index < PASSING; index++) {
    const name = `passing-${index}`;
    if (exists(() => server.get("services", at(name)))) {
      server.delete("services", at(name));
    }
  }
  const counted = await eventually(
    "every connection has ended, and is counted",
    metrics,
    ({ open, connections }) =>
      open === 0 && connections === clients.connections,
  );
  await eventually(
    "every descriptor is given back, but for a pipe that is kept for the next",
    () => descriptorsOf(proxy.pid),
    (count) => count <= before + DESCRIPTORS_OF_PIPE,
  ).catch(() => {});
  assert.ok(!/ERROR/.test(proxy.output), proxy.output);
  return {
    samples,
    changes: state.changes,
    clients,
    endpoints,
    proxy: counted,
    failedConnections: state.failed,
    descriptors: { before, after: descriptorsOf(proxy.pid) },
  };
}

function at(name: string) {
  return { namespace: "default", name };
}

function inDefault(object: ReturnType<typeof kubeService>) {
  return { ...object, metadata: { ...object.metadata, namespace: "default" } };
}

/** Endpoints that differ by their port: a slice of its own for each would do too. */
function sliceOf(name: string, ports: readonly number[], portName = "http") {
  const [first, ...more] = ports;
  const slice = kubeSlice(name, ["127.0.0.1"], { [portName]: first ?? 0 });
  return inDefault({
    ...slice,
    endpoints: [first, ...more].map((_, index) => ({
      addresses: [`127.0.0.${index + 1}`],
      conditions: { ready: true },
    })),
  });
}

function exists(look: () => unknown): boolean {
  try {
    look();
    return true;
  } catch {
    return false;
  }
}

/** Echoes, on all of 127.0.0.0/8, and counts. */
function echoEndpoint(
  counts: Mutable<Counts>,
): AsyncDisposable & { port: number } {
  const listener = Deno.listen({ hostname: "0.0.0.0", port: 0 });
  const serving = new Set<Promise<void>>();
  const serve = async (connection: Deno.TcpConn) => {
    counts.connections++;
    const buffer = new Uint8Array(65_536);
    try {
      for (;;) {
        const length = await connection.read(buffer);
        if (length === null) break;
        counts.bytesToEndpoints += length;
        for (let from = 0; from < length;) {
          const sent = await connection.write(buffer.subarray(from, length));
          counts.bytesToClients += sent;
          from += sent;
        }
      }
    } catch {
      // The client broke off.
    } finally {
      connection.close();
    }
  };
  const accepting = (async () => {
    for await (const connection of listener) {
      const done = serve(connection);
      serving.add(done);
      done.finally(() => serving.delete(done));
    }
  })();
  return {
    port: listener.addr.port,
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
      await Promise.all(serving);
    },
  };
}

async function changeThings(
  state: { isOver: boolean; changes: number },
  change: () => void,
): Promise<void> {
  while (!state.isOver) {
    change();
    state.changes++;
    await new Promise((resolve) => setTimeout(resolve, CHANGES_EVERY_MS));
  }
}

/** Connects, sends something, reads the same back, and ends; again and again. */
async function useServices(
  state: { readonly isOver: boolean; failed: number },
  { steady, clients, pauseMs = 0 }: {
    steady: readonly { ip: string }[];
    clients: Mutable<Counts>;
    pauseMs: number | undefined;
  },
): Promise<void> {
  const payload = crypto.getRandomValues(new Uint8Array(65_536));
  while (!state.isOver) {
    const { ip } = steady[Math.floor(Math.random() * steady.length)]!;
    const length = Math.floor(Math.random() ** 4 * BYTES_MAX);
    try {
      using connection = await Deno.connect({ hostname: ip, port: 80 });
      clients.connections++;
      const sending = (async () => {
        for (let left = length; left > 0;) {
          const piece = payload.subarray(0, Math.min(left, payload.length));
          const sent = await connection.write(piece);
          clients.bytesToEndpoints += sent;
          left -= sent;
        }
        await connection.closeWrite();
      })();
      const buffer = new Uint8Array(65_536);
      let received = 0;
      for (;;) {
        const read = await connection.read(buffer);
        if (read === null) break;
        received += read;
      }
      await sending;
      clients.bytesToClients += received;
      if (received !== length) state.failed++;
    } catch {
      state.failed++;
    }
    if (pauseMs > 0) await new Promise((then) => setTimeout(then, pauseMs));
  }
}

async function readMetrics(
  url: string,
): Promise<Counts & { readonly open: number }> {
  const text = await (await fetch(url)).text();
  const sum = (name: string, label = "") =>
    [...text.matchAll(new RegExp(`^${name}\\{([^}]*)\\} (\\S+)$`, "gm"))]
      .filter(([, labels = ""]) =>
        labels.includes('service_name="steady-') && labels.includes(label)
      )
      .reduce((total, [, , value]) => total + Number(value), 0);
  return {
    connections: sum("kube_portal_connections_total"),
    open: sum("kube_portal_connections_open"),
    bytesToEndpoints: sum("kube_portal_bytes_total", "to_endpoint"),
    bytesToClients: sum("kube_portal_bytes_total", "to_client"),
  };
}

function residentMiB(pid: number): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  const [, kib] = /VmRSS:\s+(\d+) kB/.exec(status) ?? [];
  return Math.round(Number(kib) / 102.4) / 10;
}

function descriptorsOf(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/fd`)].length;
}

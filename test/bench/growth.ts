/**
 * What grows with the number of Services: how long a start takes, resident
 * memory, a new connection, and the time from a change in the API until a
 * connection gets to the new endpoint. In: sizes. Out: series.
 *
 * Proxies of all sizes run at the same time, so that connections to each can be
 * timed in turn. So does nginx with as many listeners as the smallest and the
 * largest have Services: what it grows by, with one list of endpoints for all,
 * is the kernel's. Each address is also visited a second time at once, when
 * nothing of it is cold any more.
 *
 * @module
 */
import {
  type Cluster,
  restore,
  sample,
  startCluster,
  startProxy,
} from "./cluster.ts";
import { Endpoints, Generator } from "./load/client.ts";
import { residentKiB } from "./load/cpu.ts";
import type { Address } from "./load/sys.ts";
import { waitForQuiet } from "./quiet.ts";
import type { Series } from "./samples.ts";
import { startNginxAt } from "./subjects.ts";
import { freePort } from "../support/kube_portal.ts";

/** Services of a proxy, smallest first. */
export const SIZES: readonly number[] = [10, 100, 1_000, 5_000, 10_000];

const ENGINES = ["portable", "splice"] as const;
const CONNECTIONS = 1_000;
const CHANGES = 20;

export interface GrowthOptions {
  readonly rounds: number;
  /** {@linkcode SIZES}, or some of them. */
  readonly sizes: readonly number[];
  /** Whether nginx is here to be compared with. */
  readonly withNginx: boolean;
  readonly progress: (text: string) => void;
}

/** How a proxy of that many Services is called in tables. */
export function growthSubject(engine: string, services: number): string {
  return `${engine}, ${services.toLocaleString("en")}`;
}

/** Something with many addresses, and how long connections to them took. */
interface Timed {
  readonly subject: string;
  readonly addresses: readonly Address[];
  readonly connectUs: number[];
  readonly againUs: number[];
}

interface Started extends Timed {
  readonly cluster: Cluster;
  readonly readyMs: number;
  readonly residentMiB: number;
}

/** Measures both engines at every size. */
export async function growth(
  { rounds, sizes, withNginx, progress }: GrowthOptions,
): Promise<Series[]> {
  await using stack = new AsyncDisposableStack();
  const endpoints = stack.use(await Endpoints.start(["127.0.0.1"]));
  const generator = stack.use(new Generator());
  const clusters: Cluster[] = [];
  for (const services of sizes) {
    progress(`growth: API server, ${services} Services`);
    const [endpoint] = endpoints.addresses;
    clusters.push(stack.use(await startCluster(services, endpoint)));
  }
  const series: Series[] = [];
  // Each time other addresses: what the engine before had is gone.
  let changes = 0;
  for (const engine of ENGINES) {
    await using proxies = new AsyncDisposableStack();
    const started: Started[] = [];
    for (const cluster of clusters) {
      const subject = growthSubject(engine, cluster.services);
      progress(`growth: ${subject} Services`);
      await waitForQuiet();
      const { child, readyMs } = await startProxy(cluster, [
        `--engine=${engine}`,
      ]);
      proxies.use(child);
      const residentMiB = residentKiB([child.pid]) / 1024;
      const { addresses } = cluster;
      started.push({
        ...timed(subject, addresses),
        cluster,
        readyMs,
        residentMiB,
      });
    }
    // Beside the engine that is compared with it.
    const compared = withNginx && engine === "splice" ? clusters : [];
    const peers = proxies.use(await startPeers(compared));
    const all = [...started, ...peers.all];
    await timeConnections(all, {
      generator,
      rounds,
      progress: (text) => progress(`growth: ${engine}, ${text}`),
    });
    for (const { subject, connectUs, againUs } of all) {
      series.push(
        one(subject, "connection, p50", "µs", connectUs),
        one(subject, "connection again, p50", "µs", againUs),
      );
    }
    for (const { cluster, subject, readyMs, residentMiB } of started) {
      progress(`growth: ${subject} Services, changes`);
      const effectMs: number[] = [];
      for (let n = 0; n < CHANGES; n++) {
        effectMs.push((await sample(cluster, changes + n)).connectedMs);
      }
      series.push(
        one(subject, "change to effect", "ms", effectMs),
        one(subject, "resident", "MiB", [residentMiB]),
        one(subject, "start", "ms", [readyMs]),
      );
    }
    // Endpoints that samples made are gone; the next engine needs some.
    for (const cluster of clusters) {
      for (let n = 0; n < CHANGES; n++) await restore(cluster, changes + n);
    }
    changes += CHANGES;
  }
  return series;
}

/** nginx with as many listeners as the first and the last of these. */
async function startPeers(
  clusters: readonly Cluster[],
): Promise<AsyncDisposable & { readonly all: readonly Timed[] }> {
  await using stack = new AsyncDisposableStack();
  const all: Timed[] = [];
  for (const cluster of new Set([clusters.at(0), clusters.at(-1)])) {
    if (cluster === undefined) continue;
    const port = freePort();
    const addresses = cluster.addresses.map(({ ip }) => ({ ip, port }));
    stack.use(await startNginxAt(addresses, cluster.endpoint));
    all.push(timed(growthSubject("nginx", cluster.services), addresses));
  }
  const parts = stack.move();
  return { all, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

async function timeConnections(
  all: readonly Timed[],
  { generator, rounds, progress }: {
    readonly generator: Generator;
    readonly rounds: number;
    readonly progress: (text: string) => void;
  },
): Promise<void> {
  const ask = async (to: readonly Address[]) => {
    const { p50Us, failures } = await generator.ask({
      type: "one by one",
      concurrency: CONNECTIONS,
      to,
      pids: [],
      helpers: [],
      warmUpMs: 0,
      windowMs: 0,
    });
    if (failures > 0) throw new Error(`${failures} connections failed`);
    return p50Us!;
  };
  // One more, which nobody sees: until V8 has compiled what it is going to.
  for (let round = -1; round < rounds; round++) {
    progress(`connections, round ${round + 1}`);
    for (const { addresses, connectUs, againUs } of all) {
      await waitForQuiet();
      const to = pick(addresses, CONNECTIONS);
      const [first, second] = [await ask(to), await ask(to)];
      if (round < 0) continue;
      connectUs.push(first);
      againUs.push(second);
    }
  }
}

function timed(subject: string, addresses: readonly Address[]): Timed {
  return { subject, addresses, connectUs: [], againUs: [] };
}

/** That many of them, at random. */
function pick(addresses: readonly Address[], count: number): Address[] {
  return Array.from(
    { length: count },
    () => addresses[Math.floor(Math.random() * addresses.length)]!,
  );
}

function one(
  subject: string,
  metric: string,
  unit: string,
  values: readonly number[],
): Series {
  const digits = unit === "ms" && metric !== "start" ? 1 : 0;
  const common = { measure: "growth", better: "lower", digits } as const;
  return { ...common, subject, metric, unit, values };
}

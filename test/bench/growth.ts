/**
 * What grows with the number of Services: how long a start takes, resident
 * memory, a new connection, and the time from a change in the API until a
 * connection gets to the new endpoint. In: sizes. Out: series.
 *
 * Proxies of all sizes run at the same time, so that connections to each can be
 * timed in turn.
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

/** Services of a proxy, smallest first. */
export const SIZES: readonly number[] = [10, 100, 1_000, 5_000, 10_000];

const ENGINES = ["portable", "splice"] as const;
const CONNECTIONS = 1_000;
const CHANGES = 20;

export interface GrowthOptions {
  readonly rounds: number;
  /** {@linkcode SIZES}, or some of them. */
  readonly sizes: readonly number[];
  readonly progress: (text: string) => void;
}

/** How a proxy of that many Services is called in tables. */
export function growthSubject(engine: string, services: number): string {
  return `${engine}, ${services.toLocaleString("en")}`;
}

interface Started {
  readonly cluster: Cluster;
  readonly subject: string;
  readonly readyMs: number;
  readonly residentMiB: number;
  readonly connectUs: number[];
}

/** Measures both engines at every size. */
export async function growth(
  { rounds, sizes, progress }: GrowthOptions,
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
      started.push({ cluster, subject, readyMs, residentMiB, connectUs: [] });
    }
    // One more, which nobody sees: until V8 has compiled what it is going to.
    for (let round = -1; round < rounds; round++) {
      progress(`growth: ${engine}, connections, round ${round + 1}`);
      for (const { cluster, connectUs } of started) {
        await waitForQuiet();
        const { p50Us, failures } = await generator.ask({
          type: "one by one",
          concurrency: CONNECTIONS,
          to: pick(cluster.addresses, CONNECTIONS),
          pids: [],
          helpers: [],
          warmUpMs: 0,
          windowMs: 0,
        });
        if (failures > 0) throw new Error(`${failures} connections failed`);
        if (round >= 0) connectUs.push(p50Us!);
      }
    }
    for (
      const { cluster, subject, readyMs, residentMiB, connectUs } of started
    ) {
      progress(`growth: ${subject} Services, changes`);
      const effectMs: number[] = [];
      for (let n = 0; n < CHANGES; n++) {
        effectMs.push((await sample(cluster, changes + n)).connectedMs);
      }
      series.push(
        one(subject, "connection, p50", "µs", connectUs),
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

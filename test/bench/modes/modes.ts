/**
 * Every mode of this program that runs here, at several numbers of Services:
 * what a connection costs, what goes through, and how long a change takes to
 * show. In: modes and sizes. Out: a series for each mode, size and metric.
 *
 * At each size all proxies run at the same time, on nodes of their own, and are
 * measured in turn, as is a connection through a node that only routes.
 *
 * @module
 */
import type { Counted } from "../load/protocol.ts";
import type { Address } from "../load/sys.ts";
import type { Load } from "../measures.ts";
import { waitForQuiet } from "../quiet.ts";
import { DIRECT } from "./network.ts";
import { measureChanges } from "./programming.ts";
import { type ModeSeries, oneSeries } from "./series.ts";
import { serviceAddress } from "./services.ts";
import {
  type Measured,
  type ModesOptions,
  setStage,
  type Stage,
  startApi,
} from "./stage.ts";
import { START_TIMEOUT_MS, startMode } from "./subjects.ts";

/** Connections one by one in a round. */
const CONNECTIONS = 500;
const WARM_UP_MS = 200;

/** What was measured, and what was not. */
export interface ModesResult {
  readonly series: readonly ModeSeries[];
  /** For people: `10,000 Services, for time`. */
  readonly leftOut: readonly string[];
}

/** Measures all modes at every size. */
export async function compareModes(
  options: ModesOptions,
): Promise<ModesResult> {
  const { sizes, budgetMs, modes } = options;
  const startedAt = performance.now();
  const series: ModeSeries[] = [];
  const leftOut: string[] = [];
  for (const services of sizes) {
    if (performance.now() - startedAt > budgetMs) {
      leftOut.push(`${inWords(services)}, for time`);
      continue;
    }
    await using stack = new AsyncDisposableStack();
    // New namespaces for each size: no rule and no connection is left.
    const stage = await setStage(options, stack, modes);
    const measured = await measureSize(stage, services);
    series.push(...measured.series);
    leftOut.push(...measured.leftOut);
  }
  return { series, leftOut };
}

async function measureSize(
  stage: Stage,
  services: number,
): Promise<ModesResult> {
  const { modes, progress } = stage.options;
  await using stack = new AsyncDisposableStack();
  const size = inWords(services);
  const leftOut: string[] = [];
  progress(`${size}: API server`);
  const server = await startApi(stage, services, stack);
  const all: Measured[] = [
    { mode: DIRECT, to: stage.endpoints.addresses, values: new Map() },
  ];
  const to = Array.from({ length: services }, (_, n) => serviceAddress(n));
  for (const mode of modes) {
    progress(`${size}: ${mode} starts`);
    await waitForQuiet();
    const started = await startMode(mode, stage.network, server);
    if (started === undefined) {
      const seconds = START_TIMEOUT_MS / 1000;
      leftOut.push(`${mode} with ${size}: not ready within ${seconds} s`);
      continue;
    }
    const { child, readyMs } = started;
    stack.use(child);
    const values = new Map([["start", [readyMs]]]);
    all.push({ mode, to, values, child });
  }
  await measureRounds(stage, size, all);
  let used = 0;
  for (const one of all) {
    if (one.child === undefined) continue;
    progress(`${size}: ${one.mode}, changes`);
    const others = all.flatMap(({ child }) =>
      child === undefined || child === one.child ? [] : [child]
    );
    const changes = { server, services, firstSample: used, others };
    const result = await measureChanges(stage, one, changes);
    used = result.used;
    if (result.late !== undefined) {
      leftOut.push(`${one.mode} with ${size}: ${result.late}`);
    }
  }
  const series = all.flatMap(({ mode, values }) =>
    [...values].map(([metric, values]) =>
      oneSeries({ mode, services, metric, values })
    )
  );
  return { series, leftOut };
}

function inWords(services: number): string {
  return `${services.toLocaleString("en")} Services`;
}

/** What a round asks, and what it says of it. */
const QUESTIONS: readonly {
  readonly load: Load;
  readonly metrics: Readonly<Record<string, (counted: Counted) => number>>;
}[] = [
  {
    load: { type: "one by one", concurrency: CONNECTIONS },
    metrics: {
      "connection, p50": ({ p50Us }) => p50Us!,
      "connection, p99": ({ p99Us }) => p99Us!,
    },
  },
  {
    load: { type: "stream", concurrency: 1 },
    metrics: { "one stream": ({ count, seconds }) => count / 1e9 / seconds },
  },
  {
    load: { type: "connect", concurrency: 32 },
    metrics: { "new connections": ({ count, seconds }) => count / seconds },
  },
];

/** Rounds in which each is measured once; the first is only to warm up. */
async function measureRounds(
  { options, network, generator, endpoints }: Stage,
  size: string,
  all: readonly Measured[],
): Promise<void> {
  const { rounds, windowMs, progress } = options;
  for (let round = -1; round < rounds; round++) {
    progress(`${size}: round ${round + 1} of ${rounds}`);
    for (let n = 0; n < all.length; n++) {
      // Nobody is always the first, or always after the same.
      const { mode, to, values } = all[(n + round + 1) % all.length]!;
      await network.lead(mode);
      for (const { load, metrics } of QUESTIONS) {
        await waitForQuiet();
        const counted = await generator.ask({
          ...load,
          to: pick(to),
          pids: [],
          helpers: [endpoints.pid],
          warmUpMs: WARM_UP_MS,
          windowMs,
        });
        if (counted.failures > 0) {
          throw new Error(`${mode}: ${counted.failures} connections failed`);
        }
        if (round < 0) continue;
        for (const [metric, of] of Object.entries(metrics)) {
          values.set(metric, [...values.get(metric) ?? [], of(counted)]);
        }
      }
    }
  }
}

/** As many as `CONNECTIONS` of them at random. */
function pick(addresses: readonly Address[]): Address[] {
  return Array.from(
    { length: CONNECTIONS },
    () => addresses[Math.floor(Math.random() * addresses.length)]!,
  );
}

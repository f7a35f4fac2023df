/**
 * What clients of one Service notice of a flood to another: latency before and
 * during, of new connections and of requests on connections that stay, and what
 * a million source ports cost. The flood and the endpoints take their part of
 * the machine, whoever is flooded; so the same flood goes to another process of
 * kube-portal, too, of which those clients use nothing.
 *
 *     deno run -A test/bench/flood.ts
 *     deno run -A test/bench/flood.ts --rate 5000 --engine splice
 *     deno run -A test/bench/flood.ts --only datagrams
 *
 * @module
 */
import { parseArgs } from "node:util";
import { print, table } from "../../proxy/commands/terminal.ts";
import { FloodedProxy, type Latency } from "../support/flooded_proxy.ts";

const CONNECTIONS = 2_000;
/** Of clients that come now and then: between two, on average. */
const PAUSE_MS = 10;
const PAUSED_CONNECTIONS = 400;
const WINDOW_MS = 3_000;
const SOURCES = 1_000_000;
const SOURCES_PER_SECOND = 30_000;

const HEADER = [
  "ENGINE",
  "FLOODED",
  "PER SECOND",
  "OF ANOTHER SERVICE",
  "P50 MS",
  "DURING",
  "",
  "P99 MS",
  "DURING",
  "",
  "FAILED",
];

type Engine = "splice" | "portable";

/** Milliseconds, and how many times as long as before. */
function cells(before: Latency, during: Latency): string[] {
  const one = (name: "p50" | "p99") => [
    before[name].toFixed(2),
    during[name].toFixed(2),
    `× ${(during[name] / before[name]).toFixed(1)}`,
  ];
  return [...one("p50"), ...one("p99"), String(during.failures)];
}

/** What is measured of the Service that is not flooded. */
const MEASURES: Readonly<
  Record<string, (of: FloodedProxy) => Promise<Latency>>
> = {
  "connections, one after another": (of) => of.connections(CONNECTIONS),
  "connections, 100 a second": (of) =>
    of.connections(PAUSED_CONNECTIONS, PAUSE_MS),
  "requests, 200 a second": (of) => of.requests(WINDOW_MS),
};

async function measureAll(
  steady: FloodedProxy,
): Promise<ReadonlyMap<string, Latency>> {
  const found = new Map<string, Latency>();
  for (const [name, measure] of Object.entries(MEASURES)) {
    found.set(name, await measure(steady));
  }
  return found;
}

/** Before and during; the flood is of so many a second. */
async function connectionFlood(
  engine: Engine,
  rate: number,
): Promise<string[][]> {
  await using steady = await FloodedProxy.start(engine);
  await using other = await FloodedProxy.start(engine);
  const rows: string[][] = [];
  for (const flooded of [steady, other]) {
    await steady.connections(CONNECTIONS);
    const before = await measureAll(steady);
    await using flood = flooded.flood("connect", "flooded", rate);
    await flood.waitFor("succeeded");
    const counted = await flooded.metric("connections_total", "flooded");
    const at = performance.now();
    const during = await measureAll(steady);
    const seconds = (performance.now() - at) / 1_000;
    const total = await flooded.metric("connections_total", "flooded");
    for (const [name, one] of before) {
      rows.push([
        engine,
        flooded === steady ? "itself" : "another process",
        Math.round((total - counted) / seconds).toString(),
        name,
        ...cells(one, during.get(name)!),
      ]);
    }
  }
  return rows;
}

/** A line for people. */
async function sourceFlood(engine: Engine): Promise<string> {
  await using flooded = await FloodedProxy.start(engine);
  const before = await flooded.datagrams(WINDOW_MS);
  const residentMiB = flooded.residentMiB;
  await using flood = flooded.flood(
    "datagrams",
    "flooded",
    SOURCES,
    SOURCES_PER_SECOND,
  );
  const sent = flood.waitFor(/sent .*/, 300_000);
  let isSent = false;
  sent.finally(() => isSent = true);
  let answers = 0;
  let seconds = 0;
  let lost = 0;
  let mostMiB = 0;
  while (!isSent) {
    const during = await flooded.datagrams(WINDOW_MS);
    answers += during.count;
    seconds += during.seconds;
    lost += during.failures;
    mostMiB = Math.max(mostMiB, flooded.residentMiB);
  }
  const metric = (name: string) => flooded.metric(name, "flooded");
  return `${engine}: ${(await sent)[0]}: ${await metric(
    "udp_flows_open",
  )} flows open, ` +
    `${await metric("udp_flows_evicted_total")} evicted; ` +
    `${residentMiB.toFixed(0)} MiB before, ${mostMiB.toFixed(0)} at most; ` +
    `another Service's client had ${
      Math.round(before.count / before.seconds)
    } answers a second before, ` +
    `${
      Math.round(answers / seconds)
    } meanwhile, one after another, and was ${lost} times without one for 0.2 s; ` +
    `${flooded.logLines.length} lines of log\n`;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rate: { type: "string", default: "3000" },
      engine: { type: "string" },
      only: { type: "string" },
    },
  });
  const engines = (["splice", "portable"] as const).filter((engine) =>
    values.engine === undefined || values.engine === engine
  );
  for (const engine of engines) {
    if (values.only !== "datagrams") {
      const rows = await connectionFlood(engine, Number(values.rate));
      print(table(HEADER, rows));
    }
    if (values.only !== "connections") print(await sourceFlood(engine));
  }
}

await main();

/**
 * The comparison with peers: every subject is started once, then one after
 * another is put under one load, in rounds. In: subjects and measures. Out: a
 * series for each metric.
 *
 * @module
 */
import { Endpoints, Generator } from "./load/client.ts";
import { residentKiB } from "./load/cpu.ts";
import type { Counted } from "./load/protocol.ts";
import type { Load, Measure } from "./measures.ts";
import { waitForQuiet } from "./quiet.ts";
import { added, find, median, type Series } from "./samples.ts";
import {
  connectionLimit,
  PEERS,
  type Running,
  type Subject,
} from "./subjects.ts";

export interface CompareOptions {
  readonly subjects: readonly Subject[];
  readonly measures: readonly Measure[];
  readonly rounds: number;
  readonly windowMs: number;
  /** Told what is going on. */
  readonly progress: (text: string) => void;
}

export interface Compared {
  readonly series: readonly Series[];
  /** CPUs that others used in each window, by measure. */
  readonly othersCpus: Readonly<Record<string, readonly number[]>>;
  /** What failed, for people; should be empty. */
  readonly failures: readonly string[];
  /** Requests per second of the measure of latency; 0 without it. */
  readonly pacedPerSecond: number;
}

const ENDPOINT_IPS = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
const WARM_UP_MS = 250;
/** Until V8 has compiled what it is going to. */
const FIRST_WARM_UP_MS = 700;

/** Runs all rounds of all measures. */
export async function compare(options: CompareOptions): Promise<Compared> {
  const { subjects, measures, rounds, progress } = options;
  const series: Series[] = [];
  const othersCpus: Record<string, number[]> = {};
  const failures: string[] = [];
  let pacedPerSecond = 0;
  if (measures.length === 0) {
    return { series, othersCpus, failures, pacedPerSecond };
  }
  await using stack = new AsyncDisposableStack();
  const endpoints = stack.use(await Endpoints.start(ENDPOINT_IPS));
  const generator = stack.use(new Generator());
  const running: { subject: Subject; target: Running }[] = [];
  for (const subject of subjects) {
    const target = stack.use(await subject.start(endpoints.addresses));
    running.push({ subject, target });
  }
  const ask = (target: Running, load: Load, windowMs: number) =>
    generator.ask({
      ...load,
      to: target.to,
      pids: target.pids,
      helpers: [endpoints.pid],
      warmUpMs: WARM_UP_MS,
      windowMs,
    });
  progress("warming up");
  for (const { target } of running) {
    await ask(target, { type: "connect", concurrency: 32 }, FIRST_WARM_UP_MS);
    await ask(target, { type: "stream", concurrency: 8 }, FIRST_WARM_UP_MS);
    await ask(
      target,
      { type: "keep-alive", concurrency: 32 },
      FIRST_WARM_UP_MS,
    );
  }
  for (const measure of measures) {
    const taking = running.filter(({ subject }) =>
      measure.udp !== true || subject.udp
    );
    let load = measure.load;
    if (load.type === "paced") {
      const peaks = await peaksOf(taking, series, (target) =>
        ask(
          target,
          { type: "keep-alive", concurrency: 32 },
          options.windowMs,
        ));
      pacedPerSecond = Math.round(Math.min(...peaks) / 2);
      load = { ...load, perSecond: pacedPerSecond };
    }
    const counted = new Map<string, Counted[]>();
    for (let round = 0; round < rounds; round++) {
      progress(`${measure.name}: round ${round + 1} of ${rounds}`);
      // Not the same one first each time.
      const first = round % taking.length;
      for (
        const { subject, target } of [
          ...taking.slice(first),
          ...taking.slice(0, first),
        ]
      ) {
        await waitForQuiet();
        const one = await ask(target, load, options.windowMs);
        (othersCpus[measure.name] ??= []).push(one.othersCpus);
        if (one.failures > 0) {
          failures.push(`${measure.name}, ${subject.name}: ${one.failures}`);
        }
        counted.set(subject.name, [...counted.get(subject.name) ?? [], one]);
      }
    }
    series.push(...seriesOf(measure, counted));
  }
  return { series, othersCpus, failures, pacedPerSecond };
}

/**
 * Requests per second that splice (one worker) and the peers have reached. All
 * are then paced alike, by the slowest of them.
 */
async function peaksOf(
  running: readonly { subject: Subject; target: Running }[],
  series: readonly Series[],
  ask: (target: Running) => Promise<Counted>,
): Promise<number[]> {
  const peaks: number[] = [];
  for (const { subject, target } of running) {
    if (![...PEERS, "splice"].includes(subject.name)) continue;
    const known = find(series, {
      measure: "requests",
      metric: "requests",
      subject: subject.name,
    });
    if (known !== undefined) peaks.push(median(known.values));
    else {
      const { count, seconds } = await ask(target);
      peaks.push(count / seconds);
    }
  }
  return peaks.length > 0 ? peaks : [10_000];
}

function seriesOf(
  measure: Measure,
  counted: ReadonlyMap<string, readonly Counted[]>,
): Series[] {
  const series: Series[] = [];
  for (const { name, unit, better, digits, of } of measure.metrics) {
    for (const [subject, rounds] of counted) {
      const values = rounds.flatMap((one) => of(one, subject) ?? []);
      if (values.length === 0) continue;
      const metric = { metric: name, unit, better, digits };
      series.push({ measure: measure.name, ...metric, subject, values });
    }
  }
  if (measure.name !== "latency") return series;
  return [
    ...series,
    ...series.flatMap((one) => {
      const base = find(series, { ...one, subject: "direct" });
      return base === undefined || one === base ? [] : [added(one, base)];
    }),
  ];
}

const IDLE_CONNECTIONS = 10_000;
const SETTLE_MS = 1_000;

/**
 * Resident memory of a fresh process, before and after it has got connections
 * that have each had one answer and then say nothing.
 *
 * @returns how many connections there were, fewer where descriptors are few
 */
export async function compareIdle(
  { subjects, rounds, progress }: CompareOptions,
): Promise<{ series: Series[]; connections: number }> {
  await using endpoints = await Endpoints.start(ENDPOINT_IPS);
  await using generator = new Generator();
  const connections = Math.min(IDLE_CONNECTIONS, connectionLimit());
  const values = new Map<string, { base: number[]; each: number[] }>();
  for (let round = 0; round < rounds; round++) {
    progress(`idle: round ${round + 1} of ${rounds}`);
    for (const subject of subjects) {
      if (subject.name === "direct") continue;
      await using target = await subject.start(endpoints.addresses);
      const ask = (type: "open" | "close" | "connect", concurrency: number) =>
        generator.ask({
          type,
          concurrency,
          to: target.to,
          pids: target.pids,
          helpers: [],
          warmUpMs: WARM_UP_MS,
          windowMs: FIRST_WARM_UP_MS,
        });
      await ask("connect", 32);
      await settled();
      const base = residentKiB(target.pids);
      const { count } = await ask("open", connections);
      await settled();
      const each = (residentKiB(target.pids) - base) / count;
      await ask("close", 0);
      const all = values.get(subject.name) ?? { base: [], each: [] };
      all.base.push(base / 1024);
      all.each.push(each);
      values.set(subject.name, all);
    }
  }
  const series: Series[] = [];
  for (const [subject, { base, each }] of values) {
    const common = { measure: "idle", subject, better: "lower" } as const;
    series.push(
      { ...common, metric: "baseline", unit: "MiB", digits: 0, values: base },
      {
        ...common,
        metric: "for each connection",
        unit: "KiB",
        digits: 1,
        values: each,
      },
    );
  }
  return { series, connections };
}

function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}

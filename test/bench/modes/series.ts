/**
 * Numbers of the comparison of modes, and what is made of them: tables by the
 * number of Services, and sentences about them. Pure.
 *
 * @module
 */
import { markdown } from "../report.ts";
import { median, ratio, type Series } from "../samples.ts";

/** A series of one mode at one size; its subject is both. */
export interface ModeSeries extends Series {
  /** `direct`: a node that only routes. */
  readonly mode: string;
  readonly services: number;
}

interface Metric {
  readonly measure: string;
  readonly metric: string;
  readonly unit: string;
  readonly better: "lower" | "higher";
  readonly digits: number;
  /** What is above its table. */
  readonly heading: string;
}

/** A file and a picture each. */
export const MEASURE_TITLES: Readonly<Record<string, string>> = {
  "modes-connect": "A connection, by the number of Services",
  "modes-throughput": "What goes through, by the number of Services",
  "modes-programming": "Until a change shows, by the number of Services",
};

const METRICS: readonly Metric[] = [
  {
    measure: "modes-connect",
    metric: "connection, p50",
    unit: "µs",
    better: "lower",
    digits: 0,
    heading: "from the dial to the whole answer, nothing else under way",
  },
  {
    measure: "modes-connect",
    metric: "connection, p99",
    unit: "µs",
    better: "lower",
    digits: 0,
    heading: "the slowest one of a hundred of them",
  },
  {
    measure: "modes-throughput",
    metric: "one stream",
    unit: "GB/s",
    better: "higher",
    digits: 2,
    heading: "one connection on which the endpoint sends as fast as it can",
  },
  {
    measure: "modes-throughput",
    metric: "new connections",
    unit: "/s",
    better: "higher",
    digits: 0,
    heading: "32 at a time, one request each",
  },
  {
    measure: "modes-programming",
    metric: "changed endpoint",
    unit: "ms",
    better: "lower",
    digits: 1,
    heading:
      "from the request that replaces a Service's only endpoint to the " +
      "first connection on the new one",
  },
  {
    measure: "modes-programming",
    metric: "new Service",
    unit: "ms",
    better: "lower",
    digits: 1,
    heading: "from the request that makes a Service, and then its slice, to " +
      "the first connection",
  },
  {
    measure: "modes-programming",
    metric: "start",
    unit: "ms",
    better: "lower",
    digits: 0,
    heading: "from the start of the process until all Services are served",
  },
];

/** Values with all that is known of their metric. */
export function oneSeries(
  { mode, services, metric, values }: {
    readonly mode: string;
    readonly services: number;
    readonly metric: string;
    readonly values: readonly number[];
  },
): ModeSeries {
  const found = METRICS.find((one) => one.metric === metric);
  if (found === undefined) throw new RangeError(`No metric "${metric}"`);
  const { heading: _, ...rest } = found;
  const subject = `${mode}, ${services.toLocaleString("en")}`;
  return { ...rest, subject, mode, services, values };
}

/** Those that were measured, in the order of tables. */
export function metricsOf(series: readonly ModeSeries[]): readonly Metric[] {
  return METRICS.filter(({ metric }) =>
    series.some((one) => one.metric === metric)
  );
}

/** Sizes, smallest first. */
export function sizesOf(series: readonly ModeSeries[]): number[] {
  return [...new Set(series.map(({ services }) => services))]
    .sort((a, b) => a - b);
}

/** Modes, in the order in which they came. */
export function modesOf(series: readonly ModeSeries[]): string[] {
  return [...new Set(series.map(({ mode }) => mode))];
}

/**
 * A table for each metric: a row for each size, a column for each mode with its
 * median, and how many times that of a direct connection at this size it is.
 */
export function modeTables(series: readonly ModeSeries[]): string {
  return metricsOf(series).map(({ metric, unit, better, heading }) => {
    const own = series.filter((one) => one.metric === metric);
    const modes = modesOf(own);
    const rows = sizesOf(own).map((services) => [
      services.toLocaleString("en"),
      ...modes.map((mode) => cell(own, mode, services)),
    ]);
    return `\n### ${metric}, ${unit} (${better} is better)\n\n` +
      `${capital(heading)}.\n\n${markdown(["Services", ...modes], rows)}`;
  }).join("");
}

function cell(
  series: readonly ModeSeries[],
  mode: string,
  services: number,
): string {
  const at = (mode: string) =>
    series.find((one) => one.mode === mode && one.services === services);
  const [own, direct] = [at(mode), at("direct")];
  if (own === undefined) return "";
  const value = median(own.values).toFixed(own.digits);
  if (direct === undefined || direct === own) return value;
  return `${value} (${ratio(own, direct).toFixed(2)} ×)`;
}

/**
 * What the article that this project grew from says (iptables suits about a
 * hundred Services, ipvs stays flat), beside what was measured: a sentence for
 * each mode about the largest size and the smallest.
 */
export function growthSentences(series: readonly ModeSeries[]): string[] {
  const sizes = sizesOf(series);
  const [smallest = 0] = sizes;
  const largest = sizes.at(-1) ?? 0;
  if (smallest === largest) return [];
  return modesOf(series).filter((mode) => mode !== "direct").map((mode) => {
    const times = (metric: string) => {
      const at = (services: number) =>
        median(
          series.find((one) =>
            one.metric === metric && one.mode === mode &&
            one.services === services
          )?.values ?? [],
        );
      return `${(at(largest) / at(smallest)).toFixed(1)} ×`;
    };
    return `${mode}: with ${largest.toLocaleString("en")} Services a ` +
      `connection takes ${times("connection, p50")} what it takes with ` +
      `${smallest.toLocaleString("en")}, a changed endpoint ` +
      `${times("changed endpoint")}`;
  });
}

/** What runs measured before, with what a new one did in its place. */
export function merged(
  before: readonly ModeSeries[],
  now: readonly ModeSeries[],
): ModeSeries[] {
  const key = ({ subject, metric }: ModeSeries) => `${metric}\n${subject}`;
  const measured = new Set(now.map(key));
  const kept = before.filter((one) => !measured.has(key(one)));
  const order = ["direct", "portable", "splice", "iptables", "nftables"];
  return [...kept, ...now].sort((a, b) =>
    order.indexOf(a.mode) - order.indexOf(b.mode) || a.services - b.services
  );
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

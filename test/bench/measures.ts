/**
 * What is measured of each subject, and in which units. In: what the load
 * generator counted. Out: numbers with a name. Adding a measure is adding an
 * entry here.
 *
 * @module
 */
import type { Counted, Question } from "./load/protocol.ts";

/** One number of a measure. */
export interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly better: "lower" | "higher";
  readonly digits: number;
  /** `undefined`: means nothing for this subject. */
  of(counted: Counted, subject: string): number | undefined;
}

/** The part of a question that says how much is asked for. */
export type Load = Question extends infer Q
  ? Q extends Question
    ? Omit<Q, "to" | "pids" | "helpers" | "warmUpMs" | "windowMs">
  : never
  : never;

export interface Measure {
  readonly name: string;
  readonly title: string;
  readonly load: Load;
  readonly metrics: readonly Metric[];
  /** Only for subjects that forward UDP. */
  readonly udp?: boolean;
}

function rate(name: string): Metric {
  return {
    name,
    unit: "/s",
    better: "higher",
    digits: 0,
    of: ({ count, seconds }) => count / seconds,
  };
}

/** Of the proxy; direct connections have none. */
function cpuEach(name: string): Metric {
  return {
    name,
    unit: "µs",
    better: "lower",
    digits: 1,
    of: ({ cpuSeconds, count }, subject) =>
      subject === "direct" ? undefined : cpuSeconds / count * 1e6,
  };
}

const STREAM_METRICS: readonly Metric[] = [
  {
    name: "throughput",
    unit: "GB/s",
    better: "higher",
    digits: 2,
    of: ({ count, seconds }) => count / 1e9 / seconds,
  },
  {
    name: "proxy CPU",
    unit: "s/GB",
    better: "lower",
    digits: 3,
    of: ({ cpuSeconds, count }, subject) =>
      subject === "direct" ? undefined : cpuSeconds / (count / 1e9),
  },
];

/** In this order, since `latency` needs to know the peak of `requests`. */
export const MEASURES: readonly Measure[] = [
  {
    name: "stream",
    title: "One stream",
    load: { type: "stream", concurrency: 1 },
    metrics: STREAM_METRICS,
  },
  {
    name: "streams",
    title: "Eight streams",
    load: { type: "stream", concurrency: 8 },
    metrics: STREAM_METRICS,
  },
  {
    name: "requests",
    title: "Keep-alive requests, 1 KiB, 32 connections",
    load: { type: "keep-alive", concurrency: 32 },
    metrics: [rate("requests"), cpuEach("proxy CPU for each")],
  },
  {
    name: "connections",
    title: "New connections, one request each, 32 at a time",
    load: { type: "connect", concurrency: 32 },
    metrics: [rate("connections"), cpuEach("proxy CPU for each")],
  },
  {
    name: "latency",
    title: "Latency at half the peak rate, 32 connections",
    // The rate is put in by whoever knows the peak.
    load: { type: "paced", concurrency: 32, perSecond: 0 },
    metrics: [latency("p50", "p50Us"), latency("p99", "p99Us")],
  },
  {
    name: "udp",
    title: "Datagrams there and back, 64 bytes, 32 under way",
    load: { type: "datagrams", concurrency: 32, bytes: 64 },
    metrics: [rate("datagrams"), cpuEach("proxy CPU for both ways")],
    udp: true,
  },
];

function latency(name: string, key: "p50Us" | "p99Us"): Metric {
  return {
    name,
    unit: "µs",
    better: "lower",
    digits: 0,
    of: (counted) => counted[key],
  };
}

/**
 * What the engines are to reach, beside what they have reached. In: series.
 * Out: a line for each goal, with "met", "floor met" or "missed". Pure.
 *
 * @module
 */
import { growthSubject } from "./growth.ts";
import { best, find, median, ratio, type Series } from "./samples.ts";

/** A ratio, or a number where there is nothing to compare with. */
interface Goal {
  readonly subject: string;
  readonly measure: string;
  readonly metric: string;
  /** Names of whom the better counts; none: the number itself. */
  readonly against: readonly string[];
  readonly better: "lower" | "higher";
  readonly goal: number;
  /** What must be reached, where the goal is more than that. */
  readonly floor?: number;
  readonly unit?: string;
}

const BOTH = ["nginx", "haproxy"] as const;

function splice(
  measure: string,
  metric: string,
  goal: Pick<Goal, "better" | "goal" | "floor">,
): Goal {
  return { subject: "splice", measure, metric, against: BOTH, ...goal };
}

function portable(
  measure: string,
  metric: string,
  goal: Pick<Goal, "better" | "goal">,
): Goal {
  return { subject: "portable", measure, metric, against: ["nginx"], ...goal };
}

const EACH = "proxy CPU for each";

/** The table, line by line. */
export const GOALS: readonly Goal[] = [
  splice("stream", "proxy CPU", { better: "lower", goal: 0.65 }),
  splice("streams", "proxy CPU", { better: "lower", goal: 0.65 }),
  splice("stream", "throughput", { better: "higher", goal: 1.1 }),
  splice("streams", "throughput", { better: "higher", goal: 1.1 }),
  splice("requests", EACH, { better: "lower", goal: 1, floor: 1.25 }),
  splice("requests", "requests", { better: "higher", goal: 1, floor: 0.8 }),
  splice("connections", "connections", {
    better: "higher",
    goal: 1,
    floor: 0.85,
  }),
  splice("connections", EACH, { better: "lower", goal: 1, floor: 1.2 }),
  splice("latency", "p50 added", { better: "lower", goal: 1 }),
  splice("latency", "p99 added", { better: "lower", goal: 1 }),
  {
    subject: "splice",
    measure: "idle",
    metric: "for each connection",
    against: [],
    better: "lower",
    goal: 4,
    unit: "KiB",
  },
  {
    subject: growthSubject("splice", 10_000),
    measure: "growth",
    metric: "connection, p50",
    against: [growthSubject("splice", 10)],
    better: "lower",
    goal: 1.1,
  },
  portable("stream", "proxy CPU", { better: "lower", goal: 0.9 }),
  portable("streams", "proxy CPU", { better: "lower", goal: 0.9 }),
  portable("connections", "connections", { better: "higher", goal: 0.8 }),
];

export interface Verdict {
  readonly subject: string;
  readonly measure: string;
  readonly metric: string;
  /** `≤ 0.65 × the better of nginx and haproxy`. */
  readonly goal: string;
  readonly floor: string;
  readonly reached: number;
  /** `unclear`: nothing was left of a difference, or less. */
  readonly verdict: "met" | "floor met" | "missed" | "unclear";
  /** The peer that was better. */
  readonly against?: string;
}

/** Goals whose subject and peers were measured; the others are left out. */
export function judge(series: readonly Series[]): Verdict[] {
  return GOALS.flatMap((goal) => {
    const { subject, measure, metric } = goal;
    const own = find(series, { measure, metric, subject });
    const peers = goal.against.flatMap((peer) =>
      find(series, { measure, metric, subject: peer }) ?? []
    );
    const peer = best(peers);
    if (own === undefined) return [];
    if (peer === undefined && goal.against.length > 0) return [];
    const reached = peer === undefined ? median(own.values) : ratio(own, peer);
    return [{
      subject,
      measure,
      metric,
      goal: limit(goal, goal.goal),
      floor: goal.floor === undefined ? "" : limit(goal, goal.floor),
      reached,
      verdict: verdict(goal, reached),
      ...peer === undefined ? {} : { against: peer.subject },
    }];
  });
}

function limit({ better, against, unit }: Goal, value: number): string {
  const sign = better === "lower" ? "≤" : "≥";
  return against.length === 0
    ? `${sign} ${value} ${unit}`
    : `${sign} ${value.toFixed(2)} ×`;
}

function verdict({ better, goal, floor }: Goal, reached: number) {
  const holds = (value: number) =>
    better === "lower" ? reached <= value : reached >= value;
  // What noise has made negative says nothing.
  if (!(reached > 0)) return "unclear";
  if (holds(goal)) return "met";
  return floor !== undefined && holds(floor) ? "floor met" : "missed";
}

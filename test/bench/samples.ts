/**
 * Numbers of several rounds, and what may be said of them. Pure.
 *
 * @module
 */

/** One metric of one subject, a number for each round. */
export interface Series {
  readonly measure: string;
  readonly metric: string;
  readonly unit: string;
  readonly better: "lower" | "higher";
  readonly digits: number;
  readonly subject: string;
  /** In order of the rounds. */
  readonly values: readonly number[];
}

/** The middle one, or between the middle two; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  const [below = NaN, above = NaN] = [
    sorted[Math.ceil(half) - 1],
    sorted[Math.floor(half)],
  ];
  return (below + above) / 2;
}

/**
 * How many times `of` is what `to` is: the median of the rounds' ratios. What
 * disturbs this machine for a while disturbs both sides of a round. Where a
 * round has nothing to divide by (a difference), the ratio of the medians.
 */
export function ratio(of: Series, to: Series): number {
  if (to.values.some((value) => value <= 0)) {
    return median(of.values) / median(to.values);
  }
  return median(of.values.map((value, round) => value / to.values[round]!));
}

/** Of several series of one metric, the one with the best median. */
export function best(series: readonly Series[]): Series | undefined {
  const sorted = series.toSorted((a, b) => median(a.values) - median(b.values));
  return sorted.at(series[0]?.better === "lower" ? 0 : -1);
}

/** What is added to `base`, round by round; noise can make it negative. */
export function added(of: Series, base: Series): Series {
  const values = of.values.map((value, round) => value - base.values[round]!);
  return { ...of, metric: `${of.metric} added`, values };
}

/** Finds a series by its three names. */
export function find(
  series: readonly Series[],
  { measure, metric, subject }: Pick<Series, "measure" | "metric" | "subject">,
): Series | undefined {
  return series.find((one) =>
    one.measure === measure && one.metric === metric && one.subject === subject
  );
}

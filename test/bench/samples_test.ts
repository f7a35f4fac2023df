import assert from "node:assert/strict";
import { judge } from "./goals.ts";
import { plot } from "./plot.ts";
import { measureTable } from "./report.ts";
import { added, best, median, ratio, type Series } from "./samples.ts";

function series(
  subject: string,
  values: readonly number[],
  more: Partial<Series> = {},
): Series {
  return {
    measure: "connections",
    metric: "connections",
    unit: "/s",
    better: "higher",
    digits: 0,
    subject,
    values,
    ...more,
  };
}

Deno.test("median() is the middle, or between the two in the middle", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.equal(median([7]), 7);
  assert.ok(Number.isNaN(median([])));
});

Deno.test("ratio() compares round by round", () => {
  // Everything was ten times slower in the second round.
  const ours = series("splice", [90, 9, 100]);
  const theirs = series("nginx", [100, 10, 100]);
  assert.equal(ratio(ours, theirs), 0.9);
});

Deno.test("ratio() compares medians where a round has nothing to divide by", () => {
  assert.equal(ratio(series("a", [1, 2, 3]), series("b", [0, 4, 5])), 0.5);
});

Deno.test("best() knows whether more is better", () => {
  const [slow, fast] = [series("a", [1, 1, 9]), series("b", [2, 2, 2])];
  assert.equal(best([slow, fast]), fast);
  const lower = [slow, fast].map((one) => ({
    ...one,
    better: "lower" as const,
  }));
  assert.equal(best(lower)?.subject, "a");
  assert.equal(best([]), undefined);
});

Deno.test("added() is a difference for each round", () => {
  const { metric, values } = added(series("a", [5, 7]), series("b", [1, 2]));
  assert.deepEqual(values, [4, 5]);
  assert.equal(metric, "connections added");
});

Deno.test("judge() compares with the better peer, and tells goal from floor", () => {
  const verdictFor = (own: number) =>
    judge([
      series("splice", [own]),
      series("nginx", [50]),
      series("haproxy", [100]),
    ])[0];
  assert.equal(verdictFor(100)?.verdict, "met");
  assert.equal(verdictFor(90)?.verdict, "floor met");
  assert.equal(verdictFor(80)?.verdict, "missed");
  assert.equal(verdictFor(80)?.against, "haproxy");
});

Deno.test("judge() does not judge what noise has made negative", () => {
  const more = {
    measure: "latency",
    metric: "p99 added",
    better: "lower",
  } as const;
  const [verdict] = judge([
    series("splice", [-5, 3], more),
    series("nginx", [2, 2], more),
  ]);
  assert.equal(verdict?.verdict, "unclear");
});

Deno.test("judge() leaves out what has no peer here", () => {
  assert.deepEqual(judge([series("splice", [1])]), []);
});

Deno.test("measureTable() has a row for each subject", () => {
  const text = measureTable([
    series("direct", [200]),
    series("splice", [110]),
    series("nginx", [100]),
  ], ["nginx", "haproxy"]);
  assert.match(text, /\| splice +\| +110 \| +0\.55 \| +1\.10 \|\n/);
});

Deno.test("plot() draws a bar for each subject", () => {
  const text = plot("A & B", [series("splice", [1, 3, 2])]);
  assert.match(text, /^<svg [^>]+>/);
  assert.match(text, /A &amp; B/);
  assert.equal(text.match(/<rect x/g)?.length, 1);
});

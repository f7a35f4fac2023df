import assert from "node:assert/strict";
import { Distribution } from "../../../../proxy/distribution.ts";
import {
  CONNECTION_BOUNDS_S,
  DIAL_BOUNDS_S,
} from "../../../../proxy/engine/engine.ts";
import { LineAllocator } from "../../../../proxy/engine/splice/shared_counters.ts";
import {
  DISTRIBUTION_LINES,
  SharedDistribution,
} from "../../../../proxy/engine/splice/shared_distribution.ts";

/** The same cells as two threads see them. */
function pair(
  bounds: readonly number[],
): [SharedDistribution, SharedDistribution] {
  const lines = new LineAllocator(() => {});
  // Not beside each other: lines come from wherever one is free.
  const numbers = Array.from({ length: DISTRIBUTION_LINES }, () => {
    lines.take();
    return lines.take();
  });
  const view = () =>
    new SharedDistribution(
      bounds,
      numbers.map((number) => lines.counters.line(number)),
    );
  return [view(), view()];
}

for (const bounds of [DIAL_BOUNDS_S, CONNECTION_BOUNDS_S, [1]]) {
  Deno.test(`SharedDistribution of ${bounds.length} bounds counts as Distribution does`, () => {
    const [writer, reader] = pair(bounds);
    assert.equal(reader.snapshot(), undefined);
    const plain = new Distribution(bounds);
    for (const value of [0, ...bounds, ...bounds.map((bound) => bound * 1.1)]) {
      writer.observe(value);
      plain.observe(value);
    }
    writer.countSpare();
    const seen = reader.snapshot();
    assert.deepEqual(seen?.counts, [...plain.counts]);
    assert.equal(seen?.sum, plain.sum);
    assert.equal(reader.spare, 1);
  });
}

Deno.test("SharedDistribution refuses more bounds than it has cells for", () => {
  const bounds = Array.from({ length: 14 }, (_, index) => index);
  assert.throws(() => pair(bounds), RangeError);
});

import assert from "node:assert/strict";
import {
  countOf,
  Distribution,
  exponentialBounds,
} from "../../proxy/distribution.ts";

Deno.test("Distribution counts a value in the first bucket that holds it", () => {
  const distribution = new Distribution([1, 2]);
  for (const value of [0, 1, 1.5, 2, 3, NaN]) distribution.observe(value);
  assert.deepEqual([...distribution.counts], [2, 2, 1]);
  assert.equal(distribution.sum, 7.5);
  assert.equal(countOf(distribution), 5);
});

Deno.test("Distribution.copy() does not follow, add() joins only its like", () => {
  const distribution = new Distribution([1]);
  distribution.observe(1);
  const copy = distribution.copy();
  distribution.observe(1);
  assert.equal(countOf(copy), 1);
  copy.add(distribution);
  assert.deepEqual([...copy.counts], [3, 0]);
  assert.throws(() => copy.add(new Distribution([1, 2])), RangeError);
});

Deno.test("exponentialBounds() multiplies", () => {
  assert.deepEqual(exponentialBounds(1, { factor: 2, count: 4 }), [1, 2, 4, 8]);
});

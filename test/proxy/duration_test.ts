import assert from "node:assert/strict";
import { goDurationMs, goDurationText } from "../../proxy/duration.ts";

const durations: readonly [number, string][] = [
  [0, "0s"],
  [1e-6, "1ns"],
  [1.5e-3, "1.5µs"],
  [250, "250ms"],
  [1_000, "1s"],
  [61_500, "1m1.5s"],
  [900_000, "15m0s"],
  [3_600_000, "1h0m0s"],
  [86_400_000, "24h0m0s"],
];

Deno.test("[8.47] goDurationText() writes as Go does, and goDurationMs() reads it", () => {
  for (const [ms, text] of durations) {
    assert.equal(goDurationText(ms), text);
    assert.equal(goDurationMs(text), ms);
  }
  assert.equal(goDurationText(-5_000), "-5s");
});

/** The comparison of modes at the smallest size: that it still measures. */
import assert from "node:assert/strict";
import { testWith } from "../../support/needs.ts";
import { netns } from "../../support/netns.ts";
import { compareModes } from "./modes.ts";
import { missingFor } from "./subjects.ts";

testWith(
  [netns, () => missingFor("nftables")],
  "compareModes() has a number for each metric of each mode",
  async () => {
    const options = {
      modes: ["portable", "nftables"],
      rounds: 1,
      windowMs: 50,
      changes: 1,
      progress: () => {},
    };
    const { series, leftOut } = await compareModes({
      ...options,
      sizes: [2],
      budgetMs: 60_000,
    });
    assert.deepEqual(leftOut, []);
    const load = [
      "connection, p50",
      "connection, p99",
      "one stream",
      "new connections",
    ];
    const own = ["start", ...load, "changed endpoint", "new Service"];
    for (
      const [mode, want] of [
        ["direct", load],
        ["portable", own],
        ["nftables", own],
      ] as const
    ) {
      const found = series.filter((one) => one.mode === mode);
      assert.deepEqual(found.map(({ metric }) => metric), want);
      for (const { values, services, metric } of found) {
        assert.equal(services, 2);
        assert.equal(values.length, 1, metric);
        assert.ok(values[0]! > 0, `${mode}, ${metric}: ${values[0]}`);
      }
    }
    const none = await compareModes({ ...options, sizes: [3], budgetMs: -1 });
    assert.deepEqual(none, { series: [], leftOut: ["3 Services, for time"] });
  },
);

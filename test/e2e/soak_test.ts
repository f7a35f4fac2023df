/** A short soak of each engine; the long one is `test/bench/soak.ts`. */
import assert from "node:assert/strict";
import { ffi } from "../support/ffi.ts";
import { testWith } from "../support/needs.ts";
import { DESCRIPTORS_OF_PIPE, soak } from "../support/soak.ts";

for (const engine of ["splice", "portable"] as const) {
  testWith(
    engine === "splice" ? [ffi] : [],
    `${engine}: after a short soak every byte, connection and descriptor is accounted for`,
    async () => {
      const result = await soak({ seconds: 5, sampleMs: 500, engine });
      const { open, ...proxy } = result.proxy;
      assert.equal(result.failedConnections, 0);
      assert.deepEqual(proxy, result.clients);
      // A dial that took too long may have come to its endpoint all the same.
      const { connections: arrived, ...moved } = result.endpoints;
      const { connections, ...sent } = result.clients;
      assert.deepEqual(moved, sent);
      assert.ok(arrived >= connections, `${arrived} of ${connections} arrived`);
      assert.equal(open, 0);
      assert.ok(result.clients.connections > 100);
      assert.ok(result.changes > 50);
      const { before, after } = result.descriptors;
      assert.ok(
        after <= before + DESCRIPTORS_OF_PIPE,
        `${before} descriptors before, ${after}`,
      );
    },
  );
}

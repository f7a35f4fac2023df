import assert from "node:assert/strict";
import fc from "fast-check";
import { KeptDatagrams } from "../../../../proxy/engine/splice/udp_kept.ts";

Deno.test("KeptDatagrams gives what was put, or nothing once it was written over", () => {
  fc.assert(fc.property(
    fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 40 }),
    (datagrams) => {
      const ring = new KeptDatagrams(64);
      const places = datagrams.map((data) => {
        // Only its beginning is the datagram.
        const slot = new Uint8Array(32).fill(255);
        slot.set(data);
        return ring.put(slot, data.length);
      });
      let since = 0;
      let isOver = false;
      for (let n = datagrams.length - 1; n >= 0; n--) {
        const data = datagrams[n]!;
        const got = ring.get(places[n]!, data.length);
        since += data.length;
        if (got === undefined) isOver = true;
        else {
          assert.ok(!isOver, "older ones go first");
          assert.deepEqual([...got], [...data]);
        }
        // What one round wastes at its end is less than a datagram.
        if (since <= 44) assert.ok(got !== undefined);
      }
    },
  ));
});

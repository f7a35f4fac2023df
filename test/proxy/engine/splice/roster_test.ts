import assert from "node:assert/strict";
import fc from "fast-check";
import { Roster } from "../../../../proxy/engine/splice/roster.ts";

Deno.test("Roster holds what a Set would, whatever comes and goes", () => {
  const members = Array.from({ length: 8 }, (_, id) => ({ id, place: -1 }));
  const step = fc.record({ id: fc.nat(7), enters: fc.boolean() });
  fc.assert(fc.property(fc.array(step), (steps) => {
    const roster = new Roster<(typeof members)[number]>();
    const wanted = new Set<number>();
    for (const member of members) member.place = -1;
    for (const { id, enters } of steps) {
      const member = members[id]!;
      if (!enters) roster.delete(member);
      else if (!wanted.has(id)) roster.add(member);
      if (enters) wanted.add(id);
      else wanted.delete(id);
      assert.equal(roster.size, wanted.size);
      const ids = roster.all().map((one) => one.id);
      assert.deepEqual(ids.sort(), [...wanted].sort());
    }
  }));
});

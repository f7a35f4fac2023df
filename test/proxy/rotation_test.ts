import assert from "node:assert/strict";
import fc from "fast-check";
import { Rotation } from "../../proxy/rotation.ts";
import {
  candidates,
  endpointLists,
  endpoints,
  keysOf,
  NOTHING_TRIED,
  numberOf,
} from "../support/balancing.ts";

function rotation(numbers: string): Rotation {
  return new Rotation(candidates(endpoints(numbers)));
}

/** The numbers of the next endpoints, as one string. */
function visits(rotation: Rotation, count: number): string {
  return Array.from(
    { length: count },
    () => numberOf(rotation.next(NOTHING_TRIED)?.endpoint),
  ).join("");
}

const UPDATES: readonly {
  readonly name: string;
  readonly from: string;
  readonly picks: number;
  readonly to: string;
  readonly then: string;
}[] = [
  { name: "the same list", from: "123", picks: 2, to: "123", then: "3123" },
  { name: "the next is gone", from: "123", picks: 1, to: "13", then: "3131" },
  { name: "one behind is gone", from: "123", picks: 2, to: "23", then: "3232" },
  {
    name: "one joins at the end",
    from: "12",
    picks: 1,
    to: "123",
    then: "231",
  },
  { name: "one joins before", from: "23", picks: 1, to: "123", then: "312" },
  { name: "only the last is left", from: "12", picks: 1, to: "1", then: "11" },
  { name: "last, and a new one", from: "12", picks: 2, to: "23", then: "323" },
  { name: "all are new", from: "12", picks: 1, to: "345", then: "345" },
  { name: "empty, then back", from: "", picks: 0, to: "12", then: "12" },
  { name: "another order", from: "123", picks: 1, to: "321", then: "213" },
];

for (const { name, from, picks, to, then } of UPDATES) {
  Deno.test(`Rotation goes on sensibly after an update: ${name}`, () => {
    const turning = rotation(from);
    visits(turning, picks);
    turning.update(candidates(endpoints(to)));
    assert.equal(visits(turning, then.length), then);
  });
}

Deno.test("Rotation passes over what was tried and goes on after it", () => {
  const turning = rotation("123");
  assert.equal(numberOf(turning.next(keysOf("1"))?.endpoint), "2");
  assert.equal(visits(turning, 3), "312");
});

Deno.test("[3.6] Rotation visits each of n endpoints k times in n·k picks", () => {
  const some = endpointLists.filter(({ length }) => length > 0);
  fc.assert(
    fc.property(
      some,
      some,
      fc.nat(30),
      fc.integer({ min: 1, max: 5 }),
      (before, list, offset, k) => {
        const turning = new Rotation(candidates(before));
        visits(turning, offset);
        turning.update(candidates(list));
        const counts = new Map<string, number>();
        for (let count = 0; count < list.length * k; count++) {
          const { key } = turning.next(NOTHING_TRIED)!;
          counts.set(key, (counts.get(key) ?? 0) + 1);
        }
        assert.deepEqual(
          counts,
          new Map(candidates(list).map(({ key }) => [key, k])),
        );
      },
    ),
  );
});

Deno.test("Rotation hits no endpoint twice in a row while there is another", () => {
  const step = fc.record({
    update: fc.option(endpointLists, { nil: undefined }),
    picks: fc.nat(4),
  });
  fc.assert(fc.property(fc.array(step), (steps) => {
    const turning = new Rotation();
    let size = 0;
    let last: string | undefined;
    for (const { update, picks } of steps) {
      if (update !== undefined) {
        turning.update(candidates(update));
        size = update.length;
      }
      for (let count = 0; count < picks; count++) {
        const picked = turning.next(NOTHING_TRIED);
        if (picked === undefined) break;
        if (size > 1 && last !== undefined) assert.notEqual(picked.key, last);
        last = picked.key;
      }
    }
  }));
});

Deno.test("Rotation's copy goes on from where it is, and then its own way", () => {
  const turning = rotation("123");
  visits(turning, 1);
  const copy = turning.copy();
  copy.update(candidates(endpoints("23")));
  assert.equal(visits(copy, 3), "232");
  assert.equal(visits(turning, 3), "231");
});

Deno.test("Rotation takes the one with the fewest connections, equals in turn", () => {
  const turning = rotation("1234");
  const open = new Map([...keysOf("1")].map((key) => [key, 2]));
  for (const key of keysOf("34")) open.set(key, 1);
  const next = (tried = "") =>
    numberOf(turning.next(keysOf(tried), open)?.endpoint);
  assert.equal(next(), "2");
  assert.equal(next("2"), "3");
  assert.equal(next("2"), "4");
  assert.equal(next("2"), "3");
  assert.equal(next("234"), "1");
  assert.equal(next("1234"), "-");
});

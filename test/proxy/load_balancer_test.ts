import assert from "node:assert/strict";
import fc from "fast-check";
import type { EndpointAddress } from "../../proxy/engine/engine.ts";
import { endpointKey, RoundRobin } from "../../proxy/load_balancer.ts";
import {
  client,
  endpoint,
  endpointLists,
  NOTHING_TRIED,
  runLoadBalancerConformance,
} from "../conformance/load_balancer.ts";

runLoadBalancerConformance({
  name: "RoundRobin",
  createBalancer: (endpoints) => new RoundRobin(endpoints),
});

function pick(balancer: RoundRobin, count: number): EndpointAddress[] {
  return Array.from(
    { length: count },
    () => balancer.pick(client(), NOTHING_TRIED)!,
  );
}

/** The picks' numbers, as one string: endpoint(3) is `3`. */
function visits(balancer: RoundRobin, count: number): string {
  return pick(balancer, count).map(({ ip }) => ip.split(".")[3]).join("");
}

function list(numbers: string): EndpointAddress[] {
  return [...numbers].map((digit) => endpoint(Number(digit)));
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
  Deno.test(`RoundRobin goes on sensibly after an update: ${name}`, () => {
    const balancer = new RoundRobin(list(from));
    visits(balancer, picks);
    balancer.update(list(to));
    assert.equal(visits(balancer, then.length), then);
  });
}

Deno.test("RoundRobin passes over what was tried and goes on after it", () => {
  const balancer = new RoundRobin(list("123"));
  const tried = new Set([endpointKey(endpoint(1))]);
  assert.deepEqual(balancer.pick(client(), tried), endpoint(2));
  assert.equal(visits(balancer, 3), "312");
});

Deno.test("RoundRobin visits each of n endpoints k times in n·k picks", () => {
  fc.assert(
    fc.property(
      endpointLists.filter(({ length }) => length > 0),
      endpointLists.filter(({ length }) => length > 0),
      fc.nat(30),
      fc.integer({ min: 1, max: 5 }),
      (before, endpoints, offset, k) => {
        const balancer = new RoundRobin(before);
        pick(balancer, offset);
        balancer.update(endpoints);
        const counts = new Map<string, number>();
        for (const picked of pick(balancer, endpoints.length * k)) {
          const key = endpointKey(picked);
          counts.set(key, (counts.get(key) ?? 0) + 1);
        }
        assert.deepEqual(
          counts,
          new Map(endpoints.map((each) => [endpointKey(each), k])),
        );
      },
    ),
  );
});

Deno.test("RoundRobin hits no endpoint twice in a row while there is another", () => {
  const step = fc.record({
    update: fc.option(endpointLists, { nil: undefined }),
    picks: fc.nat(4),
  });
  fc.assert(fc.property(fc.array(step), (steps) => {
    const balancer = new RoundRobin();
    let endpoints: readonly EndpointAddress[] = [];
    let last: EndpointAddress | undefined;
    for (const { update, picks } of steps) {
      if (update !== undefined) balancer.update(endpoints = update);
      for (let count = 0; count < picks; count++) {
        const picked = balancer.pick(client(), NOTHING_TRIED);
        if (picked === undefined) break;
        if (endpoints.length > 1 && last !== undefined) {
          assert.notEqual(endpointKey(picked), endpointKey(last));
        }
        last = picked;
      }
    }
  }));
});

Deno.test("endpointKey() puts IPv6 in brackets", () => {
  assert.equal(endpointKey({ ip: "10.0.0.1", port: 80 }), "10.0.0.1:80");
  assert.equal(endpointKey({ ip: "fd00::1", port: 80 }), "[fd00::1]:80");
});

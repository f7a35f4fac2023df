import assert from "node:assert/strict";
import fc from "fast-check";
import type { EndpointAddress } from "../../proxy/engine/engine.ts";
import {
  type BalancingPolicy,
  endpointKey,
  type EndpointListName,
  LoadBalancer,
} from "../../proxy/load_balancer.ts";
import {
  balancing,
  client,
  endpoint,
  endpointLists,
  endpoints,
  keysOf,
  NOTHING_TRIED,
  numberOf,
} from "../support/balancing.ts";
import { FakeClock } from "../support/fake_clock.ts";

function balancerOf(policy: BalancingPolicy): LoadBalancer {
  return new LoadBalancer(policy, { clock: new FakeClock() });
}

/** Numbers of the endpoints that new clients of a list are sent to. */
function visits(
  balancer: LoadBalancer,
  list: EndpointListName,
  count: number,
): string {
  return Array.from(
    { length: count },
    () => numberOf(balancer.pick(client(), list, NOTHING_TRIED)),
  ).join("");
}

const LISTS = ["internal", "external", "externalFromCluster"] as const;

const KINDS: readonly {
  readonly name: string;
  readonly more: Partial<BalancingPolicy>;
}[] = [
  { name: "in turn", more: {} },
  { name: "least connections", more: { balancer: "least-connections" } },
  { name: "in turn, with affinity", more: { affinityMs: 10_000 } },
  {
    name: "least connections, with affinity",
    more: { balancer: "least-connections", affinityMs: 10_000 },
  },
];

for (const { name, more } of KINDS) {
  const from = (list: readonly EndpointAddress[]) => balancing(list, more);

  Deno.test(`LoadBalancer (${name}): without endpoints there is nothing to pick`, () => {
    const balancer = balancerOf(from([]));
    const pick = () => balancer.pick(client(), "internal", NOTHING_TRIED);
    assert.equal(pick(), undefined);
    balancer.update(from([endpoint(1)]));
    assert.deepEqual(pick(), endpoint(1));
    balancer.update(from([]));
    assert.equal(pick(), undefined);
  });

  Deno.test(`[3.10] LoadBalancer (${name}): picks come from the last update's list, none that was tried`, () => {
    const lists = fc.record({
      internal: endpointLists,
      external: endpointLists,
      externalFromCluster: endpointLists,
      serving: fc.constant([]),
    });
    const step = fc.record({
      update: fc.option(lists, { nil: undefined }),
      client: fc.integer({ min: 1, max: 4 }),
      list: fc.constantFrom(...LISTS),
      tried: endpointLists,
      isOpened: fc.boolean(),
    });
    fc.assert(fc.property(lists, fc.array(step), (first, steps) => {
      const balancer = balancerOf({ ...from([]), endpoints: first });
      let current = first;
      for (const { update, list, isOpened, ...one } of steps) {
        if (update !== undefined) {
          balancer.update({ ...from([]), endpoints: update });
          current = update;
        }
        const tried = new Set(one.tried.map(endpointKey));
        const allowed = current[list].map(endpointKey)
          .filter((key) => !tried.has(key));
        const picked = balancer.pick(client(one.client), list, tried);
        if (picked === undefined) assert.deepEqual(allowed, []);
        else {
          assert.ok(allowed.includes(endpointKey(picked)));
          if (isOpened) balancer.opened(endpointKey(picked));
        }
      }
    }));
  });

  Deno.test(`LoadBalancer (${name}): a connection that fails everywhere has tried everything`, () => {
    fc.assert(fc.property(endpointLists, (list) => {
      const balancer = balancerOf(from(list));
      const tried = new Set<string>();
      for (let count = 0; count < list.length; count++) {
        tried.add(
          endpointKey(balancer.pick(client(), "internal", tried)!),
        );
      }
      assert.deepEqual([...tried].sort(), list.map(endpointKey).sort());
      assert.equal(balancer.pick(client(), "internal", tried), undefined);
      assert.equal(balancer.affinityEntries, 0);
    }));
  });
}

Deno.test("[3.1] LoadBalancer: lists with the same endpoints are one rotation, exactly", () => {
  fc.assert(fc.property(
    endpointLists.filter(({ length }) => length > 0),
    fc.array(fc.constantFrom(...LISTS), { maxLength: 60 }),
    (list, ways) => {
      // Equal, not the same arrays: as a recomputed policy has them.
      const balancer = balancerOf({
        ...balancing(list),
        endpoints: {
          internal: list,
          external: structuredClone(list),
          externalFromCluster: structuredClone(list),
          serving: [],
        },
      });
      const counts = list.map(() => 0);
      for (const way of ways) {
        const picked = balancer.pick(client(), way, NOTHING_TRIED)!;
        const key = endpointKey(picked);
        counts[list.findIndex((each) => endpointKey(each) === key)]!++;
        assert.ok(Math.max(...counts) - Math.min(...counts) <= 1);
      }
    },
  ));
});

Deno.test("LoadBalancer: lists that come apart each go on from where they were", () => {
  const balancer = balancerOf(balancing(endpoints("1234")));
  assert.equal(visits(balancer, "internal", 1), "1");
  const apart = {
    internal: endpoints("1234"),
    external: endpoints("24"),
    externalFromCluster: endpoints("1234"),
    serving: [],
  };
  balancer.update(balancing([], { endpoints: apart }));
  assert.equal(visits(balancer, "external", 3), "242");
  assert.equal(visits(balancer, "internal", 2), "23");
  assert.equal(visits(balancer, "externalFromCluster", 2), "41");
  balancer.update(balancing(endpoints("1234")));
  assert.equal(visits(balancer, "external", 2), "23");
  assert.equal(visits(balancer, "internal", 2), "41");
});

Deno.test("LoadBalancer: a list that leaves the first one's rotation does not disturb it", () => {
  const balancer = balancerOf(balancing(endpoints("123")));
  assert.equal(visits(balancer, "internal", 1), "1");
  const lists = {
    internal: endpoints("4"),
    external: endpoints("123"),
    externalFromCluster: endpoints("123"),
    serving: [],
  };
  balancer.update(balancing([], { endpoints: lists }));
  assert.equal(visits(balancer, "external", 3), "231");
  assert.equal(visits(balancer, "externalFromCluster", 1), "2");
  assert.equal(visits(balancer, "internal", 2), "44");
});

Deno.test("LoadBalancer: least connections counts dials, and is switched on and off live", () => {
  const least = balancing(endpoints("123"), { balancer: "least-connections" });
  const balancer = balancerOf(least);
  const open = () => {
    const picked = balancer.pick(client(), "internal", NOTHING_TRIED)!;
    balancer.opened(endpointKey(picked));
    return numberOf(picked);
  };
  assert.equal(open() + open() + open() + open(), "1231");
  for (const key of keysOf("3")) balancer.closed(key);
  assert.equal(open() + open() + open(), "323");
  balancer.update(balancing(endpoints("123")));
  assert.equal(open() + open() + open(), "123");
  for (let count = 0; count < 4; count++) {
    for (const key of keysOf("2")) balancer.closed(key);
  }
  balancer.update(least);
  assert.equal(open() + open() + open(), "222");
});

Deno.test("LoadBalancer: least connections never lets endpoints differ by more than one while none ends", () => {
  fc.assert(fc.property(
    endpointLists.filter(({ length }) => length > 0),
    fc.nat(50),
    (list, count) => {
      const balancer = balancerOf(
        balancing(list, { balancer: "least-connections" }),
      );
      const counts = list.map(() => 0);
      for (let n = 0; n < count; n++) {
        const picked = balancer.pick(client(), "internal", NOTHING_TRIED)!;
        balancer.opened(endpointKey(picked));
        counts[list.indexOf(picked)]!++;
        assert.ok(Math.max(...counts) - Math.min(...counts) <= 1);
      }
    },
  ));
});

Deno.test("endpointKey() puts IPv6 in brackets", () => {
  assert.equal(endpointKey({ ip: "10.0.0.1", port: 80 }), "10.0.0.1:80");
  assert.equal(endpointKey({ ip: "fd00::1", port: 80 }), "[fd00::1]:80");
});

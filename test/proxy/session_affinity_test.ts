import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type BalancingPolicy,
  endpointKey,
  type EndpointListName,
  LoadBalancer,
} from "../../proxy/load_balancer.ts";
import { AFFINITY_CLIENTS_MAX } from "../../proxy/session_affinity.ts";
import {
  balancing,
  client,
  endpointLists,
  endpoints,
  keysOf,
  NOTHING_TRIED,
  numberOf,
} from "../support/balancing.ts";
import { FakeClock } from "../support/fake_clock.ts";

const TIMEOUT_MS = 10_000;

/** A ServicePort with affinity, and a clock. */
function sticky(numbers: string, maxAffinityClients?: number) {
  const clock = new FakeClock();
  const policy = (numbers: string, more: Partial<BalancingPolicy> = {}) =>
    balancing(endpoints(numbers), { affinityMs: TIMEOUT_MS, ...more });
  const balancer = new LoadBalancer(policy(numbers), {
    clock,
    ...(maxAffinityClients === undefined ? {} : { maxAffinityClients }),
  });
  return {
    clock,
    balancer,
    update: (numbers: string, more?: Partial<BalancingPolicy>) =>
      balancer.update(policy(numbers, more)),
    /** The number of the endpoint that a new connection goes to. */
    pick: (
      from = 1,
      list: EndpointListName = "internal",
      tried = NOTHING_TRIED,
    ) => numberOf(balancer.pick(client(from), list, tried)),
  };
}

function lists(
  internal: string,
  external: string,
  externalFromCluster = internal,
): Partial<BalancingPolicy> {
  return {
    endpoints: {
      internal: endpoints(internal),
      external: endpoints(external),
      externalFromCluster: endpoints(externalFromCluster),
      serving: [],
    },
  };
}

Deno.test("[4.4, 4.19] affinity is by the client's IP address, whatever its port", () => {
  const { pick, balancer } = sticky("123");
  // client() has another port each time.
  assert.equal(pick(1) + pick(2) + pick(1) + pick(2), "1212");
  assert.equal(pick(3) + pick(4) + pick(1), "311");
  assert.equal(balancer.affinityEntries, 4);
});

Deno.test("[4.6] every way into a service port leads to the same endpoint", () => {
  const { pick } = sticky("123");
  assert.equal(pick(1, "external"), "1");
  assert.equal(pick(2), "2");
  assert.equal(pick(1, "internal"), "1");
  assert.equal(pick(1, "externalFromCluster"), "1");
  assert.equal(pick(2, "external"), "2");
});

Deno.test("[4.7] lists share affinity, each among its own endpoints", () => {
  const { pick, update } = sticky("");
  update("", lists("123", "3"));
  assert.equal(pick(1), "1");
  assert.equal(pick(1, "external"), "3", "1 is not in this list");
  assert.equal(pick(1), "1", "and stays where it was");
  assert.equal(pick(2, "external"), "3");
  assert.equal(pick(2), "3", "which both lists have");
});

Deno.test("[4.8] a client remembered twice stays where each list has sent it", () => {
  const { pick, update } = sticky("");
  update("", lists("12", "34"));
  assert.equal(pick(1) + pick(1, "external"), "13");
  update("", lists("1234", "1234"));
  assert.equal(pick(1) + pick(1, "external"), "13");
  update("", lists("3", "1"));
  assert.equal(pick(1) + pick(1, "external"), "31");
});

Deno.test("[4.9] each new connection renews the time, by whatever list", () => {
  const { pick, clock } = sticky("123");
  assert.equal(pick(1), "1");
  clock.jump(TIMEOUT_MS - 1);
  assert.equal(pick(1, "external"), "1");
  clock.jump(TIMEOUT_MS - 1);
  assert.equal(pick(1), "1");
});

Deno.test("[4.10] a connection renews nothing while it lasts", () => {
  const { pick, clock, balancer } = sticky("123");
  assert.equal(pick(1), "1");
  balancer.opened("10.0.0.1:8080");
  clock.jump(TIMEOUT_MS);
  assert.equal(pick(1), "2");
});

Deno.test("[4.11, 4.21] affinity holds while younger than the timeout", () => {
  const { pick, clock, balancer } = sticky("123");
  assert.equal(pick(1), "1");
  clock.jump(TIMEOUT_MS - 1);
  assert.equal(balancer.affinityEntries, 1);
  clock.jump(1);
  assert.equal(balancer.affinityEntries, 0);
  assert.equal(pick(1), "2");
});

Deno.test("[4.12] a client of an endpoint that left moves on at once, and stays there", () => {
  const { pick, update } = sticky("123");
  assert.equal(pick(1) + pick(2), "12");
  update("23");
  assert.equal(pick(1) + pick(1) + pick(1), "333");
  assert.equal(pick(2), "2");
});

Deno.test("[4.12] an endpoint that leaves one list keeps the clients of the others", () => {
  const { pick, update } = sticky("12");
  assert.equal(pick(1) + pick(1, "external"), "11");
  update("", lists("2", "12"));
  assert.equal(pick(1), "2");
  assert.equal(pick(1, "external"), "1");
});

Deno.test("[4.13] an endpoint that returns is a new one", () => {
  const { pick, update, balancer } = sticky("12");
  assert.equal(pick(1) + pick(2), "12");
  update("2");
  assert.equal(balancer.affinityEntries, 1);
  update("12");
  assert.equal(pick(3) + pick(1), "12");
});

Deno.test("[4.14] a new endpoint moves nobody", () => {
  const { pick, update } = sticky("12");
  assert.equal(pick(1) + pick(2), "12");
  update("0123");
  assert.equal(pick(1) + pick(2) + pick(1) + pick(2), "1212");
});

Deno.test("[4.15] affinity is switched on and off while it runs", () => {
  const { pick, update, balancer } = sticky("12");
  update("12", { affinityMs: 0 });
  assert.equal(pick() + pick() + pick(), "121");
  update("12");
  assert.equal(pick() + pick() + pick(), "222");
  update("12", { affinityMs: 0 });
  assert.equal(balancer.affinityEntries, 0);
  assert.equal(pick() + pick() + pick(), "121");
  update("12");
  assert.equal(pick() + pick() + pick(), "222");
});

Deno.test("[4.16] a new timeout counts for clients that are known already", () => {
  const { pick, update, clock } = sticky("12");
  assert.equal(pick(1), "1");
  clock.jump(TIMEOUT_MS / 2);
  update("12", { affinityMs: TIMEOUT_MS / 2 });
  assert.equal(pick(1), "2", "a shorter one");
  update("12", { affinityMs: TIMEOUT_MS * 2 });
  clock.jump(TIMEOUT_MS);
  assert.equal(pick(1), "2", "a longer one");
});

Deno.test("[4.17] an endpoint that refuses a dial loses the client to the next", () => {
  const { pick } = sticky("123");
  assert.equal(pick(1), "1");
  assert.equal(pick(1, "internal", keysOf("1")), "2");
  assert.equal(pick(1) + pick(1, "external"), "22");
});

Deno.test("[4.17] connections of one client that fail at the same time end at the same endpoint", () => {
  const { pick } = sticky("1234");
  assert.equal(pick(1) + pick(1), "11");
  assert.equal(pick(1, "internal", keysOf("1")), "2");
  assert.equal(pick(1, "internal", keysOf("1")), "2");
  assert.equal(pick(1, "internal", keysOf("12")), "3");
});

Deno.test("[4.20] fifteen requests in a row reach one endpoint with affinity, two without", () => {
  const { pick, update } = sticky("12");
  const hits = () => new Set(Array.from({ length: 15 }, () => pick()));
  assert.equal(hits().size, 1);
  update("12", { affinityMs: 0 });
  assert.equal(hits().size, 2);
});

Deno.test("affinity keeps its place with least connections", () => {
  const { pick, balancer, update } = sticky("12");
  update("12", { balancer: "least-connections" });
  const first = pick(1);
  for (const key of keysOf(first)) balancer.opened(key);
  assert.equal(pick(1), first);
  assert.notEqual(pick(2), first);
});

Deno.test("affinity remembers a bounded number of clients, the latest", () => {
  const { pick, balancer } = sticky("12", 3);
  assert.equal(pick(1) + pick(2) + pick(3), "121");
  assert.equal(pick(1), "1", "now 2 is the oldest");
  pick(4);
  assert.equal(balancer.affinityEntries, 3);
  assert.equal(pick(1) + pick(3) + pick(4), "112");
  assert.equal(pick(2), "1", "forgotten: a new turn");
});

Deno.test("affinity: a million clients leave a table that is full, and not larger", () => {
  const { balancer, clock } = sticky("12");
  for (let n = 0; n < 1_000_000; n++) {
    const ip = `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;
    balancer.pick({ ip, port: 1 }, "internal", NOTHING_TRIED);
  }
  const { affinityEntries } = balancer;
  assert.ok(affinityEntries <= AFFINITY_CLIENTS_MAX);
  assert.ok(affinityEntries > AFFINITY_CLIENTS_MAX * 0.9);
  clock.jump(TIMEOUT_MS);
  assert.equal(balancer.affinityEntries, 0);
});

const some = endpointLists.filter(({ length }) => length > 0);

/** One thing that happens to a ServicePort with affinity. */
const event = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      type: fc.constant("pick" as const),
      client: fc.integer({ min: 1, max: 5 }),
      list: fc.constantFrom("internal" as const, "external" as const),
    }),
  },
  fc.record({
    type: fc.constant("update" as const),
    internal: some,
    external: some,
  }),
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant("wait" as const),
      ms: fc.integer({ min: 0, max: TIMEOUT_MS }),
    }),
  },
);

Deno.test("[4.11, 4.14] affinity never sends a client to two endpoints of a list inside the timeout while the first is there", () => {
  fc.assert(fc.property(fc.array(event, { maxLength: 60 }), (events) => {
    const clock = new FakeClock();
    const empty = balancing([], { affinityMs: TIMEOUT_MS });
    const balancer = new LoadBalancer(empty, { clock });
    let current = empty.endpoints;
    /** client and list → where it was sent last, as far as it must hold. */
    const sent = new Map<string, { key: string; at: number }>();
    for (const event of events) {
      if (event.type === "wait") clock.jump(event.ms);
      else if (event.type === "update") {
        current = { ...empty.endpoints, ...event };
        balancer.update({ ...empty, endpoints: current });
        const gone = (key: string) =>
          ![...current.internal, ...current.external]
            .some((endpoint) => endpointKey(endpoint) === key);
        for (const [name, { key }] of sent) if (gone(key)) sent.delete(name);
      } else {
        const picked = balancer.pick(
          client(event.client),
          event.list,
          NOTHING_TRIED,
        );
        if (picked === undefined) continue;
        const name = `${event.client} ${event.list}`;
        const before = sent.get(name);
        const key = endpointKey(picked);
        if (
          before !== undefined && clock.now() - before.at < TIMEOUT_MS &&
          current[event.list].some((one) => endpointKey(one) === before.key)
        ) assert.equal(key, before.key);
        sent.set(name, { key, at: clock.now() });
      }
    }
  }));
});

Deno.test("affinity never remembers more clients than it may", () => {
  fc.assert(fc.property(
    fc.array(
      fc.record({
        client: fc.integer({ min: 1, max: 200 }),
        ms: fc.nat(TIMEOUT_MS / 10),
      }),
      { maxLength: 100 },
    ),
    fc.integer({ min: 1, max: 32 }),
    (picks, max) => {
      const { pick, balancer, clock } = sticky("123", max);
      const lastUsed = new Map<number, number>();
      for (const { client, ms } of picks) {
        clock.jump(ms);
        pick(client);
        lastUsed.set(client, clock.now());
        const young = [...lastUsed.values()]
          .filter((at) => clock.now() - at < TIMEOUT_MS).length;
        assert.ok(balancer.affinityEntries <= Math.min(max, young));
        assert.ok(balancer.affinityEntries >= Math.min(max - 1, young));
      }
    },
  ));
});

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type BalancingPolicy,
  type ClientAddress,
  endpointKey,
  LoadBalancer,
} from "../../proxy/load_balancer.ts";
import { Ejections } from "../../proxy/ejection.ts";
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

const key = (number: string) => [...keysOf(number)][0]!;

function ejectable(numbers: string, more: Partial<BalancingPolicy> = {}) {
  const clock = new FakeClock();
  const balancer = new LoadBalancer(balancing(endpoints(numbers), more), {
    clock,
  });
  // Number of an endpoint → who was sent there.
  const sent = new Map<string, ClientAddress[]>();
  const pick = (tried = "", from = 1) => {
    const who = client(from);
    const picked = numberOf(balancer.pick(who, "internal", keysOf(tried)));
    sent.set(picked, [...sent.get(picked) ?? [], who]);
    return picked;
  };
  return {
    clock,
    balancer,
    pick,
    picks: (count: number) =>
      Array.from({ length: count }, () => pick()).join(""),
    /** The dial of the latest who was sent there, or of another one. */
    failed: (number: string, index = -1) =>
      balancer.failed(key(number), sent.get(number)?.at(index) ?? client()),
    answered: (number: string) => balancer.answered(key(number)),
    update: (numbers: string, more: Partial<BalancingPolicy> = {}) =>
      balancer.update(balancing(endpoints(numbers), more)),
    isEjected: (number: string) => balancer.ejectedUntil(key(number)) > 0,
  };
}

const ONE = client(1);

Deno.test("Ejections: 1 s, doubled by each failed trial, up to 30 s, and from 1 s again after an answer", () => {
  const clock = new FakeClock();
  const ejections = new Ejections(clock);
  for (const seconds of [1, 2, 4, 8, 16, 30, 30]) {
    assert.equal(ejections.failed("a", ONE), seconds * 1_000);
    assert.equal(ejections.until("a"), clock.now() + seconds * 1_000);
    clock.jump(seconds * 1_000 - 1);
    assert.ok(ejections.keepsOut("a"));
    clock.jump(1);
    assert.ok(!ejections.keepsOut("a"), "a trial is due");
    ejections.chosen("a", ONE);
  }
  assert.equal(ejections.answered("a"), true);
  assert.equal(ejections.answered("a"), false);
  assert.equal(ejections.size, 0);
  assert.equal(ejections.failed("a", ONE), 1_000);
});

Deno.test("Ejections: one trial at a time, and another if nothing is heard of it", () => {
  const clock = new FakeClock();
  const ejections = new Ejections(clock);
  ejections.failed("a", ONE);
  clock.jump(1_000);
  ejections.chosen("a", ONE);
  assert.ok(ejections.keepsOut("a"), "others stay away meanwhile");
  clock.jump(999);
  assert.ok(ejections.keepsOut("a"));
  clock.jump(1);
  assert.ok(!ejections.keepsOut("a"), "its client left");
  ejections.chosen("a", ONE);
  assert.equal(ejections.failed("a", ONE), 2_000);
});

Deno.test("Ejections: dials from before, or made in spite of it, lengthen nothing", () => {
  const clock = new FakeClock();
  const ejections = new Ejections(clock);
  assert.equal(ejections.failed("a", ONE), 1_000);
  ejections.chosen("a", ONE);
  assert.equal(ejections.failed("a", ONE), undefined);
  assert.equal(ejections.until("a"), clock.now() + 1_000);
});

Deno.test("Ejections: a dial from before that fails during a trial lengthens nothing, and the trial's does", () => {
  const { clock, pick, failed } = ejectable("12");
  assert.equal(pick("2"), "1");
  assert.equal(pick("2"), "1");
  assert.equal(failed("1", 0), 1_000);
  clock.jump(1_000);
  assert.equal(pick("2"), "1");
  assert.equal(failed("1", 1), undefined, "a late one");
  assert.equal(pick(), "2", "the trial still runs");
  assert.equal(failed("1", 2), 2_000);
});

Deno.test("Ejections: a clock that is set back makes a trial due, not an age to wait", () => {
  const clock = new FakeClock();
  const ejections = new Ejections(clock);
  ejections.failed("a", ONE);
  clock.jump(-3_600_000);
  assert.ok(!ejections.keepsOut("a"));
});

for (const balancer of ["round-robin", "least-connections"] as const) {
  Deno.test(`LoadBalancer (${balancer}): an ejected endpoint is passed over until one client has tried it`, () => {
    const { picks, pick, failed, answered, clock } = ejectable("123", {
      balancer,
    });
    assert.equal(pick(), "1");
    assert.equal(failed("1"), 1_000);
    assert.equal(picks(6), "232323");
    clock.jump(1_000);
    assert.equal(picks(6), "123232", "one trial");
    assert.equal(failed("1"), 2_000);
    clock.jump(1_999);
    assert.equal(picks(2), "32");
    clock.jump(1);
    assert.equal(picks(4), "3123");
    assert.equal(answered("1"), true);
    assert.equal(picks(4), "1231");
  });
}

Deno.test("LoadBalancer: ejected endpoints are asked when all others have been tried", () => {
  const { pick, failed } = ejectable("123");
  failed("1");
  failed("2");
  assert.equal(pick("3"), "1");
  assert.equal(pick("31"), "2");
  assert.equal(pick("312"), "-");
});

Deno.test("LoadBalancer: the last endpoint that is not ejected never is", () => {
  const { picks, failed, isEjected } = ejectable("123");
  failed("1");
  failed("2");
  assert.equal(failed("3"), undefined);
  assert.ok(!isEjected("3"));
  assert.equal(picks(3), "333");
  const { failed: alone } = ejectable("1");
  assert.equal(alone("1"), undefined);
});

Deno.test("LoadBalancer: when the others have left, the ejected one is one as any other", () => {
  const { picks, failed, isEjected, update } = ejectable("123");
  failed("1");
  failed("2");
  update("12");
  assert.ok(!isEjected("1") && isEjected("2"));
  assert.equal(picks(2), "11");
  update("2");
  assert.ok(!isEjected("2"));
});

Deno.test("LoadBalancer: an endpoint that left and came back is a new one", () => {
  const { failed, isEjected, update, picks } = ejectable("12");
  failed("1");
  update("2");
  update("12");
  assert.ok(!isEjected("1"));
  assert.equal(picks(4).match(/1/g)?.length, 2);
  assert.equal(failed("9"), undefined, "one that left ejects nothing");
});

Deno.test("LoadBalancer: an endpoint is ejected for all lists, and still serves the one where it is alone", () => {
  const { balancer, failed, isEjected } = ejectable("");
  const lists = {
    internal: endpoints("1"),
    external: endpoints("12"),
    externalFromCluster: endpoints("12"),
    serving: [],
  };
  balancer.update(balancing([], { endpoints: lists }));
  failed("1");
  assert.ok(isEjected("1"));
  const pick = (list: "internal" | "external") =>
    numberOf(balancer.pick(client(), list, NOTHING_TRIED));
  assert.equal(pick("internal") + pick("internal"), "11");
  assert.equal(pick("external") + pick("external"), "22");
});

Deno.test("LoadBalancer: affinity leads no client to an ejected endpoint, and those that moved stay", () => {
  const { pick, failed, answered, clock } = ejectable("123", {
    affinityMs: 60_000,
  });
  const from = (number: number) => pick("", number);
  assert.equal(from(1) + from(2) + from(3) + from(4), "1231");
  failed("1");
  assert.equal(from(1) + from(1) + from(4), "223");
  clock.jump(1_000);
  answered("1");
  assert.equal(from(1) + from(4) + from(5), "231");
});

Deno.test("LoadBalancer: affinity holds where nobody else is left", () => {
  const { pick, balancer, failed } = ejectable("", { affinityMs: 60_000 });
  const lists = {
    internal: endpoints("12"),
    external: endpoints("123"),
    externalFromCluster: endpoints("123"),
    serving: [],
  };
  balancer.update(balancing([], { affinityMs: 60_000, endpoints: lists }));
  failed("1");
  failed("2");
  const first = pick("", 7);
  for (let n = 0; n < 5; n++) assert.equal(pick("", 7), first);
});

Deno.test("LoadBalancer: whatever fails and answers, n·k picks visit each of the n not ejected k times", () => {
  const step = fc.record({
    key: fc.integer({ min: 1, max: 12 }),
    happens: fc.constantFrom("failed", "answered", "picked"),
  });
  fc.assert(
    fc.property(
      endpointLists.filter(({ length }) => length > 0),
      fc.array(step),
      fc.integer({ min: 1, max: 4 }),
      (list, steps, k) => {
        const clock = new FakeClock();
        const balancer = new LoadBalancer(balancing(list), { clock });
        for (const { key: number, happens } of steps) {
          const one = `10.0.0.${number}:8080`;
          if (happens === "failed") balancer.failed(one, client(1));
          else if (happens === "answered") balancer.answered(one);
          else balancer.pick(client(), "internal", NOTHING_TRIED);
        }
        const usable = list.map(endpointKey)
          .filter((one) => balancer.ejectedUntil(one) === 0);
        assert.ok(usable.length > 0, "the last is never ejected");
        const counts = new Map<string, number>();
        for (let n = 0; n < usable.length * k; n++) {
          const one = endpointKey(
            balancer.pick(client(), "internal", NOTHING_TRIED)!,
          );
          counts.set(one, (counts.get(one) ?? 0) + 1);
        }
        assert.deepEqual(counts, new Map(usable.map((one) => [one, k])));
      },
    ),
    { verbose: true },
  );
});

Deno.test("LoadBalancer: however time passes, a dead endpoint costs no more than its trials", () => {
  fc.assert(fc.property(
    fc.integer({ min: 2, max: 6 }),
    fc.array(fc.integer({ min: 0, max: 5_000 }), { maxLength: 200 }),
    (count, pauses) => {
      const clock = new FakeClock();
      const list = endpoints("123456".slice(0, count));
      const balancer = new LoadBalancer(balancing(list), { clock });
      const begin = clock.now();
      let slow = 0;
      for (const pause of pauses) {
        clock.jump(pause);
        const who = client();
        const one = balancer.pick(who, "internal", NOTHING_TRIED)!;
        if (numberOf(one) !== "1") continue;
        slow++;
        balancer.failed(endpointKey(one), who);
      }
      // 1 + 2 + 4 + 8 + 16 s, then one every 30 s.
      const seconds = (clock.now() - begin) / 1_000;
      let most = 1;
      for (let at = 1, delay = 1; at <= seconds; at += delay) {
        most++;
        delay = Math.min(delay * 2, 30);
      }
      assert.ok(slow <= most, `${slow} of ${most} in ${seconds} s`);
    },
  ));
});

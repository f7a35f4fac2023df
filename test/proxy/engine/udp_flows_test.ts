import assert from "node:assert/strict";
import {
  FlowLimits,
  FlowTable,
  type TimedFlow,
} from "../../../proxy/engine/udp_flows.ts";
import { FakeClock } from "../../support/fake_clock.ts";

interface Ended {
  readonly key: string;
  readonly why: string;
  readonly atMs: number;
}

interface Flow extends TimedFlow<Flow> {
  readonly key: string;
}

/** A table whose flows end as they are told, and what was ended. */
function table(
  limits: FlowLimits,
  clock: FakeClock,
): { table: FlowTable<Flow>; ended: Ended[] } {
  const start = clock.now();
  const ended: Ended[] = [];
  const table: FlowTable<Flow> = new FlowTable({
    time: {
      now: () => clock.now(),
      later: (delayMs, run) => {
        clock.delay(delayMs, new AbortController().signal).then(run);
      },
    },
    timeoutMs: 32_000,
    limits,
    expire(flow, why) {
      ended.push({ key: flow.key, why, atMs: clock.now() - start });
      table.delete(flow);
      return Promise.resolve();
    },
  });
  return { table, ended };
}

function flow(key: string): Flow {
  return { key, usedAt: 0, older: undefined, newer: undefined };
}

function use(table: FlowTable<Flow>, key: string): void {
  const flow = table.values().find((flow) => flow.key === key);
  assert.ok(flow !== undefined);
  table.use(flow);
}

Deno.test("FlowTable ends a flow the whole time-out after its last use, a 32nd late at most", async () => {
  const clock = new FakeClock();
  const limits = new FlowLimits({ perPort: 10, total: 10 });
  const { table: flows, ended } = table(limits, clock);
  flows.add(flow("a"));
  await clock.advance(500);
  flows.add(flow("b"));
  flows.add(flow("c"));
  await clock.advance(10_000);
  use(flows, "c");
  await clock.advance(60_000);
  assert.deepEqual(ended.map(({ key }) => key), ["a", "b", "c"]);
  for (const [index, due] of [32_000, 32_500, 42_500].entries()) {
    const { why, atMs } = ended[index]!;
    assert.equal(why, "idle");
    assert.ok(atMs >= due && atMs <= due + 1_000, `${atMs} for ${due}`);
  }
  // Nothing to wait for, nothing waited for; and again with the next flow.
  assert.equal(clock.sleeping, 0);
  flows.add(flow("d"));
  await clock.advance(33_000);
  assert.equal(ended.at(-1)?.key, "d");
});

Deno.test("FlowTable tells its flows by use, the longest silent first", () => {
  const clock = new FakeClock();
  const limits = new FlowLimits({ perPort: 10, total: 10 });
  const { table: flows } = table(limits, clock);
  for (const key of ["a", "b", "c", "d"]) flows.add(flow(key));
  const keys = () => flows.values().map(({ key }) => key).join("");
  use(flows, "d");
  use(flows, "b");
  assert.equal(keys(), "acdb");
  use(flows, "a");
  assert.equal(keys(), "cdba");
  for (const each of flows.values()) {
    if ("ca".includes(each.key)) flows.delete(each);
  }
  assert.equal(keys(), "db");
  assert.equal(flows.size, 2);
});

Deno.test("FlowTable makes room by use, in its own flows first, then in all", async () => {
  const clock = new FakeClock();
  const limits = new FlowLimits({ perPort: 2, total: 3 });
  const one = table(limits, clock);
  const two = table(limits, clock);
  for (const [each, key] of [[one, "a"], [two, "x"], [one, "b"]] as const) {
    each.table.add(flow(key));
    await clock.advance(1);
  }
  use(one.table, "a");
  one.table.add(flow("c"));
  assert.deepEqual(one.ended.map(({ key, why }) => [key, why]), [
    ["b", "evicted"],
  ]);
  assert.deepEqual(two.ended, []);
  await clock.advance(1);
  // "x" is the oldest of all, and the only one of its table.
  two.table.add(flow("y"));
  assert.deepEqual(two.ended.map(({ key }) => key), ["x"]);
  await clock.advance(1);
  two.table.add(flow("z"));
  assert.deepEqual(one.ended.map(({ key }) => key), ["b", "a"]);
  await limits.evictOldest();
  assert.deepEqual(one.ended.map(({ key }) => key), ["b", "a", "c"]);
  await limits.evictOldest();
  await limits.evictOldest();
  assert.equal(limits.evictOldest(), undefined);
  await clock.advance(33_000);
});

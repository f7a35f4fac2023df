import assert from "node:assert/strict";
import type { LogProperties } from "@std/log";
import { RepeatedLog } from "../../proxy/repeated_log.ts";
import { FakeClock } from "../support/fake_clock.ts";

function setUp(): {
  clock: FakeClock;
  lines: [string, LogProperties][];
  log: RepeatedLog;
} {
  const clock = new FakeClock();
  const lines: [string, LogProperties][] = [];
  const log = new RepeatedLog({
    clock,
    intervalMs: 30_000,
    write: (message, properties) => lines.push([message, properties]),
  });
  return { clock, lines, log };
}

Deno.test("RepeatedLog writes the first at once and counts the rest", async () => {
  const { clock, lines, log } = setUp();
  log.report("a", "It failed", { number: 1 });
  assert.deepEqual(lines, [["It failed", { number: 1, count: 1 }]]);
  for (let number = 2; number <= 1_000; number++) {
    log.report("a", "It failed", { number });
  }
  assert.equal(lines.length, 1);
  await clock.advance(30_000);
  assert.deepEqual(lines[1], ["It failed", { number: 1_000, count: 999 }]);
  await clock.advance(300_000);
  assert.equal(lines.length, 2, "there is nothing more to tell");
});

Deno.test("RepeatedLog writes at most one line of a kind in an interval", async () => {
  const { clock, lines, log } = setUp();
  for (let second = 0; second < 300; second++) {
    log.report("a", "It failed");
    await clock.advance(1_000);
  }
  assert.equal(lines.length, 11);
  const told = lines.reduce((sum, [, { count }]) => sum + Number(count), 0);
  assert.equal(told, 300);
});

Deno.test("RepeatedLog shows another kind at once", async () => {
  const { clock, lines, log } = setUp();
  log.report("a", "It failed");
  await clock.advance(10_000);
  log.report("a", "It failed");
  log.report("b", "It failed otherwise");
  assert.deepEqual(lines.map(([message]) => message), [
    "It failed",
    "It failed otherwise",
  ]);
  log.report("b", "It failed otherwise");
  await clock.advance(20_000);
  assert.equal(lines.length, 3);
  await clock.advance(10_000);
  assert.equal(lines.length, 4);
});

Deno.test("RepeatedLog begins anew after a quiet interval", async () => {
  const { clock, lines, log } = setUp();
  log.report("a", "It failed");
  await clock.advance(30_000);
  log.report("a", "It failed");
  assert.deepEqual(lines.map(([, { count }]) => count), [1, 1]);
});

Deno.test("RepeatedLog waits only while there is something to tell", async () => {
  const { clock, log } = setUp();
  assert.equal(clock.sleeping, 0);
  log.report("a", "It failed");
  assert.equal(clock.sleeping, 0);
  log.report("a", "It failed");
  log.report("a", "It failed");
  assert.equal(clock.sleeping, 1);
  await clock.advance(30_000);
  assert.equal(clock.sleeping, 0);
});

Deno.test("RepeatedLog tells what is left when disposed, and loses nothing after", () => {
  const { clock, lines, log } = setUp();
  log.report("a", "It failed");
  log.report("a", "It failed");
  log.report("a", "It failed");
  log[Symbol.dispose]();
  assert.equal(clock.sleeping, 0);
  assert.deepEqual(lines.map(([, { count }]) => count), [1, 2]);
  log.report("a", "It failed");
  log[Symbol.dispose]();
  assert.deepEqual(lines.map(([, { count }]) => count), [1, 2, 1]);
});

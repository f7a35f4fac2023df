import assert from "node:assert/strict";
import fc from "fast-check";
import { Timer, Timers } from "../../../../proxy/engine/splice/timers.ts";

Deno.test("Timers calls each timer once, when it is due, in order", () => {
  const timers = new Timers();
  const called: string[] = [];
  const timer = (name: string) => new Timer(() => called.push(name));
  timers.set(timer("a"), { now: 0, delayMs: 10 });
  timers.set(timer("b"), { now: 5, delayMs: 10 });
  timers.set(timer("c"), { now: 5, delayMs: 3 });
  assert.equal(timers.untilNext(5), 3);
  timers.run(9);
  assert.deepEqual(called, ["c"]);
  assert.equal(timers.untilNext(9), 1);
  timers.run(100);
  assert.deepEqual(called, ["c", "a", "b"]);
  assert.equal(timers.untilNext(100), -1);
});

Deno.test("Timers moves a timer that is set again", () => {
  const timers = new Timers();
  let called = 0;
  const timer = new Timer(() => called++);
  timers.set(timer, { now: 0, delayMs: 10 });
  timers.set(timer, { now: 8, delayMs: 10 });
  timers.run(10);
  assert.equal(called, 0);
  timers.run(18);
  assert.equal(called, 1);
});

Deno.test("a timer may set itself again, and clear others, when it is due", () => {
  const timers = new Timers();
  const called: string[] = [];
  const other = new Timer(() => called.push("other"));
  const timer = new Timer(() => {
    called.push("self");
    timers.clear(other);
    timers.set(timer, { now: 10, delayMs: 10 });
  });
  timers.set(timer, { now: 0, delayMs: 10 });
  timers.set(other, { now: 0, delayMs: 10 });
  timers.run(10);
  assert.deepEqual(called, ["self"]);
  assert.equal(timers.untilNext(10), 10);
});

Deno.test("whatever is set and cleared, what is left is called, none twice", () => {
  const step = fc.record({
    timer: fc.nat(9),
    delayMs: fc.constantFrom(1, 5, 20),
    clear: fc.boolean(),
    passMs: fc.nat(4),
  });
  fc.assert(fc.property(fc.array(step), (steps) => {
    const timers = new Timers();
    const due = new Map<number, number>();
    let now = 0;
    const all = Array.from({ length: 10 }, (_, index) =>
      new Timer(() => {
        assert.ok(due.get(index)! <= now);
        due.delete(index);
      }));
    const run = (at: number) => {
      now = at;
      timers.run(now);
      for (const at of due.values()) assert.ok(at > now);
      const next = Math.min(...due.values());
      const want = next === Infinity ? -1 : next - now;
      assert.equal(timers.untilNext(now), want);
    };
    for (const { timer, delayMs, clear, passMs } of steps) {
      if (clear) {
        timers.clear(all[timer]!);
        due.delete(timer);
      } else {
        timers.set(all[timer]!, { now, delayMs });
        due.set(timer, now + delayMs);
      }
      run(now + passMs);
    }
    run(now + 100);
    assert.equal(due.size, 0);
  }));
});

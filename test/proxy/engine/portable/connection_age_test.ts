import assert from "node:assert/strict";
import {
  type Activity,
  AGED,
  AgeLimit,
} from "../../../../proxy/engine/portable/connection_age.ts";
import { FakeClock } from "../../../support/fake_clock.ts";

const MINUTE_MS = 60_000;

function ageing(limitMs: number, random = () => 0.5) {
  const clock = new FakeClock();
  const ages = new AgeLimit(limitMs, { clock, random });
  const open = () => {
    const connection = new AbortController();
    const activity: Activity = { bytes: 0, isAnswerDue: false, writes: 0 };
    const entry = ages.add(connection, activity);
    return {
      activity,
      isEnded: () => connection.signal.aborted,
      reason: () => connection.signal.reason,
      close: () => ages.delete(entry),
    };
  };
  return { clock, ages, open };
}

Deno.test("AgeLimit ends a connection at rest, a second after its age", async () => {
  const { clock, open } = ageing(10 * MINUTE_MS);
  const one = open();
  await clock.advance(10 * MINUTE_MS - 1);
  assert.equal(one.isEnded(), false);
  await clock.advance(2_000);
  assert.equal(one.reason(), AGED);
});

Deno.test("AgeLimit spreads ages by a tenth each way", async () => {
  let share = 0;
  const { clock, open } = ageing(10 * MINUTE_MS, () => share);
  const first = open();
  share = 0.999;
  const last = open();
  await clock.advance(9 * MINUTE_MS + 2_000);
  assert.deepEqual([first.isEnded(), last.isEnded()], [true, false]);
  first.close();
  await clock.advance(2 * MINUTE_MS - 4_000);
  assert.equal(last.isEnded(), false);
  await clock.advance(5_000);
  assert.equal(last.isEnded(), true);
});

Deno.test("AgeLimit waits for an answer, a write and silence, but not for ever", async () => {
  const busy: ((activity: Activity) => void)[] = [
    (activity) => activity.isAnswerDue = true,
    (activity) => activity.writes = 1,
    (activity) => activity.bytes++,
  ];
  for (const keepBusy of busy) {
    const { clock, open } = ageing(10 * MINUTE_MS);
    const one = open();
    for (let second = 0; second < 20 * 60 - 1; second++) {
      keepBusy(one.activity);
      await clock.advance(1_000);
    }
    assert.equal(one.isEnded(), false);
    await clock.advance(2_000);
    assert.equal(one.isEnded(), true);
  }
});

Deno.test("AgeLimit ends a connection when its answer has come", async () => {
  const { clock, open } = ageing(MINUTE_MS);
  const one = open();
  one.activity.isAnswerDue = true;
  await clock.advance(MINUTE_MS + 20_000);
  assert.equal(one.isEnded(), false);
  one.activity.isAnswerDue = false;
  await clock.advance(2_000);
  assert.equal(one.isEnded(), true);
});

Deno.test("AgeLimit follows a change, for connections that are open", async () => {
  const { clock, open, ages } = ageing(0);
  const one = open();
  await clock.advance(5 * MINUTE_MS);
  assert.equal(clock.sleeping, 0, "without a limit nothing waits");
  ages.change(30 * MINUTE_MS);
  await clock.advance(MINUTE_MS);
  assert.equal(one.isEnded(), false);
  ages.change(0);
  assert.equal(clock.sleeping, 0);
  ages.change(MINUTE_MS);
  await clock.advance(2_000);
  assert.equal(one.isEnded(), true);
});

Deno.test("AgeLimit waits for nothing when its connections have ended", async () => {
  const { clock, open } = ageing(MINUTE_MS);
  const [one, two] = [open(), open()];
  one.close();
  assert.equal(clock.sleeping, 1);
  two.close();
  await clock.advance(0);
  assert.equal(clock.sleeping, 0);
  assert.equal(one.isEnded(), false);
});

Deno.test("AgeLimit goes on with connections that come after all others were ended", async () => {
  const { clock, open } = ageing(MINUTE_MS);
  const one = open();
  one.activity.isAnswerDue = true;
  await clock.advance(2 * MINUTE_MS);
  assert.equal(one.isEnded(), true);
  const two = open();
  one.close();
  await clock.advance(MINUTE_MS - 1);
  assert.equal(two.isEnded(), false);
  await clock.advance(2_000);
  assert.equal(two.isEnded(), true);
});

Deno.test("AgeLimit takes a limit that no timer can wait for", async () => {
  const month = 31 * 24 * 60 * MINUTE_MS;
  const { clock, open } = ageing(month);
  const one = open();
  assert.equal(clock.nextInMs, 2 ** 31 - 1);
  await clock.advance(month + 2_000);
  assert.equal(one.isEnded(), true);
});

/** How many new connections a listener may have, beside those of others. */
import assert from "node:assert/strict";
import {
  OpenConnections,
  OTHERS_MS,
  type Young,
  YOUNG_MAX,
  YOUNG_MAX_ALONE,
  YOUNG_MS,
  YoungConnections,
} from "../../../../proxy/engine/portable/young_connections.ts";
import { within } from "../../../support/tcp.ts";

/** A listener's, and a clock that the test moves. */
class Fake {
  now = 0;
  readonly young = new YoungConnections(() => this.now);

  /** Adds as many as there is room for. */
  fill(hasOthers: boolean): Young[] {
    const added: Young[] = [];
    while (this.young.roomInMs(hasOthers) === 0) added.push(this.young.add());
    return added;
  }
}

Deno.test("YoungConnections: beside others, the next one waits until the last has grown up", async () => {
  const { young } = new Fake();
  assert.equal(young.untilRoom(true), undefined);
  const one = young.add();
  const room = young.untilRoom(true);
  assert.ok(room !== undefined);
  young.grown(one);
  await within(10_000, room);
  assert.ok(!young.has(one));
  assert.equal(young.untilRoom(true), undefined);
});

Deno.test("YoungConnections: there may be more where they grow old, and fewer again where they grow up", () => {
  const fake = new Fake();
  const most = [];
  for (const _ of Array(5)) {
    most.push(fake.fill(true).length);
    fake.now += YOUNG_MS * YOUNG_MAX;
  }
  assert.deepEqual(most, [1, 2, 4, YOUNG_MAX, YOUNG_MAX]);
  const grown = fake.fill(true);
  for (const one of [...grown, ...grown]) fake.young.grown(one);
  assert.equal(fake.fill(true).length, 1);
});

Deno.test("YoungConnections: who grows up late was old", () => {
  const fake = new Fake();
  const [one] = fake.fill(true);
  fake.now += YOUNG_MS;
  fake.young.grown(one!);
  assert.equal(fake.fill(true).length, 2);
});

Deno.test("YoungConnections: a listener that is alone has more, once others are gone for a second", () => {
  const fake = new Fake();
  assert.equal(fake.fill(false).length, YOUNG_MAX_ALONE);
  fake.now += YOUNG_MS * YOUNG_MAX_ALONE;
  fake.young.roomInMs(true);
  fake.now += OTHERS_MS - 1;
  assert.ok(fake.fill(false).length <= YOUNG_MAX);
  fake.now += 1;
  fake.young.roomInMs(false);
  assert.ok(fake.fill(false).length > YOUNG_MAX / 2);
});

/** Of a connection: accepted, dialled, passed on, answered, closed. */
const STEPS = 5;
const GROWN_AFTER = 3;
/** All that is under way has a step in a turn of the loop. */
const STEP_MS = 0.06;

/** How many are under way on average, where there are always more to accept. */
class Flooded extends Fake {
  #underWay: { young: Young; steps: number; answersAt: number }[] = [];

  run(
    ms: number,
    { hasOthers, dialMs = 0 }: { hasOthers: boolean; dialMs?: number },
  ): number {
    const endsAt = this.now + ms;
    let turns = 0;
    let sum = 0;
    let began = 0;
    for (; this.now < endsAt; turns++) {
      for (const young of this.fill(hasOthers)) {
        began++;
        this.#underWay.push({ young, steps: 1, answersAt: this.now + dialMs });
      }
      this.now += STEP_MS;
      for (const each of this.#underWay) {
        if (this.now < each.answersAt) continue;
        this.now += STEP_MS;
        sum++;
        if (++each.steps === GROWN_AFTER) this.young.grown(each.young);
      }
      this.#underWay = this.#underWay.filter(({ steps }) => steps < STEPS);
    }
    this.perSecond = began / ms * 1_000;
    return sum / turns;
  }

  perSecond = 0;
}

Deno.test("YoungConnections: a flood has one or two steps in each turn of the loop, however it began", () => {
  const flood = new Flooded();
  assert.ok(flood.run(1_000, { hasOthers: false }) > 5);
  flood.run(1_000, { hasOthers: true });
  assert.ok(flood.run(1_000, { hasOthers: true }) < 2.5);
  // Endpoints that stall, and answer again.
  flood.run(50, { hasOthers: true, dialMs: 10 });
  flood.run(200, { hasOthers: true });
  assert.ok(flood.run(1_000, { hasOthers: true }) < 2.5);
});

for (const dialMs of [0.2, 0.9, 1.5, 3.5, 7]) {
  Deno.test(`YoungConnections: with endpoints ${dialMs} ms away there are a thousand a second`, () => {
    const flood = new Flooded();
    flood.run(1_000, { hasOthers: true, dialMs });
    flood.run(1_000, { hasOthers: true, dialMs });
    assert.ok(flood.perSecond > 750, `${flood.perSecond}`);
  });
}

Deno.test("OpenConnections: others are there if more are open than one's own", () => {
  const open = new OpenConnections();
  open.opened();
  assert.ok(!open.isMoreThan(1));
  open.opened();
  assert.ok(open.isMoreThan(1));
  open.closed();
  assert.ok(!open.isMoreThan(1));
});

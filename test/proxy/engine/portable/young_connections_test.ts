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
  async fill(hasOthers: boolean): Promise<Young[]> {
    const added: Young[] = [];
    let room = this.young.untilRoom(hasOthers);
    for (; room === undefined; room = this.young.untilRoom(hasOthers)) {
      added.push(this.young.add());
    }
    // Its timer would outlive the test.
    await within(10_000, room);
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

Deno.test("YoungConnections: there may be more where they grow old, and fewer again where they grow up", async () => {
  const fake = new Fake();
  const most = [];
  for (const _ of Array(5)) {
    most.push((await fake.fill(true)).length);
    fake.now += YOUNG_MS;
  }
  assert.deepEqual(most, [1, 2, 4, YOUNG_MAX, YOUNG_MAX]);
  const grown = await fake.fill(true);
  for (const one of [...grown, ...grown]) fake.young.grown(one);
  assert.equal((await fake.fill(true)).length, 1);
});

Deno.test("YoungConnections: a listener that is alone has more, once others are gone for a second", async () => {
  const fake = new Fake();
  assert.equal((await fake.fill(false)).length, YOUNG_MAX_ALONE);
  fake.now += YOUNG_MS;
  fake.young.untilRoom(true);
  fake.now += OTHERS_MS;
  assert.equal((await fake.fill(false)).length, YOUNG_MAX_ALONE);
});

Deno.test("OpenConnections: others are there if more are open than one's own", () => {
  const open = new OpenConnections();
  open.opened();
  assert.ok(!open.isMoreThan(1));
  open.opened();
  assert.ok(open.isMoreThan(1));
  open.closed();
  assert.ok(!open.isMoreThan(1));
});

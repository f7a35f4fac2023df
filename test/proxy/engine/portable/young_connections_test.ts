/** How many new connections a listener may have, beside those of others. */
import assert from "node:assert/strict";
import {
  OpenConnections,
  YoungConnections,
} from "../../../../proxy/engine/portable/young_connections.ts";
import { within } from "../../../support/tcp.ts";

const NEVER = new Promise<void>(() => {});
const AN_HOUR_MS = 3_600_000;

/** Three, of which the second ends when it is told. */
function three(youngMs: number) {
  const young = new YoungConnections({ max: 3, youngMs });
  const { promise, resolve } = Promise.withResolvers<void>();
  for (const ended of [NEVER, promise, NEVER]) young.add(ended);
  return { young, endOne: resolve };
}

Deno.test("YoungConnections: there is room when one has ended", async () => {
  const { young, endOne } = three(AN_HOUR_MS);
  const room = young.untilRoom(true);
  assert.ok(room !== undefined);
  endOne();
  await within(10_000, room);
  assert.equal(young.untilRoom(true), undefined);
  young.add(NEVER);
  const last = young.untilRoom(true);
  assert.ok(last !== undefined);
  // Its timer would outlive the test.
  young.add(Promise.resolve());
  await within(10_000, last);
});

Deno.test("YoungConnections: there is room when one is young no more", async () => {
  const { young } = three(20);
  const room = young.untilRoom(true);
  assert.ok(room !== undefined);
  await within(10_000, room);
  await within(10_000, Promise.resolve(young.untilRoom(true)));
});

Deno.test("YoungConnections: a listener that is alone takes what comes", () => {
  const { young } = three(AN_HOUR_MS);
  assert.equal(young.untilRoom(false), undefined);
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

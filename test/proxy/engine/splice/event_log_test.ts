import assert from "node:assert/strict";
import { EventLog } from "../../../../proxy/engine/splice/event_log.ts";
import type { CountedEvent } from "../../../../proxy/engine/splice/messages.ts";
import { Timers } from "../../../../proxy/engine/splice/timers.ts";

const EVENT = { port: 1, kind: "dial", message: "Cannot dial", properties: {} };

Deno.test("the first event is told at once, and those that follow as a count", () => {
  const timers = new Timers();
  const posts: (readonly CountedEvent[])[] = [];
  const log = new EventLog(timers, (events) => posts.push(events));
  for (let n = 0; n < 1_000; n++) log.add(EVENT, 5);
  log.add({ ...EVENT, port: 2 }, 6);
  assert.deepEqual(posts, [[{ ...EVENT, count: 1 }]]);
  timers.run(200);
  assert.deepEqual(posts[1], [
    { ...EVENT, count: 999 },
    { ...EVENT, port: 2, count: 1 },
  ]);
  assert.equal(timers.untilNext(200), -1);
  log.add(EVENT, 1_000);
  assert.deepEqual(posts[2], [{ ...EVENT, count: 1 }]);
});

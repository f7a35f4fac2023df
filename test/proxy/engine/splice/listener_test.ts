/** What a listener does about each answer of accept, on a libc that gives it. */
import assert from "node:assert/strict";
import {
  EAGAIN,
  ECONNABORTED,
} from "../../../../proxy/engine/splice/errors.ts";
import { EPOLLIN, type Libc } from "../../../../proxy/engine/splice/libc.ts";
import {
  AcceptingListener,
  type ListenerHost,
} from "../../../../proxy/engine/splice/listener.ts";
import { Timers } from "../../../../proxy/engine/splice/timers.ts";

const LISTENER = 5;
const EMFILE = 24;
const ENFILE = 23;
const ENOMEM = 12;
const ENOBUFS = 105;

/** `accept` answers one errno after another; 0 is a connection. */
function listener(errnos: readonly number[], waiting = 0) {
  const answers = [...errnos];
  const accepted: number[] = [];
  const watched: number[] = [];
  const logged: unknown[] = [];
  const timers = new Timers();
  let errno = 0;
  const call = {
    accept4() {
      errno = answers.shift() ?? EAGAIN;
      return errno === 0 ? 100 + accepted.length : -1;
    },
    // TCP_INFO, of which the last number counts who waits.
    getsockopt(_fd: number, _level: number, _name: number, value: Uint32Array) {
      value[value.length - 1] = waiting;
      return 0;
    },
    fcntl: () => 6,
    close: () => 0,
  };
  const host = {
    libc: { call, errno: () => errno } as unknown as Libc,
    poller: {
      add: () => true,
      change: (_fd: number, events: number) => watched.push(events),
    },
    timers,
    now: 0,
    reservedFrom: 1_000,
    servicePort: () => ({
      accept: ({ fd }: { fd: number }) => accepted.push(fd),
    }),
    logListener: (event: { properties: { cause?: unknown } }) =>
      logged.push(event.properties.cause),
  };
  const one = new AcceptingListener(LISTENER, {
    host: host as unknown as ListenerHost,
    address: { ip: "10.96.0.1", port: 80 },
    route: { port: 1, options: { scope: "internal", sourceRanges: [] } },
  });
  return { listener: one, accepted, watched, logged, timers, answers };
}

Deno.test("a listener accepts as many as wait, and asks for no more", () => {
  const { listener: one, accepted, answers } = listener([0, 0, 0, 0], 2);
  one.onEvents();
  assert.equal(accepted.length, 3);
  assert.equal(answers.length, 1);
});

Deno.test("a client that is gone before it is accepted keeps no other out", () => {
  const { listener: one, accepted, logged } = listener([
    0,
    ECONNABORTED,
    0,
  ], 2);
  one.onEvents();
  assert.equal(accepted.length, 2);
  assert.deepEqual(logged, []);
});

for (const errno of [EMFILE, ENFILE, ENOMEM, ENOBUFS]) {
  Deno.test(`a listener that accept fails with ${errno} waits, longer each time`, () => {
    const { listener: one, watched, logged, timers, accepted, answers } =
      listener([errno, errno, 0]);
    one.onEvents();
    assert.deepEqual(watched, [0]);
    assert.equal(timers.untilNext(0), 10);
    timers.run(10);
    assert.deepEqual(watched, [0, EPOLLIN]);
    one.onEvents();
    assert.equal(timers.untilNext(0), 20);
    assert.equal(logged.length, 2);
    timers.run(20);
    one.onEvents();
    assert.equal(accepted.length, 1);
    assert.equal(answers.length, 0);
  });
}

Deno.test("an event without a client is no failure", () => {
  const { listener: one, watched, logged } = listener([EAGAIN]);
  one.onEvents();
  assert.deepEqual([watched, logged], [[], []]);
});

/** One direction of a connection, on a libc that answers what the test says. */
import assert from "node:assert/strict";
import { EAGAIN } from "../../../../proxy/engine/splice/errors.ts";
import {
  COPY_BYTES,
  Half,
  HALF_EVENTS,
  type HalfTools,
} from "../../../../proxy/engine/splice/half.ts";
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLRDHUP,
  type Libc,
  MSG_MORE,
  SHUT_WR,
} from "../../../../proxy/engine/splice/libc.ts";
import type { PipePool } from "../../../../proxy/engine/splice/pipes.ts";

const CLIENT = 10;
const ENDPOINT = 11;

/** Both halves of a connection whose client answers reads as `read` says. */
function pair(read: () => number, errno = EAGAIN) {
  const told: string[] = [];
  const queued: Half[] = [];
  const calls: Record<string, unknown>[] = [];
  let reads = 0;
  const libc = {
    call: {
      read: () => {
        reads++;
        return read();
      },
      send: (fd: number, _bytes: unknown, count: number, flags: number) => {
        calls.push({ fd, count, more: (flags & MSG_MORE) !== 0 });
        return count;
      },
      shutdown: (fd: number, how: number) => calls.push({ fd, how }),
    },
    errno: () => errno,
  } as unknown as Libc;
  const tools: HalfTools = {
    libc,
    poller: {
      change: (fd, events) => calls.push({ fd, watched: events }),
    },
    // No pipe is to be had: everything goes through the buffer.
    pipes: { take: () => undefined } as unknown as PipePool,
    buffer: new Uint8Array(COPY_BYTES),
    again: (half) => queued.push(half),
  };
  const owner = {
    moved: () => {},
    directionEnded: () => told.push("ended"),
    broken: () => {
      told.push("broken");
      client.release();
      endpoint.release();
    },
  };
  const common = { events: 0, isWriteWatched: false };
  const options = { tools, owner, first: undefined };
  const client = new Half({ fd: CLIENT, ...common }, options);
  const endpoint = new Half({ fd: ENDPOINT, ...common }, options);
  client.peer = endpoint;
  endpoint.peer = client;
  return { client, told, queued, calls, reads: () => reads };
}

Deno.test("Half is watched edge-triggered, so that an end is told only once", () => {
  assert.equal(HALF_EVENTS >>> 31, 1);
});

Deno.test("Half waits where a read finds nothing yet", () => {
  const { client, told, reads } = pair(() => -1);
  client.onEvents(EPOLLIN);
  assert.deepEqual(told, []);
  assert.equal(reads(), 1);
});

Deno.test("Half believes epoll when a reset's errno was lost on the way", () => {
  const { client, told } = pair(() => -1);
  client.onEvents(EPOLLIN | EPOLLERR | EPOLLHUP);
  assert.deepEqual(told, ["broken"]);
});

Deno.test("Half lets others have their turn, whatever a sender has to say", () => {
  const { client, queued, reads } = pair(() => COPY_BYTES);
  client.onEvents(EPOLLIN);
  assert.deepEqual(queued, [client]);
  const bytes = reads() * COPY_BYTES;
  assert.ok(bytes >= 128 * 1024 && bytes <= 1024 * 1024, `${bytes} bytes`);
});

Deno.test("Half sends the last bytes in one packet with the end that was told", () => {
  const { client, told, calls, reads } = pair(() => 100);
  client.onEvents(EPOLLIN | EPOLLRDHUP);
  assert.deepEqual(calls, [
    { fd: ENDPOINT, count: 100, more: true },
    { fd: ENDPOINT, how: SHUT_WR },
  ]);
  assert.deepEqual(told, ["ended"]);
  assert.equal(reads(), 1);
});

Deno.test("Half sends at once what may not be the last", () => {
  const answers = [100, -1];
  const { client, calls } = pair(() => answers.shift()!);
  client.onEvents(EPOLLIN);
  assert.deepEqual(calls, [{ fd: ENDPOINT, count: 100, more: false }]);
});

Deno.test("Half does not take a reset behind bytes for an end", () => {
  const answers = [100, -1];
  const { client, told } = pair(() => answers.shift()!, 104);
  client.onEvents(EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP);
  assert.deepEqual(told, ["broken"]);
});

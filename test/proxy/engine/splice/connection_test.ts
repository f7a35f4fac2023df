/** A connection's own time limits, on a libc that notes what it is asked. */
import assert from "node:assert/strict";
import {
  Connection,
  type ConnectionTools,
} from "../../../../proxy/engine/splice/connection.ts";
import {
  type Libc,
  SO_KEEPALIVE,
  SO_LINGER,
} from "../../../../proxy/engine/splice/libc.ts";
import type { PipePool } from "../../../../proxy/engine/splice/pipes.ts";
import type { Poller } from "../../../../proxy/engine/splice/poller.ts";
import { Timers } from "../../../../proxy/engine/splice/timers.ts";

const CLIENT = 10;
const ENDPOINT = 11;

Deno.test("Connection asks old peers whether they live, and not new ones", () => {
  const kept: number[] = [];
  const closed: number[] = [];
  const call = {
    setsockopt(fd: number, _level: number, name: number) {
      if (name === SO_KEEPALIVE) kept.push(fd);
      else assert.equal(name, SO_LINGER);
      return 0;
    },
  };
  const timers = new Timers();
  const tools: ConnectionTools = {
    libc: { call, errno: () => 0 } as unknown as Libc,
    poller: {
      handOver: () => {},
      close: (fd: number) => closed.push(fd),
    } as unknown as Poller,
    pipes: {} as PipePool,
    timers,
    buffer: new Uint8Array(1),
    again: () => {},
    lingerMs: 60_000,
    now: 0,
    openConnections: 1,
  };
  const socket = { events: 0, isWriteWatched: false };
  const connection = new Connection(
    {
      client: { fd: CLIENT, ...socket },
      endpoint: { fd: ENDPOINT, ...socket },
      first: undefined,
      sentBytes: 0,
    },
    {
      tools,
      owner: {
        traffic: { bytesToClients: 0, bytesToEndpoints: 0 },
        ended: () => {},
      },
      whenEnded: () => {},
    },
  );
  timers.run(9_999);
  assert.deepEqual(kept, []);
  timers.run(10_000);
  assert.deepEqual(kept, [CLIENT, ENDPOINT]);
  assert.deepEqual(closed, []);
  assert.ok(timers.isEmpty);
  connection.cut();
  assert.deepEqual(closed, [CLIENT, ENDPOINT]);
});

/** What a search asks of the kernel, on a libc that answers what a test says. */
import assert from "node:assert/strict";
import { OwnAddresses } from "../../../../proxy/engine/own_addresses.ts";
import { Endpoint } from "../../../../proxy/engine/splice/endpoint.ts";
import {
  EAGAIN,
  EALREADY,
  ECONNREFUSED,
  EINPROGRESS,
} from "../../../../proxy/engine/splice/errors.ts";
import {
  EPOLLOUT,
  type Libc,
  TCP_QUICKACK,
} from "../../../../proxy/engine/splice/libc.ts";
import type { Poller } from "../../../../proxy/engine/splice/poller.ts";
import {
  type Pair,
  Search,
  type SearchFailure,
} from "../../../../proxy/engine/splice/search.ts";
import {
  LINE_CELLS,
  SharedCounters,
} from "../../../../proxy/engine/splice/shared_counters.ts";
import { Timers } from "../../../../proxy/engine/splice/timers.ts";

const CLIENT = 10;
const ECONNRESET = 104;
const IPS = ["10.0.0.1", "10.0.0.2"];

/** What the client has sent before it was accepted: an errno if nothing. */
type Said = string | number;

/**
 * A search whose calls of `connect` answer one `errno` after another, 0 for
 * success. `calls` has those of which a test may care for the order.
 */
function search(said: Said, errnos: readonly number[]) {
  const counters = new SharedCounters();
  counters.addTable(new SharedArrayBuffer(LINE_CELLS * 8));
  const endpoints = IPS.map((ip) =>
    new Endpoint({ ip, port: 80 }, { key: `${ip}:80`, line: counters.line(0) })
  );
  const calls: string[] = [];
  const answers = [...errnos];
  let errno = 0;
  let lastFd = CLIENT;
  const fail = (number: number) => {
    errno = number;
    return number === 0 ? 0 : -1;
  };
  const call = {
    read(_fd: number, buffer: Uint8Array) {
      if (typeof said === "number") return fail(said);
      return new TextEncoder().encodeInto(said, buffer).written;
    },
    socket: () => ++lastFd,
    setsockopt(fd: number, _level: number, name: number) {
      if (fd !== CLIENT && name === TCP_QUICKACK) calls.push("ack later");
      return 0;
    },
    connect(fd: number) {
      calls.push(`connect ${fd}`);
      return fail(answers.shift()!);
    },
    getsockname: () => 0,
  };
  const poller = {
    add(fd: number, events: number) {
      const forWrites = (events & EPOLLOUT) !== 0;
      calls.push(`watch ${fd}${forWrites ? " for writes" : ""}`);
      return true;
    },
    close: (fd: number) => calls.push(`close ${fd}`),
  };
  const buffer = new Uint8Array(64 * 1024);
  const found: { pair: Pair; to: Endpoint }[] = [];
  const ends: (SearchFailure | undefined)[] = [];
  const one = new Search(CLIENT, {
    tools: {
      libc: { call, errno: () => errno } as unknown as Libc,
      poller: poller as unknown as Poller,
      timers: new Timers(),
      buffer,
      dialTimeoutsMs: [250],
      ownAddresses: new OwnAddresses(),
      now: 0,
    },
    owner: {
      pick: (_client, _list, tried) =>
        endpoints.find(({ key }) => !tried.has(key)),
      dialled: () => {},
      dialFailed: () => {},
      connected: (_search, pair, to) => found.push({ pair, to }),
      ended: (_search, reason) => ends.push(reason),
    },
    arrival: {
      client: { ip: "10.9.9.9", port: 1 },
      list: "internal",
      destination: undefined,
    },
  });
  const first = () => {
    const { bytes, count } = found[0]!.pair.first!;
    return new TextDecoder().decode(bytes.subarray(0, count));
  };
  return { search: one, calls, buffer, found, ends, first };
}

Deno.test("Search sends a client's first words with the end of the handshake", () => {
  const { search: one, calls, found, first } = search("GET /", [
    EINPROGRESS,
    0,
  ]);
  one.start();
  assert.deepEqual(calls, [
    "watch 10",
    "ack later",
    "connect 11",
    "connect 11",
    "watch 11",
  ]);
  assert.equal(found[0]!.to.ip, IPS[0]);
  assert.equal(first(), "GET /");
});

Deno.test("Search does not delay the handshake for a client that listens first", () => {
  const { search: one, calls, found } = search(EAGAIN, [EINPROGRESS]);
  one.start();
  assert.deepEqual(calls, ["watch 10", "connect 11", "watch 11 for writes"]);
  one.onEvents(EPOLLOUT, 11);
  assert.equal(found[0]!.pair.first, undefined);
});

Deno.test("Search keeps what a client has said while an endpoint is dialled", () => {
  const { search: one, buffer, found, first } = search("GET /", [
    EINPROGRESS,
    EALREADY,
  ]);
  one.start();
  assert.equal(found.length, 0);
  buffer.fill(0); // another connection's
  one.onEvents(EPOLLOUT, 11);
  assert.equal(first(), "GET /");
});

Deno.test("Search tells the next endpoint what it has told nobody", () => {
  const { search: one, found, first } = search("GET /", [
    EINPROGRESS,
    ECONNREFUSED,
    EINPROGRESS,
    0,
  ]);
  one.start();
  assert.equal(found[0]!.to.ip, IPS[1]);
  assert.equal(first(), "GET /");
});

Deno.test("Search dials nobody for a client that was reset before", () => {
  const { search: one, calls, ends } = search(ECONNRESET, []);
  one.start();
  assert.deepEqual(calls, ["close 10"]);
  assert.deepEqual(ends, [undefined]);
});

import assert from "node:assert/strict";
import { DataThreads } from "../../../../proxy/engine/splice/data_threads.ts";
import { createSpliceEngine } from "../../../../proxy/engine/splice/engine.ts";
import { systemClock } from "../../../../watch/mod.ts";
import { INTERNAL, policy } from "../../../conformance/engine.ts";
import { ffi, testLibc } from "../../../support/ffi.ts";
import { testWith } from "../../../support/needs.ts";
import {
  askName,
  closeQuietly,
  descriptors,
  dialServer,
  echoServer,
  ending,
  namedServer,
  noise,
  readExactly,
  tcpServer,
  text,
  until,
  within,
  writeAll,
} from "../../../support/tcp.ts";

const LIMIT_MS = 60_000;
const FREE_PORT = { ip: "127.0.0.1", port: 0 };

function engineOf(workers: number) {
  return createSpliceEngine({ clock: systemClock, workers });
}

/** A server that sends for ever. */
function source() {
  const chunk = noise(1 << 20);
  return tcpServer(async (connection) => {
    while (true) await writeAll(connection, chunk);
  });
}

for (const workers of [1, 2, 3]) {
  testWith(
    [ffi],
    `disposing an engine ends its connections, threads and descriptors (${workers})`,
    () => within(LIMIT_MS, disposeInUse(workers)),
  );
}

testWith(
  [ffi],
  "threads that cannot all be started leave neither threads nor descriptors",
  () => {
    using libc = testLibc();
    const before = descriptors();
    let left = 1;
    const { eventfd } = libc.call;
    const failing = {
      ...libc.call,
      eventfd: (value: number, flags: number) =>
        left-- > 0 ? eventfd(value, flags) : -1,
    };
    assert.throws(
      () =>
        new DataThreads({
          count: 2,
          libc: { ...libc, call: failing },
          dialTimeoutsMs: [],
          lingerMs: 0,
          udp: { timeoutMs: 1, limits: { perPort: 1, total: 1 } },
          receive: () => {},
        }),
      /Cannot start data threads/,
    );
    assert.deepEqual(descriptors(), before);
  },
);

testWith(
  [ffi],
  "splice tells a thread of many new ServicePorts at once, and of a change at once",
  () => within(LIMIT_MS, tellMany()),
);

async function tellMany(): Promise<void> {
  await using first = namedServer("first");
  await using second = namedServer("second");
  await using engine = engineOf(1);
  await engine.ready;
  const post = Worker.prototype.postMessage;
  let messages = 0;
  Worker.prototype.postMessage = function (...message) {
    messages++;
    return Reflect.apply(post, this, message);
  };
  try {
    const forwarders = Array.from(
      { length: 500 },
      () => engine.forwarder(policy([first.address])),
    );
    const [one] = forwarders;
    const { address } = await one!.listen(FREE_PORT, INTERNAL);
    assert.equal(await askName(address), "first");
    assert.ok(messages < 10, `${messages} messages`);
    // No turn of the event loop lies between the update and the connection.
    one!.update(policy([second.address]));
    assert.equal(await askName(address), "second");
  } finally {
    Worker.prototype.postMessage = post;
  }
}

async function disposeInUse(workers: number): Promise<void> {
  await using echo = echoServer();
  await using bulk = source();
  // What the runtime makes once for workers is made now.
  const first = engineOf(workers);
  await first.ready;
  await first[Symbol.asyncDispose]();
  const before = descriptors();

  const engine = engineOf(workers);
  const connections: Deno.Conn[] = [];
  for (const { address: to } of [echo, bulk]) {
    const forwarder = engine.forwarder(policy([to]));
    const { address } = await forwarder.listen(FREE_PORT, INTERNAL);
    for (let n = 0; n < 6; n++) {
      const connection = await dialServer(address);
      connections.push(connection);
      // Now it is open at both ends, and pipes are full of what nobody reads.
      if (to === echo.address) await writeAll(connection, text("ping"));
      await readExactly(connection, 4);
    }
    await until("open", () => forwarder.stats().connectionsOpen === 6);
  }
  await engine[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
  for (const connection of connections) {
    await ending(connection).catch(() => {});
    connection.close();
  }
  await until("closed", () => descriptors() <= before);
}

testWith(
  [ffi],
  "with several threads there is one rotation, and one memory of clients",
  () => within(LIMIT_MS, oneRotation()),
);

async function oneRotation(): Promise<void> {
  await using engine = engineOf(3);
  await using a = namedServer("a");
  await using b = namedServer("b");
  const endpoints = [a.address, b.address];
  const turns = engine.forwarder(policy(endpoints));
  const inTurn = await turns.listen(FREE_PORT, INTERNAL);
  await Promise.all(
    Array.from({ length: 100 }, () => askName(inTurn.address)),
  );
  assert.deepEqual([a.accepted, b.accepted], [50, 50]);
  const sticky = engine.forwarder(policy(endpoints, { affinityMs: 60_000 }));
  const same = await sticky.listen(FREE_PORT, INTERNAL);
  await Promise.all(Array.from({ length: 30 }, () => askName(same.address)));
  assert.deepEqual([a.accepted, b.accepted], [80, 50]);
}

testWith(
  [ffi],
  "connections that another thread has are cut, drained and counted",
  () => within(LIMIT_MS, elsewhere()),
);

async function elsewhere(): Promise<void> {
  await using engine = engineOf(2);
  await using server = echoServer();
  const forwarder = engine.forwarder(policy([server.address]));
  const { address } = await forwarder.listen(FREE_PORT, INTERNAL);
  const connections: Deno.TcpConn[] = [];
  const word = text("12345");
  for (let n = 0; n < 8; n++) {
    const connection = await dialServer(address);
    connections.push(connection);
    await writeAll(connection, word);
    assert.deepEqual(await readExactly(connection, word.length), word);
  }
  const stats = forwarder.stats();
  assert.equal(stats.connectionsOpen, 8);
  assert.equal(stats.bytesToClients, 8 * word.length);
  for (const connection of connections.splice(0, 4)) connection.close();
  await until("four left", () => forwarder.stats().connectionsOpen === 4);
  await forwarder.close(AbortSignal.abort());
  for (const connection of connections) {
    await ending(connection).catch(() => {});
    closeQuietly(connection);
  }
  assert.equal(forwarder.stats().connectionsOpen, 0);
  assert.equal(forwarder.stats().connectionsTotal, 8);
  assert.equal(forwarder.stats().bytesToEndpoints, 8 * word.length);
}

testWith(
  [ffi],
  "thousands of ServicePorts come and go",
  () => within(LIMIT_MS, manyPorts()),
);

async function manyPorts(): Promise<void> {
  await using engine = engineOf(1);
  await using server = namedServer("a");
  for (let round = 0; round < 2; round++) {
    const forwarders = Array.from(
      { length: 3_000 },
      () => engine.forwarder(policy([server.address])),
    );
    // The last one's counters are in memory that was added meanwhile.
    const last = forwarders.at(-1)!;
    const { address } = await last.listen(FREE_PORT, INTERNAL);
    assert.equal(await askName(address), "a");
    assert.equal(last.stats().connectionsTotal, 1);
    const { signal } = new AbortController();
    await Promise.all(forwarders.map((forwarder) => forwarder.close(signal)));
  }
}

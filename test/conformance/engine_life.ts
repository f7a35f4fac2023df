/**
 * Conformance of engines, third part: listeners and forwarders as they open
 * and close, and what is left behind when many connections come and go.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { EndpointAddress } from "../../proxy/engine/engine.ts";
import {
  askName,
  closeQuietly,
  descriptors,
  dialServer,
  echoServer,
  ending,
  namedServer,
  nodeClient,
  readAll,
  readExactly,
  refusing,
  reset,
  tcpServer,
  text,
  until,
  writeAll,
} from "../support/tcp.ts";
import { type EngineTest, INTERNAL, policy } from "./engine.ts";

async function roundTrip(connection: Deno.Conn): Promise<void> {
  await writeAll(connection, text("ping"));
  assert.deepEqual(await readExactly(connection, 4), text("ping"));
}

/**
 * A closed listener may take, and then reset, connections that come in the same
 * turn of the event loop; after that it refuses.
 */
async function untilRefused(address: EndpointAddress): Promise<void> {
  for (let attempt = 0; attempt < 10; attempt++) {
    try {
      (await dialServer(address)).close();
    } catch (error) {
      if (error instanceof Deno.errors.ConnectionRefused) return;
      assert.ok(error instanceof Deno.errors.ConnectionReset, String(error));
    }
  }
  assert.fail("a closed listener still accepts");
}

/** The ways in which a client can drop a connection. */
const DROPS: readonly ((address: EndpointAddress) => Promise<void>)[] = [
  async (address) => (await dialServer(address)).close(),
  async (address) => {
    using connection = await dialServer(address);
    await roundTrip(connection);
  },
  async (address) => {
    using connection = await dialServer(address);
    await writeAll(connection, text("nobody reads the answer"));
  },
  async (address) => {
    using connection = await dialServer(address);
    await connection.closeWrite();
    await readAll(connection);
  },
  async (address) => await reset(await nodeClient(address)),
  async (address) => {
    const client = await nodeClient(address);
    await new Promise((resolve) => client.write(text("half"), resolve));
    await reset(client);
  },
];

async function inParallel(
  width: number,
  count: number,
  run: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await run(next++);
  };
  await Promise.all(Array.from({ length: width }, worker));
}

const noProcFs = Deno.build.os === "linux"
  ? undefined
  : "descriptors are counted in /proc";

export const lifeTests: readonly EngineTest[] = [
  {
    name: "port 0 becomes a free port, and listeners have their own",
    async run(engine) {
      await using server = echoServer();
      const forwarder = engine.forwarder([server.address]);
      const listeners = await Promise.all(
        [1, 2].map(() =>
          forwarder.listen({ ip: "127.0.0.1", port: 0 }, INTERNAL)
        ),
      );
      const ports = listeners.map(({ address }) => address.port);
      assert.equal(new Set(ports).size, 2);
      assert.ok(ports.every((port) => port > 0));
      for (const { address } of listeners) {
        using connection = await dialServer(address);
        await roundTrip(connection);
      }
    },
  },
  {
    name: "an address in use throws AddrInUse, and the first goes on",
    async run(engine) {
      await using server = echoServer();
      const { forwarder, address } = await engine.listen([server.address]);
      await assert.rejects(
        () => forwarder.listen(address, INTERNAL),
        Deno.errors.AddrInUse,
      );
      using connection = await dialServer(address);
      await roundTrip(connection);
    },
  },
  {
    name: "an address can change hands at once",
    async run(engine) {
      await using a = namedServer("a");
      await using b = namedServer("b");
      const [first, second] = engine.forwarders(
        [a, b].map((server) => policy([server.address])),
      );
      const { address } = await first!.listen(
        { ip: "127.0.0.1", port: 0 },
        INTERNAL,
      );
      const closed = first!.close(AbortSignal.abort());
      await second!.listen(address, INTERNAL);
      using connection = await dialServer(address);
      assert.deepEqual(await readAll(connection), text("b"));
      await closed;
    },
  },
  {
    name: "an address of another machine throws AddrNotAvailable",
    async run(engine) {
      const forwarder = engine.forwarder([refusing()]);
      await assert.rejects(
        () => forwarder.listen({ ip: "192.0.2.1", port: 0 }, INTERNAL),
        Deno.errors.AddrNotAvailable,
      );
    },
  },
  {
    name:
      "[3.44] listener.close() refuses new connections and keeps established ones",
    async run(engine) {
      await using server = echoServer();
      const forwarder = engine.forwarder([server.address]);
      const listener = await forwarder.listen(
        { ip: "127.0.0.1", port: 0 },
        INTERNAL,
      );
      using connection = await dialServer(listener.address);
      await roundTrip(connection);
      listener.close();
      listener.close();
      await untilRefused(listener.address);
      await roundTrip(connection);
      await forwarder.listen(listener.address, INTERNAL);
      using second = await dialServer(listener.address);
      await roundTrip(second);
    },
  },
  {
    name:
      "[3.45] clients that come while a listener closes are served or turned away, and none is left waiting",
    async run(engine) {
      await using server = namedServer("a");
      const forwarder = engine.forwarder([server.address]);
      for (let round = 0; round < 10; round++) {
        const listener = await forwarder.listen(
          { ip: "127.0.0.1", port: 0 },
          INTERNAL,
        );
        const clients = Array.from(
          { length: 20 },
          () => askName(listener.address).catch(() => "refused or reset"),
        );
        if (round % 2 === 1) await clients[0];
        listener.close();
        for (const answer of await Promise.all(clients)) {
          assert.ok(["a", "", "refused or reset"].includes(answer), answer);
        }
      }
    },
  },
  {
    name: "close() waits for connections to end",
    async run(engine) {
      await using server = echoServer();
      const { forwarder, address } = await engine.listen([server.address]);
      const connection = await dialServer(address);
      await roundTrip(connection);
      let isClosed = false;
      const closed = forwarder.close(new AbortController().signal)
        .then(() => isClosed = true);
      await untilRefused(address);
      await roundTrip(connection);
      assert.equal(isClosed, false);
      connection.close();
      await closed;
      assert.equal(forwarder.stats().connectionsOpen, 0);
    },
  },
  {
    name: "close() cuts what is left when its signal is aborted",
    async run(engine) {
      await using server = echoServer();
      const { forwarder, address } = await engine.listen([server.address]);
      using connection = await dialServer(address);
      await roundTrip(connection);
      const patience = new AbortController();
      const closed = forwarder.close(patience.signal);
      await roundTrip(connection);
      patience.abort();
      await closed;
      await ending(connection);
      assert.equal(forwarder.stats().connectionsOpen, 0);
    },
  },
  {
    name: "close() of a forwarder without listeners resolves",
    async run(engine) {
      const forwarder = engine.forwarder([]);
      await forwarder.close(new AbortController().signal);
      await forwarder.close(new AbortController().signal);
      await assert.rejects(
        () => forwarder.listen({ ip: "127.0.0.1", port: 0 }, INTERNAL),
        /Cannot listen/,
      );
    },
  },
  {
    name: "stats() is a copy, and knows every endpoint from the start",
    async run(engine) {
      await using server = echoServer();
      const { forwarder, address } = await engine.listen([
        server.address,
        refusing(),
      ]);
      const before = forwarder.stats();
      assert.equal(before.endpoints.size, 2);
      using connection = await dialServer(address);
      await roundTrip(connection);
      assert.equal(before.connectionsTotal, 0);
      const after = forwarder.stats();
      assert.equal(after.connectionsOpen, 1);
      assert.equal(after.bytesToEndpoints, 4);
      assert.equal(after.bytesToClients, 4);
      forwarder.update(policy([refusing()]));
      assert.equal(forwarder.stats().endpoints.size, 2);
      forwarder.update(policy([]));
      assert.equal(forwarder.stats().endpoints.size, 1);
    },
  },
  {
    name: "3,000 connections dropped in every way leave no descriptor",
    missing: noProcFs,
    limitMs: 120_000,
    async run(engine) {
      const servers = [
        echoServer(),
        // Dies first, in three ways.
        tcpServer(() => Promise.resolve()),
        tcpServer((connection) => writeAll(connection, text("bye"))),
        tcpServer(async (connection) => {
          await connection.read(new Uint8Array(1));
        }),
      ];
      try {
        const { forwarder, address } = await engine.listen([
          ...servers.map((server) => server.address),
          refusing(),
        ], { lingerMs: 200 });
        const drop = (index: number) =>
          DROPS[index % DROPS.length]!(address).catch(() => {});
        await inParallel(50, 300, drop); // whatever is made once is made now
        const quiet = () => forwarder.stats().connectionsOpen === 0;
        await until("ended", quiet);
        const before = descriptors();
        await inParallel(50, 3_000, drop);
        await until("ended", quiet);
        // The servers' own ends may be a moment later than ours.
        await until("closed", () => descriptors() <= before + 4);
        assert.equal(forwarder.stats().connectionsFailed, 0);
        for (const entry of forwarder.stats().endpoints.values()) {
          assert.equal(entry.connectionsOpen, 0);
        }
      } finally {
        for (const server of servers) await server[Symbol.asyncDispose]();
      }
    },
  },
  {
    name: "2,000 connections are open at once, and each gets its own bytes",
    limitMs: 120_000,
    async run(engine) {
      await using server = echoServer();
      const { forwarder, address } = await engine.listen([server.address]);
      const connections: Deno.Conn[] = [];
      try {
        await inParallel(100, 2_000, async () => {
          connections.push(await dialServer(address));
        });
        await until(
          "all open",
          () => forwarder.stats().connectionsOpen === 2_000,
        );
        await inParallel(100, 2_000, async (index) => {
          const connection = connections[index]!;
          const word = text(`connection ${index}`);
          await writeAll(connection, word);
          assert.deepEqual(await readExactly(connection, word.length), word);
        });
      } finally {
        for (const connection of connections) closeQuietly(connection);
      }
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
    },
  },
];

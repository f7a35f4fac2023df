/**
 * Conformance of engines, first part: what happens to the bytes of one
 * connection, and how it ends.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  dialServer,
  echoServer,
  ending,
  nodeClient,
  nodeServer,
  noIpv6,
  noise,
  readAll,
  readExactly,
  reset,
  sha256,
  sleep,
  tcpServer,
  text,
  until,
  writeAll,
} from "../support/tcp.ts";
import type { EngineTest } from "./engine.ts";

/** Sends all of it and ends, while reading all that comes back. */
async function exchange(
  connection: Deno.Conn,
  bytes: Uint8Array,
): Promise<Uint8Array> {
  const send = async () => {
    await writeAll(connection, bytes);
    await connection.closeWrite();
  };
  const [received] = await Promise.all([readAll(connection), send()]);
  return received;
}

const SIZES_BYTES = [0, 1, 4095, 4096, 4097, 65_536, 1_000_003];

export const streamTests: readonly EngineTest[] = [
  ...SIZES_BYTES.map((size): EngineTest => ({
    name: `${size} bytes come back unchanged`,
    async run(engine) {
      await using server = echoServer();
      const { forwarder, address } = await engine.listen([server.address]);
      using connection = await dialServer(address);
      const bytes = noise(size);
      assert.deepEqual(await exchange(connection, bytes), bytes);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      const stats = forwarder.stats();
      assert.equal(stats.bytesToEndpoints, size);
      assert.equal(stats.bytesToClients, size);
      assert.equal(stats.connectionsTotal, 1);
      assert.equal(stats.connectionsFailed, 0);
    },
  })),
  {
    name: "64 MiB go each way at once unchanged",
    limitMs: 60_000,
    async run(engine) {
      const [up, down] = [noise(64 << 20), noise(64 << 20)];
      let hashUp = "";
      await using server = tcpServer(async (connection) => {
        hashUp = sha256(await exchange(connection, down));
      });
      const { address } = await engine.listen([server.address]);
      using connection = await dialServer(address);
      const received = await exchange(connection, up);
      assert.equal(sha256(received), sha256(down));
      await until("endpoint done", () => hashUp !== "");
      assert.equal(hashUp, sha256(up));
    },
  },
  {
    name: "[12.94] the reply arrives after the client half-closes (moby#1598)",
    async run(engine) {
      const reply = noise(1 << 20);
      await using server = tcpServer(async (connection) => {
        const request = await readAll(connection);
        assert.equal(request.length, 7);
        await sleep(50); // an answer that is not there at once
        await writeAll(connection, reply);
      });
      const { address } = await engine.listen([server.address]);
      using connection = await dialServer(address);
      assert.deepEqual(await exchange(connection, text("request")), reply);
    },
  },
  {
    name: "an upload goes on after the endpoint half-closes",
    async run(engine) {
      const upload = noise(1 << 20);
      let received: Uint8Array | undefined;
      await using server = tcpServer(async (connection) => {
        await connection.closeWrite();
        received = await readAll(connection);
      });
      const { address } = await engine.listen([server.address]);
      using connection = await dialServer(address);
      assert.equal(await connection.read(new Uint8Array(1)), null);
      await writeAll(connection, upload);
      await connection.closeWrite();
      await until("upload received", () => received !== undefined);
      assert.equal(sha256(received!), sha256(upload));
    },
  },
  {
    name:
      "a half-closed connection is cut when its endpoint stays silent (kubernetes#18354)",
    async run(engine) {
      const told = Promise.withResolvers<void>();
      await using server = tcpServer(async (connection) => {
        await readAll(connection);
        await told.promise; // and never ends its own direction
      });
      const { forwarder, address } = await engine.listen([server.address], {
        lingerMs: 150,
      });
      using connection = await dialServer(address);
      await connection.closeWrite();
      await ending(connection);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      told.resolve();
    },
  },
  {
    name: "a half-closed connection is cut when its client stays silent",
    async run(engine) {
      await using server = tcpServer((connection) => connection.closeWrite());
      const { forwarder, address } = await engine.listen([server.address], {
        lingerMs: 150,
      });
      using connection = await dialServer(address);
      assert.equal(await connection.read(new Uint8Array(1)), null);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
    },
  },
  {
    name: "a half-closed connection goes on while bytes pass",
    async run(engine) {
      await using server = tcpServer(async (connection) => {
        await readAll(connection);
        for (let count = 0; count < 10; count++) {
          await sleep(120);
          await writeAll(connection, text("."));
        }
      });
      const { address } = await engine.listen([server.address], {
        lingerMs: 1_000,
      });
      using connection = await dialServer(address);
      const received = await exchange(connection, text("go"));
      assert.equal(received.length, 10);
    },
  },
  {
    name: "an open connection may be silent for longer than the linger time",
    async run(engine) {
      await using server = echoServer();
      const { address } = await engine.listen([server.address], {
        lingerMs: 50,
      });
      using connection = await dialServer(address);
      await sleep(250);
      await writeAll(connection, text("still there"));
      await readExactly(connection, 11);
    },
  },
  {
    name: "a client that does not read stops its endpoint",
    async run(engine) {
      const chunk = noise(1 << 20);
      let sent = 0;
      await using server = tcpServer(async (connection) => {
        for (let n = 0; n < 256; n++) {
          await writeAll(connection, chunk);
          sent++;
        }
      });
      const { address } = await engine.listen([server.address]);
      using connection = await dialServer(address);
      await readExactly(connection, 1);
      let before = -1;
      while (before !== sent) {
        before = sent;
        await sleep(200);
      }
      // What fits in the kernel's buffers of two connections, and ours.
      assert.ok(sent < 64, `the endpoint could send ${sent} MiB`);
      await readExactly(connection, (256 << 20) - 1);
      assert.equal(await connection.read(new Uint8Array(1)), null);
    },
    limitMs: 60_000,
  },
  {
    name: "a reset by the client ends the endpoint's side",
    async run(engine) {
      const accepted = Promise.withResolvers<void>();
      const ended = Promise.withResolvers<void>();
      await using server = tcpServer(async (connection) => {
        accepted.resolve();
        await ending(connection).finally(ended.resolve);
      });
      const { forwarder, address } = await engine.listen([server.address]);
      const client = await nodeClient(address);
      await new Promise((resolve) => client.write(text("half of a"), resolve));
      await until("dialled", () => forwarder.stats().bytesToEndpoints === 9);
      // One that is reset before Deno accepts it is never told of.
      await accepted.promise;
      await reset(client);
      await ended.promise;
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
    },
  },
  {
    name: "a reset by the endpoint ends the client's side",
    async run(engine) {
      await using server = await nodeServer();
      const { forwarder, address } = await engine.listen([server.address]);
      using connection = await dialServer(address);
      await reset(await server.next());
      await ending(connection);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
    },
  },
  {
    name: "a reset by the endpoint is a reset for the client",
    async run(engine) {
      await using server = await nodeServer();
      const { address } = await engine.listen([server.address]);
      using connection = await dialServer(address);
      const socket = await server.next();
      await new Promise((resolve) => socket.write(text("half of a"), resolve));
      await readExactly(connection, 9);
      await reset(socket);
      assert.equal(await ending(connection), "reset");
    },
  },
  {
    name: "an answer that comes before the upload's end is delivered",
    async run(engine) {
      const answer = text("413 too large");
      await using server = tcpServer(async (connection) => {
        await connection.read(new Uint8Array(10));
        await writeAll(connection, answer);
      });
      const { address } = await engine.listen([server.address]);
      // The reset that follows the answer comes while this or that goes on.
      for (let i = 0; i < 500; i++) {
        using connection = await dialServer(address);
        await writeAll(connection, noise(100_000));
        assert.deepEqual(
          await readExactly(connection, answer.length),
          answer,
          `${i}`,
        );
      }
    },
  },
  ...(["127.0.0.1", "::1"] as const).flatMap((listening) =>
    (["127.0.0.1", "::1"] as const).map((ip): EngineTest => ({
      name: `from ${listening} to ${ip}`,
      missing: noIpv6(),
      async run(engine) {
        await using server = echoServer(ip);
        const { forwarder, address } = await engine.listen([server.address], {
          ip: listening,
        });
        assert.equal(address.ip, listening);
        using connection = await dialServer(address);
        assert.deepEqual(await exchange(connection, text("hi")), text("hi"));
        const { port } = server.address;
        const key = ip === "::1" ? `[::1]:${port}` : `${ip}:${port}`;
        assert.deepEqual([...forwarder.stats().endpoints.keys()], [key]);
      },
    }))
  ),
];

/**
 * Conformance of engines: endpoints that take connections and then misbehave.
 * Those that take none are in `engine_ejection.ts`.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  askName as ask,
  closeQuietly,
  dialServer,
  ending,
  namedServer,
  nodeServer,
  noise,
  readExactly,
  sleep,
  text,
  until,
  writeAll,
} from "../support/tcp.ts";
import { type EngineTest, policy } from "./engine.ts";

const STUCK = 24;
const CHUNK = noise(1 << 20);

/** More than the kernel's buffers of two connections and ours ever take. */
const BUFFERED_MAX_MIB = 24;

export const faultTests: readonly EngineTest[] = [
  {
    name:
      "endpoints that accept and never read stop their own clients, and nobody else",
    limitMs: 60_000,
    async run(engine) {
      await using deaf = await nodeServer();
      await using good = namedServer("good");
      const [stuck, other] = engine.forwarders([
        policy([deaf.address]),
        policy([good.address], { name: "default/other" }),
      ]);
      const at = { ip: "127.0.0.1", port: 0 };
      const how = { scope: "internal", sourceRanges: [] } as const;
      const { address } = await stuck!.listen(at, how);
      const { address: fine } = await other!.listen(at, how);
      const clients: Deno.TcpConn[] = [];
      let sent = 0;
      try {
        const pushing = Array.from({ length: STUCK }, async () => {
          const client = await dialServer(address);
          clients.push(client);
          while (true) sent += await client.write(CHUNK);
        });
        for (const one of pushing) one.catch(() => {});
        let before = -1;
        while (before !== sent || clients.length < STUCK) {
          before = sent;
          await sleep(300);
          assert.equal(await ask(fine), "good");
        }
        const mib = sent / (1 << 20) / STUCK;
        assert.ok(mib < BUFFERED_MAX_MIB, `${mib} MiB for each client`);
        assert.equal(stuck!.stats().connectionsOpen, STUCK);
        // Their end is passed on nevertheless: nobody has to read for that.
        await stuck!.close(AbortSignal.abort());
        assert.equal(stuck!.stats().connectionsOpen, 0);
      } finally {
        for (const client of clients) closeQuietly(client);
        for (let n = 0; n < STUCK; n++) (await deaf.next()).destroy();
      }
    },
  },
  {
    name:
      "an endpoint that resets many connections in the middle harms no other's",
    async run(engine) {
      await using bad = await nodeServer();
      await using good = await nodeServer();
      const { forwarder, address } = await engine.listen([
        bad.address,
        good.address,
      ]);
      const clients: Deno.TcpConn[] = [];
      try {
        for (let n = 0; n < 40; n++) {
          const client = await dialServer(address);
          clients.push(client);
          await writeAll(client, text("half of a request"));
        }
        const sockets = await Promise.all(
          Array.from({ length: 20 }, () => bad.next()),
        );
        for (const socket of sockets) socket.write("half of an");
        for (let n = 0; n < 40; n += 2) await readExactly(clients[n]!, 10);
        for (const socket of sockets) socket.resetAndDestroy();
        for (let n = 0; n < 40; n += 2) await ending(clients[n]!);
        await until("ended", () => forwarder.stats().connectionsOpen === 20);
        for (let n = 1; n < 40; n += 2) {
          const socket = await good.next();
          socket.end("whole");
          socket.resume();
        }
        for (let n = 1; n < 40; n += 2) {
          const word = await readExactly(clients[n]!, 5);
          assert.deepEqual(word, text("whole"));
          await clients[n]!.closeWrite();
        }
        await until("ended", () => forwarder.stats().connectionsOpen === 0);
        const { endpoints, connectionsFailed } = forwarder.stats();
        assert.equal(connectionsFailed, 0);
        for (const entry of endpoints.values()) {
          // It took them: that is no reason to pass it over.
          assert.equal(entry.ejectedUntil, undefined);
          assert.equal(entry.connectionsTotal, 20);
        }
      } finally {
        for (const client of clients) closeQuietly(client);
      }
    },
  },
];

/**
 * Conformance of engines, second part: which endpoint a connection reaches,
 * and what happens when endpoints do not answer.
 *
 * @module
 */
import assert from "node:assert/strict";
import { countOf } from "../../proxy/distribution.ts";
import type { Forwarder, ListenOptions } from "../../proxy/engine/engine.ts";
import { endpointKey } from "../../proxy/load_balancer.ts";
import {
  askName as ask,
  blackHole,
  dialEnding,
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

const noBlackHole = Deno.build.os === "linux"
  ? undefined
  : "a full backlog drops connection attempts on Linux only";

export const endpointTests: readonly EngineTest[] = [
  {
    name: "[3.1, 3.12] endpoints are visited in turn, exactly",
    async run(engine) {
      await using a = namedServer("a");
      await using b = namedServer("b");
      await using c = namedServer("c");
      const servers = [a, b, c];
      const { forwarder, address } = await engine.listen(
        servers.map(({ address }) => address),
      );
      const other = await forwarder.listen(
        { ip: "127.0.0.1", port: 0 },
        INTERNAL,
      );
      let visited = "";
      for (let round = 0; round < 6; round++) {
        // One rotation for the ServicePort, not one for each listener.
        visited += await ask(round % 2 === 0 ? address : other.address);
      }
      assert.equal(visited, "abcabc");
      await Promise.all(Array.from({ length: 60 }, () => ask(address)));
      assert.deepEqual(servers.map(({ accepted }) => accepted), [22, 22, 22]);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      for (const entry of forwarder.stats().endpoints.values()) {
        assert.deepEqual(entry, {
          connectionsOpen: 0,
          connectionsTotal: 22,
          dialFailures: 0,
        });
      }
    },
  },
  {
    name: "[3.8] an endpoint that refuses is passed over",
    async run(engine) {
      await using server = namedServer("good");
      const { forwarder, address } = await engine.listen([
        refusing(1),
        refusing(2),
        server.address,
      ]);
      assert.equal(await ask(address), "good");
      const stats = forwarder.stats();
      assert.equal(stats.dialFailures, 2);
      assert.equal(stats.dialTimeouts, 0);
      assert.equal(stats.connectionsFailed, 0);
      assert.equal(
        stats.endpoints.get(endpointKey(refusing(1)))?.dialFailures,
        1,
      );
    },
  },
  {
    name: "[0.3] an endpoint sees our address, whoever its client is",
    missing: Deno.build.os === "linux"
      ? undefined
      : "only Linux has all of 127.0.0.0/8 on loopback",
    async run(engine) {
      await using server = tcpServer((connection) =>
        writeAll(connection, text(connection.remoteAddr.hostname))
      );
      const { address } = await engine.listen([server.address]);
      assert.equal(await ask(address, "127.0.0.5"), "127.0.0.1");
    },
  },
  {
    name: "more endpoints may refuse than there are dial time-outs",
    async run(engine) {
      await using server = namedServer("good");
      const { address } = await engine.listen([
        ...Array.from({ length: 9 }, (_, n) => refusing(n + 1)),
        server.address,
      ], { dialTimeoutsMs: [1_000, 1_000] });
      assert.equal(await ask(address), "good");
    },
  },
  {
    name:
      "when all refuse, each is asked once and the client's connection ends",
    async run(engine) {
      const endpoints = [refusing(1), refusing(2), refusing(3)];
      const { forwarder, address } = await engine.listen(endpoints);
      await dialEnding(address);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      const stats = forwarder.stats();
      assert.equal(stats.connectionsTotal, 1);
      assert.equal(stats.connectionsFailed, 1);
      assert.equal(stats.dialFailures, 3);
      for (const endpoint of endpoints) {
        const entry = stats.endpoints.get(endpointKey(endpoint));
        assert.equal(entry?.dialFailures, 1);
      }
    },
  },
  {
    name: "when all refuse, the client's connection is reset",
    async run(engine) {
      const { address } = await engine.listen([refusing()]);
      assert.equal(await dialEnding(address), "reset");
    },
  },
  {
    name: "without endpoints the client's connection ends and is counted",
    async run(engine) {
      const { forwarder, address } = await engine.listen([]);
      await dialEnding(address);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      assert.equal(forwarder.stats().connectionsRefused, 1);
      assert.equal(forwarder.stats().connectionsFailed, 0);
      assert.equal(forwarder.stats().dialFailures, 0);
    },
  },
  {
    name: "an endpoint that does not answer is passed over after its time-out",
    missing: noBlackHole,
    async run(engine) {
      await using silent = await blackHole();
      await using server = namedServer("good");
      const { forwarder, address } = await engine.listen([
        silent.address,
        server.address,
      ], { dialTimeoutsMs: [100, 10_000] });
      assert.equal(await ask(address), "good");
      assert.equal(forwarder.stats().dialFailures, 1);
    },
  },
  {
    name: "stats tell how long dials and connections took, once there are some",
    missing: noBlackHole,
    async run(engine) {
      await using silent = await blackHole();
      await using server = namedServer("good");
      const { forwarder, address } = await engine.listen([
        silent.address,
        server.address,
      ], { dialTimeoutsMs: [100, 10_000] });
      const before = forwarder.stats();
      assert.equal(before.dialSeconds, undefined);
      assert.equal(before.connectionSeconds, undefined);
      await ask(address);
      await ask(address);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      const { dialSeconds, connectionSeconds } = forwarder.stats();
      assert.ok(dialSeconds !== undefined && connectionSeconds !== undefined);
      assert.equal(countOf(dialSeconds), 2);
      assert.equal(countOf(connectionSeconds), 2);
      // The time-out is part of it: for the client it is one wait.
      assert.ok(dialSeconds.sum >= 0.095, String(dialSeconds.sum));
      assert.ok(connectionSeconds.sum > 0);
    },
  },
  {
    name: "a lone endpoint that does not answer gets every time-out",
    missing: noBlackHole,
    async run(engine) {
      await using silent = await blackHole();
      const { forwarder, address } = await engine.listen([silent.address], {
        dialTimeoutsMs: [20, 40, 80],
      });
      await dialEnding(address);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      assert.equal(forwarder.stats().dialFailures, 3);
      assert.equal(forwarder.stats().dialTimeouts, 3);
      assert.equal(forwarder.stats().connectionsFailed, 1);
    },
  },
  {
    name: "a dial that waits does not hold up other clients",
    missing: noBlackHole,
    async run(engine) {
      await using silent = await blackHole();
      await using server = namedServer("good");
      const { address } = await engine.listen(
        [silent.address, server.address],
        {
          dialTimeoutsMs: [60_000],
        },
      );
      using _waiting = await dialServer(address);
      assert.equal(await ask(address), "good");
    },
  },
  {
    name: "a client that resets while its endpoint is dialled ends the dial",
    missing: noBlackHole,
    async run(engine) {
      await using silent = await blackHole();
      const { forwarder, address } = await engine.listen([silent.address], {
        dialTimeoutsMs: [60_000],
      });
      const client = await nodeClient(address);
      await until("accepted", () => forwarder.stats().connectionsOpen === 1);
      await reset(client);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      assert.equal(forwarder.stats().connectionsFailed, 0);
      assert.equal(forwarder.stats().dialFailures, 0);
    },
  },
  {
    name: "what a client sends and ends before there is an endpoint arrives",
    missing: noBlackHole,
    async run(engine) {
      await using silent = await blackHole();
      await using server = echoServer();
      const { address } = await engine.listen(
        [silent.address, server.address],
        {
          dialTimeoutsMs: [200, 10_000],
        },
      );
      using connection = await dialServer(address);
      await writeAll(connection, text("early"));
      await connection.closeWrite();
      assert.deepEqual(await readAll(connection), text("early"));
    },
  },
  {
    name:
      "[0.5, 3.7, 10.54] update() moves new connections and leaves established ones alone",
    async run(engine) {
      await using old = echoServer();
      await using fresh = namedServer("fresh");
      const { forwarder, address } = await engine.listen([old.address]);
      using established = await dialServer(address);
      await writeAll(established, text("1"));
      await readExactly(established, 1);

      forwarder.update(policy([fresh.address]));
      assert.equal(await ask(address), "fresh");
      await writeAll(established, text("2"));
      await readExactly(established, 1);
      await until("ended", () => forwarder.stats().connectionsOpen === 1);
      assert.equal(
        forwarder.stats().endpoints.get(endpointKey(old.address))
          ?.connectionsOpen,
        1,
      );

      await established.closeWrite();
      await ending(established);
      await until(
        "forgotten",
        () => !forwarder.stats().endpoints.has(endpointKey(old.address)),
      );
      assert.deepEqual([...forwarder.stats().endpoints.keys()], [
        endpointKey(fresh.address),
      ]);
    },
  },
  {
    name: "update() reaches a connection that is still looking for an endpoint",
    missing: noBlackHole,
    async run(engine) {
      await using silent = await blackHole();
      await using server = namedServer("good");
      const { forwarder, address } = await engine.listen([silent.address], {
        dialTimeoutsMs: [300, 10_000],
      });
      const answer = ask(address);
      await until("accepted", () => forwarder.stats().connectionsOpen === 1);
      forwarder.update(policy([server.address]));
      assert.equal(await answer, "good");
    },
  },
  {
    name:
      "[2.32] an endpoint that is a Service's address is passed over, and never loops",
    async run(engine) {
      await using server = namedServer("good");
      const [first, second] = engine.forwarders([policy([]), policy([])]);
      const open = async (
        forwarder?: Forwarder,
        how: ListenOptions = INTERNAL,
      ) => (await forwarder!.listen({ ip: "127.0.0.1", port: 0 }, how)).address;
      const a = await open(first);
      // As clients know it where rules of the kernel lead to our port.
      const serviceAddress = { ip: "192.0.2.1", port: 80 };
      const b = await open(second, { ...INTERNAL, serviceAddress });
      first!.update(policy([a, b, serviceAddress, server.address]));
      second!.update(policy([a]));
      for (let i = 0; i < 4; i++) assert.equal(await ask(a), "good");
      assert.equal(first!.stats().connectionsTotal, 4);
      await dialEnding(b);
      await until("ended", () => second!.stats().connectionsFailed === 1);
      assert.equal(first!.stats().connectionsTotal, 4);
      // Whoever has the address when it is no longer ours may be an endpoint.
      await first!.close(AbortSignal.abort());
      using next = Deno.listen({ hostname: a.ip, port: a.port });
      const [name, endpoint] = [ask(b), await next.accept()];
      await writeAll(endpoint, text("next"));
      endpoint.close();
      assert.equal(await name, "next");
    },
  },
  {
    name: "an endpoint that closes at once is an end, not a failure",
    async run(engine) {
      await using server = tcpServer(() => Promise.resolve());
      const { forwarder, address } = await engine.listen([server.address]);
      using connection = await dialServer(address);
      assert.deepEqual(await readAll(connection), new Uint8Array());
      await connection.closeWrite();
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      assert.equal(forwarder.stats().connectionsFailed, 0);
    },
  },
];

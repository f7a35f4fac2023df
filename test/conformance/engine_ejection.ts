/**
 * Conformance of engines: endpoints that take no connection are passed over
 * (`proxy/ejection.ts`), by whichever engine dials them.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { EndpointAddress, Forwarder } from "../../proxy/engine/engine.ts";
import { endpointKey } from "../../proxy/load_balancer.ts";
import { collectLog } from "../support/log_lines.ts";
import {
  askName as ask,
  blackHole,
  dialEnding,
  namedServer,
  refusing,
  tcpServer,
  text,
  until,
  writeAll,
} from "../support/tcp.ts";
import type { EngineTest } from "./engine.ts";

const noBlackHole = Deno.build.os === "linux"
  ? undefined
  : "a full backlog drops connection attempts on Linux only";

function isEjected(forwarder: Forwarder, endpoint: EndpointAddress): boolean {
  return (forwarder.stats().endpoints.get(endpointKey(endpoint))
    ?.ejectedUntil ?? 0) > 0;
}

/** A busy machine may be so slow that trials fall due. */
function mostDials(since: number): number {
  return 1 + Math.floor((performance.now() - since) / 1_000);
}

export const ejectionTests: readonly EngineTest[] = [
  {
    name:
      "[3.9] an endpoint that refused is passed over, and tried again after a second",
    async run(engine) {
      await using _log = await collectLog();
      await using server = namedServer("good");
      const { forwarder, address } = await engine.listen([
        refusing(),
        server.address,
      ]);
      const since = performance.now();
      for (let n = 0; n < 10; n++) assert.equal(await ask(address), "good");
      assert.ok(forwarder.stats().dialFailures <= mostDials(since));
      assert.ok(isEjected(forwarder, refusing()));
      assert.ok(!isEjected(forwarder, server.address));
      while (forwarder.stats().dialFailures < 2) {
        assert.equal(await ask(address), "good");
      }
      assert.ok(performance.now() - since >= 1_000);
    },
  },
  {
    name:
      "an endpoint that is silent costs one slow connection, not every n-th",
    missing: noBlackHole,
    async run(engine) {
      await using silent = await blackHole();
      await using a = namedServer("a");
      await using b = namedServer("b");
      const { forwarder, address } = await engine.listen(
        [silent.address, a.address, b.address],
        { dialTimeoutsMs: [250, 10_000] },
      );
      assert.equal(await ask(address), "a");
      const since = performance.now();
      let visited = "";
      for (let n = 0; n < 8; n++) visited += await ask(address);
      assert.equal(visited, "babababa", "in turn, exactly");
      assert.ok(forwarder.stats().dialTimeouts! <= mostDials(since));
      assert.ok(isEjected(forwarder, silent.address));
    },
  },
  {
    name: "of many dead endpoints, a client waits for each once",
    missing: noBlackHole,
    async run(engine) {
      await using first = await blackHole();
      await using second = await blackHole();
      await using server = namedServer("good");
      const { forwarder, address } = await engine.listen(
        [
          first.address,
          refusing(1),
          second.address,
          refusing(2),
          server.address,
        ],
        { dialTimeoutsMs: [100, 100, 10_000] },
      );
      const since = performance.now();
      for (let n = 0; n < 20; n++) assert.equal(await ask(address), "good");
      const { dialFailures, connectionsFailed } = forwarder.stats();
      assert.ok(dialFailures <= 4 * mostDials(since), String(dialFailures));
      assert.equal(connectionsFailed, 0);
    },
  },
  {
    name: "the only endpoint is never ejected",
    async run(engine) {
      const { forwarder, address } = await engine.listen([refusing()]);
      for (let n = 0; n < 5; n++) await dialEnding(address);
      await until("asked", () => forwarder.stats().dialFailures === 5);
      assert.ok(!isEjected(forwarder, refusing()));
    },
  },
  {
    name:
      "an endpoint that answers its trial has its turn again, and both is logged",
    async run(engine) {
      await using log = await collectLog();
      await using steady = namedServer("a");
      await using other = tcpServer(() => Promise.resolve());
      const back = { ip: "127.78.0.1", port: other.address.port };
      const { forwarder, address } = await engine.listen([
        back,
        steady.address,
      ]);
      assert.equal(await ask(address), "a");
      await until("ejected", () => isEjected(forwarder, back));
      using listener = Deno.listen({ hostname: back.ip, port: back.port });
      const serving = (async () => {
        for await (const connection of listener) {
          await writeAll(connection, text("b"));
          connection.close();
        }
      })();
      while (await ask(address) !== "b");
      await until("in turn again", () => !isEjected(forwarder, back));
      let visited = "";
      for (let n = 0; n < 4; n++) visited += await ask(address);
      assert.equal(visited, "abab");
      listener.close();
      await serving;
      const key = endpointKey(back);
      const told = (what: RegExp) =>
        log.lines.some((line) => line.includes(key) && what.test(line));
      await until(
        "logged",
        () =>
          told(/Passing over an endpoint .*trialInSeconds=1 count=1/) &&
          told(/answers again/),
      );
    },
  },
];

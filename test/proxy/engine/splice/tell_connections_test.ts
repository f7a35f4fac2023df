import assert from "node:assert/strict";
import { createSpliceEngine } from "../../../../proxy/engine/splice/engine.ts";
import { systemClock } from "../../../../watch/mod.ts";
import { INTERNAL, policy } from "../../../conformance/engine.ts";
import { ffi } from "../../../support/ffi.ts";
import { collectLog } from "../../../support/log_lines.ts";
import { testWith } from "../../../support/needs.ts";
import { askName, namedServer, until, within } from "../../../support/tcp.ts";

for (const workers of [1, 2]) {
  testWith(
    [ffi],
    `splice tells of each connection that ends where it was asked to (${workers})`,
    () => within(30_000, tellEach(workers)),
  );
}

async function tellEach(workers: number): Promise<void> {
  await using log = await collectLog("debug");
  await using engine = createSpliceEngine({ clock: systemClock, workers });
  await using server = namedServer("a");
  const forwarder = engine.forwarder(policy([server.address]));
  const { address } = await forwarder.listen(FREE_PORT, INTERNAL);
  const ask = async (times: number) => {
    for (let n = 0; n < times; n++) await askName(address);
    await until("ended", () => forwarder.stats().connectionsOpen === 0);
  };
  await ask(3);
  engine.tellConnections(true);
  await ask(4);
  await until("told", () => log.lines.length >= 4);
  engine.tellConnections(false);
  await ask(3);
  // Reports come in order: what had been told would be here before it.
  await forwarder.close(new AbortController().signal);

  assert.equal(log.lines.length, 4, log.lines.join(""));
  const { ip, port } = server.address;
  for (const line of log.lines) {
    assert.match(line, / DEBUG engine: Connection ended service=\S+ /);
    assert.match(line, / client=127\.0\.0\.1:\d+ /);
    assert.ok(line.includes(` endpoint=${ip}:${port} openMs=`), line);
  }
}

const FREE_PORT = { ip: "127.0.0.1", port: 0 };

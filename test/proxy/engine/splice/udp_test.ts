/** What only this engine has: threads, and sockets that are the kernel's. */
import assert from "node:assert/strict";
import { createSpliceEngine } from "../../../../proxy/engine/splice/engine.ts";
import { systemClock } from "../../../../watch/mod.ts";
import { INTERNAL } from "../../../conformance/engine.ts";
import { udpPolicy } from "../../../conformance/engine_udp.ts";
import { ffi } from "../../../support/ffi.ts";
import { collectLog } from "../../../support/log_lines.ts";
import { testWith } from "../../../support/needs.ts";
import { descriptors, until, within } from "../../../support/tcp.ts";
import { echoPeer, namedPeer, UdpPeer } from "../../../support/udp.ts";

const LIMIT_MS = 60_000;
const FREE_PORT = { ip: "127.0.0.1", port: 0 };

for (const workers of [1, 2]) {
  testWith(
    [ffi],
    `disposing an engine ends its UDP flows, and leaves no descriptor (${workers})`,
    () => within(LIMIT_MS, disposeInUse(workers)),
  );
}

async function disposeInUse(workers: number): Promise<void> {
  const start = () => createSpliceEngine({ clock: systemClock, workers });
  await using endpoint = namedPeer("a");
  await using clients = new AsyncDisposableStack();
  const peers = Array.from({ length: 20 }, () => clients.use(new UdpPeer()));
  // What the runtime makes once for workers is made now.
  const first = start();
  await first.ready;
  await first[Symbol.asyncDispose]();
  const before = descriptors();

  const engine = start();
  const forwarder = engine.forwarder(udpPolicy([endpoint.address]));
  const { address } = await forwarder.listen(FREE_PORT, INTERNAL);
  for (const peer of peers) await peer.askName(address);
  assert.equal(forwarder.stats().connectionsOpen, peers.length);
  // In the middle of things: some of it will never be received.
  for (const peer of peers) await peer.send("?", address);
  await engine[Symbol.asyncDispose]();
  // The runtime of the first one's threads may have been there before.
  await until("closed", () => descriptors() <= before);
  // Its port is free again, and closing what has ended says so at once.
  await using _again = new UdpPeer(address);
  await forwarder.close(new AbortController().signal);
}

testWith(
  [ffi],
  "splice tells of each UDP flow that ends where it was asked to",
  () => within(LIMIT_MS, tellEach()),
);

async function tellEach(): Promise<void> {
  await using log = await collectLog("debug");
  await using engine = createSpliceEngine({ clock: systemClock });
  await using endpoint = namedPeer("a");
  const ask = async () => {
    const forwarder = engine.forwarder(udpPolicy([endpoint.address]));
    const { address } = await forwarder.listen(FREE_PORT, INTERNAL);
    await using client = new UdpPeer();
    await client.askName(address);
    await forwarder.close(new AbortController().signal);
    return `client=127.0.0.1:${client.address.port} `;
  };
  await ask();
  engine.tellConnections(true);
  const client = await ask();
  engine.tellConnections(false);
  await ask();
  assert.equal(log.lines.length, 1, log.lines.join(""));
  const [line = ""] = log.lines;
  assert.match(line, / DEBUG engine: Flow ended service=\S+ client=/);
  assert.ok(line.includes(client), line);
  assert.match(line, / reason="listener closed"/);
}

testWith(
  [ffi],
  "what comes in bursts, of many clients at once, is all answered",
  () => within(LIMIT_MS, answerBursts()),
);

async function answerBursts(): Promise<void> {
  await using engine = createSpliceEngine({ clock: systemClock });
  await using endpoint = echoPeer();
  const forwarder = engine.forwarder(udpPolicy([endpoint.address]));
  const { address } = await forwarder.listen(FREE_PORT, INTERNAL);
  await using clients = new AsyncDisposableStack();
  const peers = Array.from({ length: 8 }, () => clients.use(new UdpPeer()));
  for (let round = 0; round < 20; round++) {
    const wanted = peers.map((_, index) =>
      [0, 1, 2].map((n) => `${round} ${index} ${n}`)
    );
    // In turn, so that what is received at once is of many.
    for (const n of [0, 1, 2]) {
      for (const [index, peer] of peers.entries()) {
        await peer.send(wanted[index]![n]!, address);
      }
    }
    for (const [index, peer] of peers.entries()) {
      const got = [];
      for (const _ of wanted[index]!) got.push((await peer.receive()).data);
      assert.deepEqual(
        got.map((data) => new TextDecoder().decode(data)),
        wanted[index],
      );
    }
  }
  assert.equal(forwarder.stats().connectionsTotal, peers.length);
  assert.equal(forwarder.stats().datagramsDropped, 0);
}

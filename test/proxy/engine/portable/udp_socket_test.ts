import assert from "node:assert/strict";
import type { EndpointAddress } from "../../../../proxy/engine/engine.ts";
import { createPortableEngine } from "../../../../proxy/engine/portable/engine.ts";
import { ReceiveBuffers } from "../../../../proxy/engine/portable/udp_buffers.ts";
import {
  SEND_QUEUE_MAX_BYTES,
  UdpSocket,
} from "../../../../proxy/engine/portable/udp_socket.ts";
import { RepeatedLog } from "../../../../proxy/repeated_log.ts";
import { systemClock } from "../../../../watch/mod.ts";
import { INTERNAL } from "../../../conformance/engine.ts";
import { udpPolicy } from "../../../conformance/engine_udp.ts";
import { text, until } from "../../../support/tcp.ts";
import { UdpPeer } from "../../../support/udp.ts";

function open(
  handle: (data: Uint8Array<ArrayBuffer>, from: Deno.NetAddr) => void,
): UdpSocket {
  return new UdpSocket({ ip: "127.0.0.1", port: 0 }, {
    clock: systemClock,
    log: new RepeatedLog({
      clock: systemClock,
      write: (message) => assert.fail(message),
    }),
    buffers: new ReceiveBuffers(),
    handle,
  });
}

function net(address: { ip: string; port: number }): Deno.NetAddr {
  return { transport: "udp", hostname: address.ip, port: address.port };
}

Deno.test("UdpSocket says what became of a datagram, and never rejects", async () => {
  await using peer = new UdpPeer();
  const socket = open(() => {});
  const to = net(peer.address);
  assert.deepEqual(await socket.send(text("hello"), to), { type: "sent" });
  assert.equal((await peer.receive()).data.length, 5);
  assert.deepEqual(await socket.send(new Uint8Array(65_508), to), {
    type: "dropped",
    reason: "too large",
  });
  const failed = await socket.send(text("x"), { ...to, port: 0 });
  assert.equal(failed.type, "failed");
  // A port that refuses does not show: the socket is not connected.
  await peer[Symbol.asyncDispose]();
  for (let n = 0; n < 3; n++) {
    assert.deepEqual(await socket.send(text("x"), to), { type: "sent" });
  }
  const late = socket.send(text("x"), to);
  socket.close();
  socket.close();
  assert.ok(["sent", "closed"].includes((await late).type));
  assert.deepEqual(await socket.send(text("x"), to), { type: "closed" });
  await socket.ended;
});

Deno.test("UdpSocket lets a bounded number of bytes wait", async () => {
  await using peer = new UdpPeer();
  const socket = open(() => {});
  const count = Math.ceil(SEND_QUEUE_MAX_BYTES / 60_000) + 10;
  const data = new Uint8Array(60_000);
  const results = await Promise.all(
    Array.from({ length: count }, () => socket.send(data, net(peer.address))),
  );
  const full = results.filter((result) =>
    result.type === "dropped" && result.reason === "queue full"
  );
  assert.ok(full.length >= 10, `${full.length} of ${count} dropped`);
  assert.equal(results.at(-1)?.type, "dropped");
  // The queue empties, and takes again.
  const after = await socket.send(data, net(peer.address));
  assert.deepEqual(after, { type: "sent" });
  socket.close();
  await socket.ended;
});

Deno.test("ReceiveBuffers lends each buffer to one at a time", () => {
  const buffers = new ReceiveBuffers();
  const lent = Array.from({ length: 200 }, () => buffers.take());
  for (const [index, buffer] of lent.entries()) buffer.fill(index);
  for (const [index, buffer] of lent.entries()) {
    assert.equal(buffer.length, 65_536);
    assert.ok(buffer.every((byte) => byte === index % 256));
  }
  const last = lent.at(-1)!;
  buffers.giveBack(last);
  assert.equal(buffers.take(), last);
});

Deno.test("a stranger's datagram at a flow's port is dropped, and counted", async () => {
  const flows: EndpointAddress[] = [];
  await using endpoint = new UdpPeer({}, ({ from }, peer) => {
    flows.push(from);
    peer.send("true", from);
  });
  const engine = createPortableEngine({ clock: systemClock });
  const forwarder = engine.forwarder(udpPolicy([endpoint.address]));
  const { address } = await forwarder.listen(
    { ip: "127.0.0.1", port: 0 },
    INTERNAL,
  );
  await using client = new UdpPeer();
  await client.askName(address);
  await using stranger = new UdpPeer();
  await stranger.send("forged", { ip: "127.0.0.1", port: flows[0]!.port });
  await until("dropped", () => forwarder.stats().datagramsDropped === 1);
  assert.equal(await client.askName(address), "true");
  assert.equal(client.received, 2);
  await forwarder.close(AbortSignal.abort());
});

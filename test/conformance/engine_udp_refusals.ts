/**
 * Conformance of engines, UDP: endpoints that refuse. Their machine says so
 * (ICMP port unreachable) after the datagram has left, and only to a socket
 * that is connected.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { EndpointAddress } from "../../proxy/engine/engine.ts";
import { endpointKey } from "../../proxy/load_balancer.ts";
import { sleep, until } from "../support/tcp.ts";
import { echoPeer, namedPeer, UdpPeer } from "../support/udp.ts";
import type { EngineTest } from "./engine.ts";
import { openUdp, udpPolicy } from "./engine_udp.ts";

/** An address where nobody listens. */
async function refusingUdp(): Promise<EndpointAddress> {
  await using peer = new UdpPeer({ ip: "127.77.0.1" });
  return peer.address;
}

export const udpRefusalTests: readonly EngineTest[] = [
  {
    name:
      "a UDP endpoint that refuses is passed over, and the next has the datagram",
    async run(engine) {
      const bad = await refusingUdp();
      await using good = namedPeer("good");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([bad, good.address], { affinityMs: 60_000 }),
      );
      await using client = new UdpPeer();
      assert.equal(await client.askName(address), "good");
      const stats = forwarder.stats();
      assert.equal(stats.dialFailures, 1);
      assert.equal(stats.connectionsOpen, 1);
      assert.equal(stats.connectionsTotal, 1);
      assert.equal(stats.connectionsFailed, 0);
      const refused = stats.endpoints.get(endpointKey(bad));
      assert.equal(refused?.connectionsOpen, 0);
      assert.equal(refused.dialFailures, 1);
      assert.ok(refused.ejectedUntil! > 0);
      // Affinity is to the one that took it.
      await using again = new UdpPeer();
      assert.equal(await again.askName(address), "good");
      assert.equal(forwarder.stats().dialFailures, 1);
    },
  },
  {
    name: "all that a UDP endpoint has not answered goes on to the next",
    async run(engine) {
      await using good = echoPeer();
      const { address } = await openUdp(
        engine,
        udpPolicy([await refusingUdp(), good.address]),
      );
      // As a resolver asks for A and AAAA: from one port, one after the other.
      await using client = new UdpPeer();
      for (const question of ["A", "AAAA"]) {
        await client.send(question, address);
      }
      const answers = [await client.receive(), await client.receive()];
      assert.deepEqual(
        answers.map(({ data }) => new TextDecoder().decode(data)).sort(),
        ["A", "AAAA"],
      );
    },
  },
  {
    name: "a UDP endpoint that stops loses its flows with the next datagram",
    async run(engine) {
      const old = namedPeer("old");
      await using other = namedPeer("other");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([old.address, other.address]),
      );
      await using client = new UdpPeer();
      assert.equal(await client.askName(address), "old");
      await old[Symbol.asyncDispose]();
      // This one is lost: it was sent, and there had been answers before.
      await client.send("lost", address);
      // Counted one after the other, by a thread that may be between the two.
      await until("refused", () => {
        const { dialFailures, connectionsOpen } = forwarder.stats();
        return dialFailures === 1 && connectionsOpen === 0;
      });
      assert.equal(await client.askName(address), "other");
      assert.equal(other.received, 1);
    },
  },
  {
    name: "a UDP endpoint that refused is tried again, and taken back",
    async run(engine) {
      const late = await refusingUdp();
      await using good = namedPeer("good");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([late, good.address]),
      );
      const ask = async () => {
        await using client = new UdpPeer();
        return await client.askName(address);
      };
      assert.equal(await ask(), "good");
      await using _late = namedPeer("late", late);
      const ejectedUntil = () =>
        forwarder.stats().endpoints.get(endpointKey(late))?.ejectedUntil ?? 0;
      await sleep(Math.max(0, ejectedUntil() - Date.now() + 20));
      const names = [await ask(), await ask()];
      assert.deepEqual(names.sort(), ["good", "late"]);
      assert.equal(ejectedUntil(), 0);
    },
  },
  {
    name: "when all UDP endpoints refuse, it is counted once and goes on",
    async run(engine) {
      const bad = [await refusingUdp(), await refusingUdp()];
      await using good = namedPeer("good");
      const { forwarder, address } = await openUdp(engine, udpPolicy(bad));
      await using client = new UdpPeer();
      await client.send("lost", address);
      await until("failed", () => forwarder.stats().connectionsFailed === 1);
      const { connectionsOpen, dialFailures } = forwarder.stats();
      assert.deepEqual({ connectionsOpen, dialFailures }, {
        connectionsOpen: 0,
        dialFailures: 2,
      });
      forwarder.update(udpPolicy([good.address]));
      assert.equal(await client.askName(address), "good");
      assert.equal(client.received, 1);
    },
  },
];

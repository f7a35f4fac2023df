/**
 * Conformance of engines, UDP: what happens to flows when endpoints, listeners
 * and Services go. Stale UDP flows are the classic of every kube-proxy; clients
 * here keep their source port, as resolvers and syslog senders do (fact 12.95).
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { endpointKey } from "../../proxy/load_balancer.ts";
import { until } from "../support/tcp.ts";
import { namedPeer, UdpPeer } from "../support/udp.ts";
import { type EngineTest, INTERNAL } from "./engine.ts";
import { openUdp, udpPolicy } from "./engine_udp.ts";

export const udpUpdateTests: readonly EngineTest[] = [
  {
    name:
      "[2.42, 10.48, 10.55, 12.56, 12.66, 12.68, 12.95] a UDP flow to an endpoint that left ends at once, and its client goes on to another",
    async run(engine) {
      await using old = namedPeer("old");
      await using fresh = namedPeer("fresh");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([old.address]),
      );
      await using client = new UdpPeer();
      assert.equal(await client.askName(address), "old");
      forwarder.update(udpPolicy([fresh.address]));
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      assert.deepEqual([...forwarder.stats().endpoints.keys()], [
        endpointKey(fresh.address),
      ]);
      assert.equal(await client.askName(address), "fresh");
      assert.equal(old.received, 1);
    },
  },
  {
    name:
      "[10.50, 12.65, 12.70, 12.90] UDP flows of an external address follow their Service too",
    async run(engine) {
      await using old = namedPeer("old");
      await using fresh = namedPeer("fresh");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([old.address]),
        { listen: { scope: "external", sourceRanges: [] } },
      );
      await using client = new UdpPeer();
      assert.equal(await client.askName(address), "old");
      forwarder.update(udpPolicy([fresh.address]));
      assert.equal(await client.askName(address), "fresh");
    },
  },
  {
    name: "[10.49] a UDP flow goes on while its endpoint serves, chosen or not",
    async run(engine) {
      await using old = namedPeer("old");
      await using fresh = namedPeer("fresh");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([old.address]),
      );
      await using client = new UdpPeer();
      assert.equal(await client.askName(address), "old");
      // Terminating and still serving: no list has it but `serving`.
      const { endpoints } = udpPolicy([fresh.address]);
      const serving = [fresh.address, old.address];
      forwarder.update(
        udpPolicy([], { endpoints: { ...endpoints, serving } }),
      );
      assert.equal(await client.askName(address), "old");
      await using newcomer = new UdpPeer();
      assert.equal(await newcomer.askName(address), "fresh");
      forwarder.update(udpPolicy([fresh.address]));
      assert.equal(await client.askName(address), "fresh");
    },
  },
  {
    name:
      "[10.52, 12.69] UDP flows end with the last endpoint, and begin again with the next",
    async run(engine) {
      await using old = namedPeer("old");
      const { forwarder, listener, address } = await openUdp(
        engine,
        udpPolicy([old.address]),
      );
      await using client = new UdpPeer();
      assert.equal(await client.askName(address), "old");
      // As the proxy does it: no endpoint, no listener.
      forwarder.update(udpPolicy([]));
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      listener.close();
      await client.send("nobody listens", address);
      await using fresh = namedPeer("fresh");
      forwarder.update(udpPolicy([fresh.address]));
      await forwarder.listen(address, INTERNAL);
      assert.equal(await client.askName(address), "fresh");
      assert.equal(old.received, 1);
    },
  },
  {
    name: "[10.53] UDP flows end with their Service",
    async run(engine) {
      const ports: number[] = [];
      await using endpoint = new UdpPeer({}, ({ from }, peer) => {
        ports.push(from.port);
        peer.send("a", from);
      });
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([endpoint.address]),
      );
      await using client = new UdpPeer();
      await client.askName(address);
      // Flows never drain: this returns, though nobody aborts.
      await forwarder.close(new AbortController().signal);
      assert.equal(forwarder.stats().connectionsOpen, 0);
      for (const port of [ports[0]!, address.port]) {
        assert.ok(canBind({ ip: "0.0.0.0", port }), `${port} is free again`);
      }
    },
  },
  {
    name:
      "[2.42, 10.51] a UDP client from before the Service is served with it",
    async run(engine) {
      await using endpoint = namedPeer("a");
      const [forwarder] = engine.forwarders([udpPolicy([endpoint.address])]);
      await using placeholder = new UdpPeer();
      const { address } = placeholder;
      await using client = new UdpPeer();
      await client.send("too early", address);
      await placeholder[Symbol.asyncDispose]();
      await client.send("too early", address);
      await forwarder!.listen(address, INTERNAL);
      assert.equal(await client.askName(address), "a");
    },
  },
  {
    name: "a UDP address can change hands at once",
    async run(engine) {
      await using a = namedPeer("a");
      await using b = namedPeer("b");
      const [first, second] = engine.forwarders(
        [a, b].map((peer) => udpPolicy([peer.address])),
      );
      const listener = await first!.listen(
        { ip: "127.0.0.1", port: 0 },
        INTERNAL,
      );
      const { address } = listener;
      await using client = new UdpPeer();
      assert.equal(await client.askName(address), "a");
      const closed = first!.close(AbortSignal.abort());
      await second!.listen(address, INTERNAL);
      assert.equal(await client.askName(address), "b");
      await closed;
    },
  },
  {
    name: "closing a UDP listener ends its flows and leaves those of others",
    async run(engine) {
      await using endpoint = namedPeer("a");
      const { forwarder, listener, address } = await openUdp(
        engine,
        udpPolicy([endpoint.address]),
      );
      const other = await forwarder.listen(
        { ip: "127.0.0.1", port: 0 },
        INTERNAL,
      );
      await using client = new UdpPeer();
      await client.askName(address);
      await client.askName(other.address);
      assert.equal(forwarder.stats().connectionsOpen, 2);
      listener.close();
      listener.close();
      await until("ended", () => forwarder.stats().connectionsOpen === 1);
      await client.askName(other.address);
      assert.equal(forwarder.stats().connectionsTotal, 2);
    },
  },
  {
    name:
      "[10.55] whatever comes and goes, each UDP datagram is answered by an endpoint that serves",
    limitMs: 120_000,
    async run(engine) {
      const names = ["a", "b", "c", "d"];
      await using stack = new AsyncDisposableStack();
      const peers = new Map(
        names.map((name) => [name, stack.use(namedPeer(name))]),
      );
      const clients = names.map(() => stack.use(new UdpPeer()));
      // One engine for all runs: threads take long to start.
      const { engine: made } = await engine.serve(udpPolicy([]));
      const step = fc.oneof(
        { weight: 3, arbitrary: fc.record({ client: fc.nat(3) }) },
        {
          weight: 1,
          arbitrary: fc.record({
            serving: fc.subarray(names, { minLength: 1 }),
            affinity: fc.boolean(),
          }),
        },
      );
      await fc.assert(
        fc.asyncProperty(
          fc.array(step, { maxLength: 30 }),
          async (steps) => {
            let serving = names;
            const policyOf = (affinity: boolean) =>
              udpPolicy(serving.map((name) => peers.get(name)!.address), {
                affinityMs: affinity ? 60_000 : 0,
              });
            const forwarder = made.forwarder(policyOf(false));
            const { address } = await forwarder.listen(
              { ip: "127.0.0.1", port: 0 },
              INTERNAL,
            );
            for (const step of steps) {
              if ("client" in step) {
                const name = await clients[step.client]!.askName(address);
                assert.ok(serving.includes(name), `${name} in ${serving}`);
              } else {
                serving = step.serving;
                forwarder.update(policyOf(step.affinity));
              }
            }
            assert.ok(forwarder.stats().connectionsOpen <= clients.length);
            await forwarder.close(AbortSignal.abort());
            assert.equal(forwarder.stats().connectionsOpen, 0);
          },
        ),
        { numRuns: 100 },
      );
    },
  },
];

function canBind(address: { ip: string; port: number }): boolean {
  try {
    Deno.listenDatagram({
      transport: "udp",
      hostname: address.ip,
      port: address.port,
    }).close();
    return true;
  } catch {
    return false;
  }
}

/**
 * Conformance of engines, UDP: datagrams, flows and their limits. What changes
 * of endpoints do to flows is in `engine_udp_updates.ts`.
 *
 * @module
 */
import assert from "node:assert/strict";
import type {
  EndpointAddress,
  Forwarder,
  ForwardingPolicy,
  Listener,
  ListenOptions,
} from "../../proxy/engine/engine.ts";
import { endpointKey } from "../../proxy/load_balancer.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { descriptors, noIpv6, noise, sha256, until } from "../support/tcp.ts";
import { echoPeer, namedPeer, UdpPeer } from "../support/udp.ts";
import {
  type EngineSettings,
  type EngineTest,
  type EngineUnderTest,
  INTERNAL,
  policy,
} from "./engine.ts";

/** A policy for UDP: everyone gets the same endpoints, in turn. */
export function udpPolicy(
  endpoints: readonly EndpointAddress[],
  more: Partial<ForwardingPolicy> = {},
): ForwardingPolicy {
  return policy(endpoints, {
    name: "kube-system/dns:dns",
    protocol: "UDP",
    ...more,
  });
}

export interface OpenUdp {
  readonly forwarder: Forwarder;
  readonly listener: Listener;
  readonly address: EndpointAddress;
}

/** A forwarder with one listener on 127.0.0.1 (or `ip`). */
export async function openUdp(
  engine: EngineUnderTest,
  policy: ForwardingPolicy,
  settings: EngineSettings & {
    readonly ip?: string;
    readonly listen?: ListenOptions;
  } = {},
): Promise<OpenUdp> {
  const { ip = "127.0.0.1", listen = INTERNAL, ...rest } = settings;
  const forwarder = engine.forwarders([policy], rest)[0]!;
  const listener = await forwarder.listen({ ip, port: 0 }, listen);
  return { forwarder, listener, address: listener.address };
}

export const udpTests: readonly EngineTest[] = [
  {
    name: "UDP datagrams of 0 to 65,507 bytes arrive whole, both ways",
    async run(engine) {
      await using endpoint = echoPeer();
      await using client = new UdpPeer();
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([endpoint.address]),
      );
      const sizes = [0, 1, 512, 4_096, 4_097, 60_000, 65_507];
      for (const size of sizes) {
        const data = noise(size);
        assert.equal(sha256(await client.ask(address, data)), sha256(data));
      }
      const bytes = sizes.reduce((sum, size) => sum + size);
      // Counted when the kernel has said yes, which may be after the answer.
      await until(
        "counted",
        () => forwarder.stats().bytesToClients === bytes,
      );
      assert.equal(forwarder.stats().bytesToEndpoints, bytes);
      assert.equal(forwarder.stats().connectionsTotal, 1);
    },
  },
  {
    name: "UDP over IPv6",
    missing: noIpv6(),
    async run(engine) {
      await using endpoint = echoPeer({ ip: "::1" });
      await using client = new UdpPeer({ ip: "::1" });
      const { address } = await openUdp(engine, udpPolicy([endpoint.address]), {
        ip: "::1",
      });
      const data = noise(65_487);
      assert.equal(sha256(await client.ask(address, data)), sha256(data));
    },
  },
  {
    name:
      "[3.42] TCP and UDP of one number are two sockets, and UDP answers come from the address asked",
    async run(engine) {
      await using endpoint = namedPeer("dns");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([endpoint.address]),
        { ip: "127.0.0.2" },
      );
      using _tcp = Deno.listen({ hostname: address.ip, port: address.port });
      // The same port on another address, as every ClusterIP's 53 is.
      await forwarder.listen({ ip: "127.0.0.3", port: address.port }, INTERNAL);
      await using client = new UdpPeer();
      // `ask` compares the address that the answer came from.
      for (const ip of ["127.0.0.2", "127.0.0.3"]) {
        assert.equal(await client.askName({ ...address, ip }), "dns");
      }
      assert.equal(forwarder.stats().connectionsOpen, 2);
    },
  },
  {
    name: "a UDP port that is taken is the system's error",
    async run(engine) {
      await using taken = new UdpPeer();
      const [forwarder] = engine.forwarders([udpPolicy([])]);
      await assert.rejects(
        forwarder!.listen(taken.address, INTERNAL),
        Deno.errors.AddrInUse,
      );
    },
  },
  {
    name: "each UDP client has a flow of its own, and endpoints are in turn",
    async run(engine) {
      const seen = new Set<string>();
      const answer = (name: string) =>
        new UdpPeer({}, ({ from }, peer) => {
          seen.add(endpointKey(from));
          peer.send(name, from);
        });
      await using a = answer("a");
      await using b = answer("b");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([a.address, b.address]),
      );
      let visited = "";
      await using clients = new AsyncDisposableStack();
      for (let n = 0; n < 6; n++) {
        const client = clients.use(new UdpPeer());
        const name = await client.askName(address);
        // A client keeps its endpoint, with or without affinity.
        for (let again = 0; again < 3; again++) {
          assert.equal(await client.askName(address), name);
        }
        visited += name;
      }
      assert.equal(visited, "ababab");
      assert.equal(seen.size, 6, "endpoints tell clients apart");
      const stats = forwarder.stats();
      assert.equal(stats.connectionsOpen, 6);
      assert.equal(stats.connectionsTotal, 6);
      for (const { address } of [a, b]) {
        assert.deepEqual(stats.endpoints.get(endpointKey(address)), {
          connectionsOpen: 3,
          connectionsTotal: 3,
          dialFailures: 0,
        });
      }
    },
  },
  {
    name: "[4.18] affinity holds for a client's UDP flows",
    async run(engine) {
      await using a = namedPeer("a");
      await using b = namedPeer("b");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([a.address, b.address], { affinityMs: 60_000 }),
      );
      const names = new Set<string>();
      for (let n = 0; n < 5; n++) {
        await using client = new UdpPeer();
        names.add(await client.askName(address));
      }
      assert.equal(names.size, 1);
      assert.equal(forwarder.stats().affinityEntries, 1);
      await using other = new UdpPeer({ ip: "127.0.0.9" });
      assert.ok(!names.has(await other.askName(address)));
    },
  },
  {
    name: "UDP clients outside the source ranges are turned away",
    async run(engine) {
      await using endpoint = namedPeer("in");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([endpoint.address]),
        { listen: { scope: "external", sourceRanges: ["127.0.0.8/32"] } },
      );
      await using outsider = new UdpPeer();
      await outsider.send("knock", address);
      await until(
        "refused",
        () => forwarder.stats().connectionsRefused === 1,
      );
      await using insider = new UdpPeer({ ip: "127.0.0.8" });
      assert.equal(await insider.askName(address), "in");
      assert.equal(outsider.received, 0);
      assert.equal(endpoint.received, 1);
    },
  },
  {
    name: "a UDP listener gives its scope's endpoints, or turns away",
    async run(engine) {
      await using inside = namedPeer("inside");
      const lists = udpPolicy([inside.address]).endpoints;
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([], { endpoints: { ...lists, external: [] } }),
      );
      const external = await forwarder.listen(
        { ip: "127.0.0.1", port: 0 },
        { scope: "external", sourceRanges: [] },
      );
      await using client = new UdpPeer();
      await client.send("knock", external.address);
      await until(
        "refused",
        () => forwarder.stats().connectionsRefused === 1,
      );
      assert.equal(await client.askName(address), "inside");
      assert.equal(inside.received, 1);
    },
  },
  {
    name: "a UDP endpoint that cannot be sent to is passed over, datagram kept",
    async run(engine) {
      await using good = namedPeer("good");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([engine.unsendable, good.address], { affinityMs: 60_000 }),
      );
      await using client = new UdpPeer();
      assert.equal(await client.askName(address), "good");
      const stats = forwarder.stats();
      assert.equal(stats.dialFailures, 1);
      assert.equal(stats.connectionsOpen, 1);
      assert.equal(stats.connectionsTotal, 1);
      assert.equal(stats.connectionsFailed, 0);
      const unsendable = stats.endpoints.get(endpointKey(engine.unsendable));
      assert.equal(unsendable?.connectionsTotal, 0);
      assert.equal(unsendable.dialFailures, 1);
      // Affinity is to the one that took it.
      await using again = new UdpPeer();
      assert.equal(await again.askName(address), "good");
      assert.equal(forwarder.stats().dialFailures, 1);
    },
  },
  {
    name:
      "[2.32] a UDP endpoint that is a Service's address is passed over, and never loops",
    async run(engine) {
      await using good = namedPeer("good");
      const { forwarder, address } = await openUdp(engine, udpPolicy([]));
      forwarder.update(udpPolicy([address, good.address]));
      await using client = new UdpPeer();
      assert.equal(await client.askName(address), "good");
      assert.equal(forwarder.stats().connectionsTotal, 1);
      forwarder.update(udpPolicy([address]));
      await client.send("lost", address);
      await until("failed", () => forwarder.stats().connectionsFailed === 1);
      assert.equal(forwarder.stats().connectionsTotal, 2);
    },
  },
  {
    name: "when no UDP endpoint can be sent to, it is counted and goes on",
    async run(engine) {
      await using good = namedPeer("good");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([engine.unsendable]),
      );
      await using client = new UdpPeer();
      await client.send("lost", address);
      await until("failed", () => forwarder.stats().connectionsFailed === 1);
      assert.equal(forwarder.stats().connectionsOpen, 0);
      forwarder.update(udpPolicy([good.address]));
      assert.equal(await client.askName(address), "good");
    },
  },
  {
    name: "a UDP answer is taken from the flow's endpoint only",
    async run(engine) {
      const flows: EndpointAddress[] = [];
      await using endpoint = new UdpPeer({}, ({ from }, peer) => {
        flows.push(from);
        peer.send("true", from);
      });
      const { address } = await openUdp(
        engine,
        udpPolicy([endpoint.address]),
      );
      await using client = new UdpPeer();
      assert.equal(await client.askName(address), "true");
      await using stranger = new UdpPeer();
      const flow = { ip: "127.0.0.1", port: flows[0]!.port };
      // The kernel drops it where the flow's socket is connected, else we do;
      // what comes after it shows that it was not passed on.
      await stranger.send("forged", flow);
      assert.equal(await client.askName(address), "true");
      assert.equal(client.received, 2);
    },
  },
  {
    name: "a silent UDP flow ends after its time-out, which both ways renew",
    async run(engine) {
      const time = engine.time();
      const flows: EndpointAddress[] = [];
      await using endpoint = new UdpPeer({}, ({ from }, peer) => {
        flows.push(from);
        peer.send("hello", from);
      });
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([endpoint.address]),
        { ...time.settings, udpTimeoutMs: time.unitMs },
      );
      const open = () => forwarder.stats().connectionsOpen;
      await using client = new UdpPeer();
      await client.askName(address);
      for (let round = 0; round < time.rounds; round++) {
        await time.pass(0.625);
        await client.askName(address);
        await time.pass(0.625);
        await endpoint.send("unasked", {
          ip: "127.0.0.1",
          port: flows[0]!.port,
        });
        await client.receive();
      }
      await time.pass(0.625);
      assert.equal(open(), 1);
      assert.equal(new Set(flows.map(endpointKey)).size, 1);
      await time.pass(0.375 + 1 / 32);
      await until("ended", () => open() === 0);
      assert.equal(forwarder.stats().flowsEvicted, 0);
      await client.askName(address);
      assert.equal(forwarder.stats().connectionsTotal, 2);
    },
  },
  {
    name: "UDP flows still end when somebody sets the clock back",
    async run(engine) {
      const clock = new FakeClock();
      await using endpoint = namedPeer("a");
      const { forwarder, address } = await openUdp(
        engine,
        udpPolicy([endpoint.address]),
        { clock, udpTimeoutMs: 32_000 },
      );
      await using client = new UdpPeer();
      await client.askName(address);
      clock.jump(-3_600_000);
      await clock.advance(65_000);
      assert.equal(forwarder.stats().connectionsOpen, 0);
    },
  },
  {
    name: "the UDP flow silent for longest makes room, in its Service first",
    async run(engine) {
      await using endpoint = namedPeer("a");
      const policies = [1, 2].map(() => udpPolicy([endpoint.address]));
      const forwarders = engine.forwarders(policies, {
        udpFlowsPerPortMax: 3,
        udpFlowsMax: 4,
      });
      const [first, second] = await Promise.all(
        forwarders.map(async (forwarder) => {
          const anyPort = { ip: "127.0.0.1", port: 0 };
          const { address } = await forwarder.listen(anyPort, INTERNAL);
          return address;
        }),
      );
      const counts = () => forwarders.map((each) => each.stats());
      await using clients = new AsyncDisposableStack();
      const ask = async (address: EndpointAddress) => {
        const client = clients.use(new UdpPeer());
        await client.askName(address);
        return client;
      };
      const old = await ask(first!);
      const used = await ask(first!);
      await ask(first!);
      await old.askName(first!);
      // Full for the first Service: its own oldest goes, which is `used`.
      await ask(first!);
      assert.deepEqual(counts().map((s) => s.connectionsOpen), [3, 0]);
      await old.askName(first!);
      assert.equal(counts()[0]!.connectionsTotal, 4);
      await used.askName(first!);
      assert.equal(counts()[0]!.connectionsTotal, 5);
      assert.equal(counts()[0]!.flowsEvicted, 2);
      // Full for all: the oldest of all goes, which is the first Service's.
      await ask(second!);
      await ask(second!);
      assert.deepEqual(counts().map((s) => s.connectionsOpen), [2, 2]);
      assert.deepEqual(counts().map((s) => s.flowsEvicted), [3, 0]);
    },
  },
  {
    name: "thousands of UDP flows leave no descriptor behind",
    limitMs: 120_000,
    async run(engine) {
      await using endpoint = namedPeer("a");
      const { forwarder, listener, address } = await openUdp(
        engine,
        udpPolicy([endpoint.address]),
        { udpFlowsPerPortMax: 500 },
      );
      await engine.started();
      const before = descriptors();
      for (let n = 0; n < 2_000; n++) {
        await using client = new UdpPeer();
        await client.askName(address);
      }
      assert.ok(forwarder.stats().connectionsOpen <= 500);
      listener.close();
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
      // The listener itself was open before.
      await until("closed", () => descriptors() === before - 1);
    },
  },
];

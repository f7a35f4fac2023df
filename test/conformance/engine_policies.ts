/**
 * Conformance of engines: who may come in, to which endpoints, and what the
 * annotations of a Service ask for.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { EndpointAddress } from "../../proxy/engine/engine.ts";
import { endpointKey } from "../../proxy/load_balancer.ts";
import {
  askName,
  closeQuietly,
  dialEnding,
  dialServer,
  echoServer,
  ending,
  namedServer,
  noIpv6,
  readAll,
  readExactly,
  refusing,
  sleep,
  tcpServer,
  text,
  until,
  writeAll,
} from "../support/tcp.ts";
import {
  parseProxyHeader,
  type ProxyHeader,
} from "../support/proxy_protocol.ts";
import { type EngineTest, INTERNAL, policy } from "./engine.ts";

/** Clients of loopback have any address they like only where all are local. */
const noClientAddresses = Deno.build.os === "linux"
  ? undefined
  : "only Linux has all of 127.0.0.0/8 on loopback";

const LONG_MS = 600_000;

async function roundTrip(connection: Deno.Conn, word = "ping"): Promise<void> {
  await writeAll(connection, text(word));
  assert.deepEqual(await readExactly(connection, word.length), text(word));
}

const affinityTests: readonly EngineTest[] = [
  {
    name:
      "[4.4, 4.6, 4.20, 12.23, 12.26, 12.87] a client stays at its endpoint, by whichever listener",
    missing: noClientAddresses,
    async run(engine) {
      await using a = namedServer("a");
      await using b = namedServer("b");
      const { forwarder, address } = await engine.serve(
        policy([a.address, b.address], { affinityMs: LONG_MS }),
      );
      const other = await forwarder.listen({ ip: "127.0.0.1", port: 0 }, {
        scope: "external",
        sourceRanges: [],
      });
      let visited = "";
      for (let count = 0; count < 15; count++) {
        const to = count % 2 === 0 ? address : other.address;
        visited += await askName(to, "127.0.0.5");
        visited += await askName(to, "127.0.0.6");
      }
      assert.equal(visited, "ab".repeat(15));
      assert.equal(forwarder.stats().affinityEntries, 2);
    },
  },
  {
    name:
      "[4.15, 12.25, 12.28] affinity is switched off and on by update(), inside and outside",
    async run(engine) {
      await using a = namedServer("a");
      await using b = namedServer("b");
      const endpoints = [a.address, b.address];
      for (const scope of ["internal", "external"] as const) {
        const { forwarder, address } = await engine.serve(
          policy(endpoints),
          { scope },
        );
        const ask3 = async () =>
          await askName(address) + await askName(address) +
          await askName(address);
        assert.equal(await ask3(), "aba");
        forwarder.update(policy(endpoints, { affinityMs: LONG_MS }));
        assert.equal(await ask3(), "bbb");
        forwarder.update(policy(endpoints));
        assert.equal(await ask3(), "aba");
        assert.equal(forwarder.stats().affinityEntries, 0);
      }
    },
  },
  {
    name:
      "[4.11, 4.21, 12.24, 12.27] a client may go elsewhere after the timeout, inside and outside",
    async run(engine) {
      await using a = namedServer("a");
      await using b = namedServer("b");
      for (const scope of ["internal", "external"] as const) {
        const { address, forwarder } = await engine.serve(
          policy([a.address, b.address], { affinityMs: 50 }),
          { scope },
        );
        assert.equal(await askName(address), "a");
        await until("forgotten", () => forwarder.stats().affinityEntries === 0);
        assert.equal(await askName(address), "b");
      }
    },
  },
  {
    name: "[4.5] two ports may send a client to two endpoints",
    async run(engine) {
      await using a = namedServer("a");
      await using b = namedServer("b");
      const sticky = (...endpoints: EndpointAddress[]) =>
        engine.serve(policy(endpoints, { affinityMs: LONG_MS }));
      const http = await sticky(a.address, b.address);
      const https = await sticky(b.address, a.address);
      for (let count = 0; count < 3; count++) {
        assert.equal(await askName(http.address), "a");
        assert.equal(await askName(https.address), "b");
      }
    },
  },
  {
    name: "[4.17] a client whose endpoint refuses stays at the next one",
    async run(engine) {
      await using a = namedServer("a");
      await using b = namedServer("b");
      const { forwarder, address } = await engine.serve(
        policy([refusing(), a.address, b.address], { affinityMs: LONG_MS }),
      );
      for (let count = 0; count < 3; count++) {
        assert.equal(await askName(address), "a");
      }
      assert.equal(forwarder.stats().dialFailures, 1);
    },
  },
];

const balancerTests: readonly EngineTest[] = [
  {
    name: "least connections goes where fewest are open",
    async run(engine) {
      await using a = echoServer();
      await using b = echoServer();
      const endpoints = [a.address, b.address];
      const { forwarder, address } = await engine.serve(
        policy(endpoints, { balancer: "least-connections" }),
      );
      const open = (index: number) =>
        forwarder.stats().endpoints.get(endpointKey(endpoints[index]!))
          ?.connectionsOpen;
      const connections: Deno.TcpConn[] = [];
      try {
        for (let count = 0; count < 4; count++) {
          const connection = await dialServer(address);
          connections.push(connection);
          await roundTrip(connection);
        }
        assert.deepEqual([open(0), open(1)], [2, 2]);
        // Those of the first endpoint end: the next two are both its.
        for (const index of [0, 2]) {
          await connections[index]!.closeWrite();
          await ending(connections[index]!);
        }
        await until("ended", () => open(0) === 0);
        for (let count = 0; count < 2; count++) {
          const connection = await dialServer(address);
          connections.push(connection);
          await roundTrip(connection);
        }
        assert.deepEqual([open(0), open(1)], [2, 2]);
        assert.deepEqual([a.accepted, b.accepted], [4, 2]);
      } finally {
        for (const connection of connections) closeQuietly(connection);
      }
    },
  },
];

const admissionTests: readonly EngineTest[] = [
  {
    name:
      "[6.30, 6.31, 6.32, 6.35, 12.86] a client outside the source ranges is turned away, and no endpoint is asked",
    missing: noClientAddresses,
    async run(engine) {
      await using server = namedServer("good");
      const { forwarder, address } = await engine.serve(
        policy([server.address]),
        {
          scope: "external",
          sourceRanges: ["127.0.5.0/24", "fd00::/8"],
          // Being a pod of this cluster is no pass.
          clusterSources: ["127.0.0.0/8"],
        },
      );
      assert.equal(await askName(address, "127.0.4.9"), "");
      await until("counted", () => forwarder.stats().connectionsRefused === 1);
      assert.equal(server.accepted, 0);
      assert.equal(await askName(address, "127.0.5.9"), "good");
      const stats = forwarder.stats();
      assert.equal(stats.connectionsTotal, 2);
      assert.equal(stats.connectionsRefused, 1);
      assert.equal(stats.connectionsFailed, 0);
    },
  },
  {
    name: "an IPv4 client does not pass source ranges as an IPv6 one",
    missing: noClientAddresses ?? noIpv6(),
    async run(engine) {
      await using server = namedServer("good");
      const { forwarder } = await engine.serve(policy([server.address]));
      const { address: { port } } = await forwarder.listen(
        { ip: "::", port: 0 },
        // All of IPv6, in which IPv4 clients have an address too.
        { scope: "external", sourceRanges: ["127.0.5.0/24", "::/0"] },
      );
      const address = { ip: "127.0.0.1", port };
      assert.equal(await askName(address, "127.0.4.9"), "");
      assert.equal(server.accepted, 0);
      // Or not at all: an engine may keep IPv4 from IPv6 listeners.
      assert.match(await askName(address, "127.0.5.9"), /^(good)?$/);
    },
  },
  {
    name:
      "[5.51, 5.52] clients of this cluster get the endpoints of the cluster at an external address",
    missing: noClientAddresses,
    async run(engine) {
      await using local = namedServer("local");
      await using remote = namedServer("remote");
      const served = await engine.serve(
        policy([], {
          endpoints: {
            internal: [],
            external: [local.address],
            externalFromCluster: [remote.address],
            serving: [],
          },
        }),
        { scope: "external", clusterSources: ["127.0.5.0/24"] },
      );
      assert.equal(await askName(served.address, "127.0.5.1"), "remote");
      assert.equal(await askName(served.address, "127.0.6.1"), "local");
      served.engine.setClusterSources(["127.0.6.0/24"]);
      assert.equal(await askName(served.address, "127.0.5.1"), "local");
      assert.equal(await askName(served.address, "127.0.6.1"), "remote");
    },
  },
  {
    name:
      "[5.47] an external policy without a local endpoint turns outsiders away, not the cluster",
    missing: noClientAddresses,
    async run(engine) {
      await using remote = namedServer("remote");
      const { forwarder, address } = await engine.serve(
        policy([remote.address], {
          endpoints: {
            internal: [remote.address],
            external: [],
            externalFromCluster: [remote.address],
            serving: [remote.address],
          },
        }),
        { scope: "external", clusterSources: ["127.0.5.0/24"] },
      );
      assert.equal(await askName(address, "127.0.6.1"), "");
      assert.equal(await askName(address, "127.0.5.1"), "remote");
      assert.equal(forwarder.stats().connectionsRefused, 1);
      const inside = await forwarder.listen(
        { ip: "127.0.0.1", port: 0 },
        INTERNAL,
      );
      assert.equal(await askName(inside.address, "127.0.6.1"), "remote");
    },
  },
  {
    name: "[6.35] a client that is turned away is reset",
    async run(engine) {
      const { address } = await engine.serve(policy([]));
      assert.equal(await dialEnding(address), "reset");
    },
  },
];

/** A request is a byte, and so is its answer, some time later. */
function slowServer(delayMs: number) {
  return tcpServer(async (connection) => {
    const byte = new Uint8Array(1);
    while (await connection.read(byte) !== null) {
      await sleep(delayMs);
      await writeAll(connection, byte);
    }
  });
}

const ageTests: readonly EngineTest[] = [
  {
    name: "a connection at rest is ended at its maximum age, and not before",
    async run(engine) {
      await using server = echoServer();
      const { forwarder, address } = await engine.serve(
        policy([server.address], { maxConnectionAgeMs: 500 }),
      );
      const begin = performance.now();
      using connection = await dialServer(address);
      await roundTrip(connection);
      await ending(connection);
      assert.ok(performance.now() - begin > 400);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
    },
  },
  {
    name: "a connection whose answer is due is ended after the answer",
    async run(engine) {
      await using server = slowServer(1_700);
      const { address } = await engine.serve(
        policy([server.address], { maxConnectionAgeMs: 1_500 }),
      );
      using connection = await dialServer(address);
      // Not before the answer, which comes after the age.
      await roundTrip(connection, "?");
      await ending(connection);
    },
  },
  {
    name: "a connection whose answer never comes is ended at twice its age",
    async run(engine) {
      await using server = tcpServer(async (connection) => {
        await readAll(connection);
      });
      const { forwarder, address } = await engine.serve(
        policy([server.address], { maxConnectionAgeMs: 1_000 }),
      );
      const begin = performance.now();
      using connection = await dialServer(address);
      await writeAll(connection, text("?"));
      await ending(connection);
      assert.ok(performance.now() - begin > 500);
      await until("ended", () => forwarder.stats().connectionsOpen === 0);
    },
  },
  {
    name: "an open connection follows a changed maximum age",
    async run(engine) {
      await using server = echoServer();
      const endpoints = [server.address];
      const { forwarder, address } = await engine.serve(policy(endpoints));
      using connection = await dialServer(address);
      await roundTrip(connection);
      forwarder.update(policy(endpoints, { maxConnectionAgeMs: 600_000 }));
      forwarder.update(policy(endpoints, { maxConnectionAgeMs: 100 }));
      await ending(connection);
    },
  },
];

/** Takes the header apart, and answers what follows it. */
function proxiedServer(headers: ProxyHeader[], ip?: string) {
  return tcpServer(async (connection) => {
    const bytes = await readAll(connection);
    const header = parseProxyHeader(bytes);
    assert.ok(header !== undefined);
    headers.push(header);
    await writeAll(connection, bytes.subarray(header.length));
  }, ip);
}

const proxyProtocolTests: readonly EngineTest[] = [
  ...(["v1", "v2"] as const).flatMap((version) =>
    (["127.0.0.1", "::1"] as const).map((ip): EngineTest => ({
      name: `PROXY protocol ${version} tells the endpoint its client (${ip})`,
      missing: noIpv6(),
      async run(engine) {
        const headers: ProxyHeader[] = [];
        // The endpoint's own family is not what counts.
        await using server = proxiedServer(headers);
        const { forwarder, address } = await engine.serve(
          policy([refusing(), server.address], { proxyProtocol: version }),
          { ip },
        );
        using connection = await dialServer(address);
        await writeAll(connection, text("hello"));
        await connection.closeWrite();
        assert.deepEqual(await readAll(connection), text("hello"));
        const [header] = headers;
        assert.deepEqual(header?.source, {
          ip,
          port: connection.localAddr.port,
        });
        assert.deepEqual(header?.destination, address);
        await until("ended", () => forwarder.stats().connectionsOpen === 0);
        // The client's bytes, not ours.
        assert.equal(forwarder.stats().bytesToEndpoints, 5);
      },
    }))
  ),
  {
    name: "PROXY protocol names the address that clients use",
    async run(engine) {
      const headers: ProxyHeader[] = [];
      await using server = proxiedServer(headers);
      const serviceAddress = { ip: "10.96.0.10", port: 53 };
      const { address } = await engine.serve(
        policy([server.address], { proxyProtocol: "v2" }),
        { serviceAddress },
      );
      using connection = await dialServer(address);
      await connection.closeWrite();
      await readAll(connection);
      assert.deepEqual(headers[0]?.destination, serviceAddress);
    },
  },
  {
    name: "PROXY protocol reaches an endpoint that speaks first",
    async run(engine) {
      await using server = tcpServer(async (connection) => {
        const header = new Uint8Array(28);
        assert.ok(await connection.read(header) === 28);
        await writeAll(connection, text("220 ready"));
        await connection.read(header);
      });
      const { address } = await engine.serve(
        policy([server.address], { proxyProtocol: "v2" }),
      );
      using connection = await dialServer(address);
      assert.deepEqual(await readExactly(connection, 9), text("220 ready"));
    },
  },
];

export const policyTests: readonly EngineTest[] = [
  ...affinityTests,
  ...balancerTests,
  ...admissionTests,
  ...ageTests,
  ...proxyProtocolTests,
];

import assert from "node:assert/strict";
import type { EndpointAddress } from "../../../../proxy/engine/engine.ts";
import { OwnAddresses } from "../../../../proxy/engine/own_addresses.ts";
import { connectToAny, dial } from "../../../../proxy/engine/portable/dial.ts";
import { LoadBalancer } from "../../../../proxy/load_balancer.ts";
import { systemClock } from "../../../../watch/mod.ts";
import { balancing } from "../../../support/balancing.ts";
import { blackHole, echoServer, refusing } from "../../../support/tcp.ts";

const FOREVER = new AbortController().signal;

function balancerOf(endpoints: readonly EndpointAddress[]): LoadBalancer {
  return new LoadBalancer(balancing(endpoints), { clock: systemClock });
}

Deno.test("dial() says connected, refused or timeout", async () => {
  await using server = echoServer();
  const connected = await dial(server.address, {
    timeoutMs: 10_000,
    signal: FOREVER,
  });
  assert.equal(connected.type, "connected");
  if (connected.type === "connected") connected.connection.close();

  const refused = await dial(refusing(), {
    timeoutMs: 10_000,
    signal: FOREVER,
  });
  assert.equal(refused.type, "refused");

  await using silent = await blackHole();
  const late = await dial(silent.address, { timeoutMs: 20, signal: FOREVER });
  assert.deepEqual(late, { type: "timeout" });
});

Deno.test("dial() ends when its signal is aborted, before or meanwhile", async () => {
  await using silent = await blackHole();
  const before = await dial(silent.address, {
    timeoutMs: 60_000,
    signal: AbortSignal.abort(),
  });
  assert.deepEqual(before, { type: "aborted" });
  const leaving = new AbortController();
  const dialling = dial(silent.address, {
    timeoutMs: 60_000,
    signal: leaving.signal,
  });
  leaving.abort();
  assert.deepEqual(await dialling, { type: "aborted" });
});

Deno.test("dial() closes a connection that was made just before the abort", async () => {
  await using server = echoServer();
  const leaving = new AbortController();
  const connect = Deno.connect;
  try {
    // What Deno does, with the abort at the one moment that matters.
    Deno.connect = (async (options: Deno.ConnectOptions) => {
      const { signal, ...address } = options;
      const connection = await connect(address);
      leaving.abort();
      signal?.throwIfAborted();
      return connection;
    }) as typeof Deno.connect;
    const result = await dial(server.address, {
      timeoutMs: 60_000,
      signal: leaving.signal,
    });
    assert.deepEqual(result, { type: "aborted" });
  } finally {
    Deno.connect = connect;
  }
  // The runner's check for leaked connections is the assertion.
});

Deno.test("connectToAny() without endpoints has asked nobody", async () => {
  const result = await connectToAny(balancerOf([]), {
    client: { ip: "10.0.0.1", port: 1 },
    list: "internal",
    ownAddresses: new OwnAddresses(),
    timeoutsMs: [10],
    signal: FOREVER,
    dialFailed: () => assert.fail(),
  });
  assert.deepEqual(result, { type: "failed", reason: "no endpoint" });
});

Deno.test("connectToAny() gives time-outs to those that are silent, in order", async () => {
  await using silent = await blackHole();
  const endpoints = [refusing(1), silent.address, refusing(2)];
  const asked: string[] = [];
  const result = await connectToAny(balancerOf(endpoints), {
    client: { ip: "10.0.0.1", port: 1 },
    list: "internal",
    ownAddresses: new OwnAddresses(),
    timeoutsMs: [10, 20, 30],
    signal: FOREVER,
    dialFailed: (endpoint, failure) =>
      asked.push(`${endpoints.indexOf(endpoint)} ${failure.type}`),
  });
  assert.deepEqual(result, { type: "failed", reason: "timeout" });
  assert.deepEqual(asked, [
    "0 refused",
    "1 timeout",
    "2 refused",
    "1 timeout",
    "1 timeout",
  ]);
});

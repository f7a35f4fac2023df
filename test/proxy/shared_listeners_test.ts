import assert from "node:assert/strict";
import type {
  ForwardingPolicy,
  Listener,
  RedirectedListener,
} from "../../proxy/engine/engine.ts";
import { SharedListeners } from "../../proxy/shared_listeners.ts";
import { FakeEngine } from "../support/fake_engine.ts";

const OPTIONS = { scope: "internal", sourceRanges: [] } as const;
const BIND = { ip: "169.254.107.1", port: 20_000 };
const POLICY: ForwardingPolicy = {
  name: "default/web:http",
  protocol: "TCP",
  endpoints: {
    internal: [],
    external: [],
    externalFromCluster: [],
    serving: [],
  },
  affinityMs: 0,
  balancer: "round-robin",
  maxConnectionAgeMs: 0,
  proxyProtocol: "none",
};

/** An engine whose shared listeners say what happens to them. */
class SharingEngine extends FakeEngine {
  readonly said: string[] = [];
  error: Error | undefined;
  /** The Service address that no route is made to. */
  unroutable: string | undefined;

  listenForRedirected(address: typeof BIND): Promise<RedirectedListener> {
    const { said, error } = this;
    if (error !== undefined) return Promise.reject(error);
    said.push(`open ${address.port}`);
    return Promise.resolve({
      address,
      route: ({ ip }) => {
        said.push(`route ${ip}`);
        if (ip === this.unroutable) throw new Error("no such route");
      },
      start: () => said.push("start"),
      unroute: ({ ip }) => said.push(`unroute ${ip}`),
      close: () => said.push(`close ${address.port}`),
    });
  }
}

function listen(
  listeners: SharedListeners,
  engine: FakeEngine,
  ip: string,
): Promise<Listener> {
  const serviceAddress = { ip, port: 80 };
  const forwarder = engine.forwarder(POLICY);
  return listeners.listen(BIND, {
    serviceAddress,
    forwarder,
    options: { ...OPTIONS, serviceAddress },
  });
}

Deno.test("SharedListeners opens one port for all, until nobody is left", async () => {
  const engine = new SharingEngine();
  const listeners = new SharedListeners(engine);
  const both = await Promise.all(
    ["10.96.0.1", "10.96.0.2"].map((ip) => listen(listeners, engine, ip)),
  );
  assert.deepEqual(both.map(({ address }) => address), [BIND, BIND]);
  for (const listener of both) {
    listener.close();
    listener.close();
  }
  assert.deepEqual(engine.said, [
    "open 20000",
    "route 10.96.0.1",
    "route 10.96.0.2",
    "unroute 10.96.0.1",
    "unroute 10.96.0.2",
    "close 20000",
  ]);
  (await listen(listeners, engine, "10.96.0.3")).close();
  assert.equal(engine.said.at(-1), "close 20000");
});

Deno.test("SharedListeners accepts when all routes are known, and not while they go", async () => {
  const engine = new SharingEngine();
  const listeners = new SharedListeners(engine);
  const first = await listen(listeners, engine, "10.96.0.1");
  await listen(listeners, engine, "10.96.0.2");
  listeners.start();
  listeners.start();
  listeners.close();
  first.close();
  assert.deepEqual(engine.said, [
    "open 20000",
    "route 10.96.0.1",
    "route 10.96.0.2",
    "start",
    "close 20000",
    "unroute 10.96.0.1",
  ]);
});

Deno.test("SharedListeners tries again after the port could not be opened", async () => {
  const engine = new SharingEngine();
  const listeners = new SharedListeners(engine);
  engine.error = new Deno.errors.AddrInUse("Address in use");
  await assert.rejects(listen(listeners, engine, "10.96.0.1"), engine.error);
  engine.error = undefined;
  (await listen(listeners, engine, "10.96.0.1")).close();
  assert.deepEqual(engine.said.slice(0, 2), ["open 20000", "route 10.96.0.1"]);
});

Deno.test("SharedListeners gives the port back where a route fails, but for others", async () => {
  const engine = new SharingEngine();
  const listeners = new SharedListeners(engine);
  engine.unroutable = "10.96.0.2";
  const refused = () =>
    assert.rejects(listen(listeners, engine, "10.96.0.2"), /no such route/);
  const first = await listen(listeners, engine, "10.96.0.1");
  await refused();
  assert.ok(!engine.said.includes("close 20000"));
  first.close();
  assert.equal(engine.said.at(-1), "close 20000");
  await refused();
  assert.deepEqual(engine.said.slice(-3), [
    "open 20000",
    "route 10.96.0.2",
    "close 20000",
  ]);
});

Deno.test("SharedListeners refuses an engine that cannot tell connections apart", async () => {
  const engine = new FakeEngine();
  const listeners = new SharedListeners(engine);
  await assert.rejects(listen(listeners, engine, "10.96.0.1"), TypeError);
});

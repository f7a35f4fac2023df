import assert from "node:assert/strict";
import type { BindAddress } from "../../../proxy/commands/addresses.ts";
import { UserError } from "../../../proxy/commands/errors.ts";
import {
  servePersistently,
  serveStatus,
  type StatusServer,
  statusServers,
} from "../../../proxy/commands/serve_status.ts";
import type { RunningProxy } from "../../../proxy/commands/running_proxy.ts";
import { EventFeed } from "../../../proxy/status/event_feed.ts";
import { freePort } from "../../support/kube_portal.ts";
import { FakeSource } from "../../support/status_source.ts";
import { FakeClock } from "../../support/fake_clock.ts";

const FLAG = "metrics-bind-address";

function taken() {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  return { listener, address: { ip: "127.0.0.1", port } };
}

const load = () => Promise.resolve(() => new Response("served"));

Deno.test("[7.23] servePersistently() tries every 5 s for an address that somebody has", async () => {
  const { listener, address } = taken();
  const clock = new FakeClock();
  await using server = servePersistently({ address, flag: FLAG, load, clock });
  await clock.untilSleeping();
  assert.equal(clock.nextInMs, 5_000);
  await clock.advance(5_000);
  assert.equal(clock.nextInMs, 5_000);
  listener.close();
  await clock.advance(5_000);
  await server.listening;
  using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  const url = `http://127.0.0.1:${address.port}/`;
  assert.equal(await (await fetch(url, { client })).text(), "served");
});

Deno.test("[7.23] servePersistently() with hardFail says at once that an address is taken", async () => {
  const { listener, address } = taken();
  using _listener = listener;
  const clock = new FakeClock();
  await using server = servePersistently({
    address,
    flag: FLAG,
    load,
    clock,
    hardFail: true,
  });
  await assert.rejects(server.listening, UserError);
});

Deno.test("servePersistently() ends while it waits for its address", async () => {
  const { listener, address } = taken();
  using _listener = listener;
  const clock = new FakeClock();
  const server = servePersistently({ address, flag: FLAG, load, clock });
  await clock.untilSleeping();
  await server[Symbol.asyncDispose]();
  await server.listening;
  assert.equal(clock.sleeping, 0);
});

/** The parts of a running proxy that status asks for. */
function fakeProxy(): RunningProxy {
  const source = new FakeSource();
  return {
    mode: "userspace",
    nodeName: "n1",
    engine: "portable",
    counters: source.counters,
    state: source.all,
    ports: () => source.ports(),
    draining: () => source.draining(),
    health: () => source.health(),
    sources: () => source.sources(),
    steering: () => source.steering(),
    kernelCounts: () => source.kernelCounts(),
  } as unknown as RunningProxy;
}

const LOOPBACK = { ip: "127.0.0.1", port: 10249 };
const ALL = { ip: "0.0.0.0", port: 10249 };
const OTHER = { ip: "192.0.2.1", port: 8080 };

const serving: readonly {
  name: string;
  metrics?: BindAddress;
  dashboard?: BindAddress;
  want: StatusServer[];
}[] = [
  {
    name: "shows the dashboard on the metrics port where that is on loopback",
    metrics: LOOPBACK,
    want: [{ address: LOOPBACK, serves: "both" }],
  },
  {
    name: "shows no dashboard on a metrics port that others can reach",
    metrics: ALL,
    want: [{ address: ALL, serves: "metrics" }],
  },
  {
    name: "shows the dashboard on a port of its own, if it is given one",
    metrics: ALL,
    dashboard: OTHER,
    want: [
      { address: ALL, serves: "metrics" },
      { address: OTHER, serves: "dashboard" },
    ],
  },
  {
    name: "shows both on one address, if both are given it",
    metrics: ALL,
    dashboard: { ...ALL },
    want: [{ address: ALL, serves: "both" }],
  },
  {
    name: "shows the dashboard without metrics",
    dashboard: OTHER,
    want: [{ address: OTHER, serves: "dashboard" }],
  },
];

for (const { name, metrics, dashboard, want } of serving) {
  Deno.test(`statusServers() ${name}`, () => {
    const found = statusServers({
      metricsAddress: metrics,
      dashboardAddress: dashboard,
    });
    assert.deepEqual(found, want);
  });
}

Deno.test("serveStatus() answers on each of its ports, and ends", async () => {
  const metrics = { ip: "127.0.0.1", port: freePort() };
  const dashboard = { ip: "127.0.0.1", port: freePort() };
  using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  const ask = async (port: number, path: string) => {
    const url = `http://127.0.0.1:${port}${path}`;
    const answer = await fetch(url, { client });
    await answer.body?.cancel();
    return answer.status;
  };
  {
    await using server = serveStatus({
      metricsAddress: metrics,
      dashboardAddress: dashboard,
      proxy: fakeProxy(),
      configz: () => ({}),
      flags: {},
      feed: new EventFeed(),
      clock: new FakeClock(),
      hardFail: true,
    });
    await server.listening;
    assert.equal(await ask(metrics.port, "/"), 200);
    assert.equal(await ask(metrics.port, "/metrics"), 200);
    assert.equal(await ask(dashboard.port, "/"), 200);
    assert.equal(await ask(dashboard.port, "/metrics"), 404);
  }
  await assert.rejects(ask(metrics.port, "/"));
  await assert.rejects(ask(dashboard.port, "/"));
});

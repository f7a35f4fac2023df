/** The stages together: a source in memory, an engine without sockets. */
import assert from "node:assert/strict";
import type { RunningProxy } from "../../../proxy/commands/running_proxy.ts";
import { startProxy } from "../../../proxy/commands/start_proxy.ts";
import type {
  ClusterObject,
  EndpointSlice,
  Node,
  Service,
  SourceEvent,
} from "../../../watch/types.ts";
import { FakeClock } from "../../support/fake_clock.ts";
import { FakeEngine } from "../../support/fake_engine.ts";
import { collectLog } from "../../support/log_lines.ts";
import { FakeSteering } from "../../support/fake_steering.ts";
import { countOf } from "../../../proxy/distribution.ts";
import { freePort } from "../../support/kube_portal.ts";
import {
  node,
  service,
  type ServiceOverrides,
  slice,
} from "../../support/objects.ts";

/** Yields one complete list, then what is sent, until the signal. */
class FakeStream<T extends ClusterObject> {
  readonly #first: readonly T[];
  #next = Promise.withResolvers<SourceEvent<T>>();

  constructor(first: readonly T[]) {
    this.#first = first;
  }

  send(object: T): void {
    this.#next.resolve({ type: "applied", object });
  }

  fail(error: Error): void {
    this.#next.reject(error);
  }

  async *follow(signal: AbortSignal): AsyncGenerator<SourceEvent<T>> {
    const ended = new Promise<undefined>((resolve) =>
      signal.addEventListener("abort", () => resolve(undefined))
    );
    yield { type: "replaced", objects: this.#first, unreadable: new Set() };
    for (;;) {
      const event = await Promise.race([this.#next.promise, ended]);
      if (event === undefined) return;
      this.#next = Promise.withResolvers();
      yield event;
    }
  }
}

const NODE_PORT: ServiceOverrides = {
  type: "NodePort",
  ports: [{ port: 80, nodePort: 30_080 }],
};

interface Started extends AsyncDisposable {
  readonly slices: FakeStream<EndpointSlice>;
  readonly clock: FakeClock;
  readonly engine: FakeEngine;
  readonly steering: FakeSteering;
  readonly interfaces: string[];
  readonly nodes: FakeStream<Node>;
  readonly proxy: RunningProxy;
}

async function start(given: ServiceOverrides): Promise<Started> {
  const clock = new FakeClock();
  const engine = new FakeEngine();
  const steering = new FakeSteering();
  const interfaces = ["127.0.0.1", "192.0.2.7"];
  const services = new FakeStream<Service>([service("default/web", given)]);
  const slices = new FakeStream<EndpointSlice>([
    slice("default/web-1", {
      endpoints: [{ ip: "10.1.0.1", nodeName: "n1" }],
    }),
  ]);
  const nodes = new FakeStream<Node>([]);
  const proxy = startProxy({
    source: (signal) => ({
      services: services.follow(signal),
      endpointSlices: slices.follow(signal),
      node: nodes.follow(signal),
    }),
    nodeName: "n1",
    apiServers: new Set(),
    addresses: { clusterCidrs: ["10.244.0.0/16"] },
    interfaceIps: () => {
      assert.ok(interfaces.length > 0, "no interfaces");
      return interfaces;
    },
    engine,
    clock,
    steering: () => Promise.resolve(steering),
  });
  await proxy.ready;
  return {
    clock,
    engine,
    steering,
    interfaces,
    nodes,
    slices,
    proxy,
    async [Symbol.asyncDispose]() {
      await proxy.stop(AbortSignal.abort());
    },
  };
}

Deno.test("startProxy() tells of a stage that fails after it was ready", async () => {
  await using started = await start(NODE_PORT);
  const error = new Error("Cannot go on");
  started.slices.fail(error);
  await assert.rejects(started.proxy.failed, error);
});

Deno.test("startProxy() says once that the own Node is not there", async () => {
  await using log = await collectLog();
  await using started = await start(NODE_PORT);
  await started.clock.advance(60_000);
  const said = log.lines.filter((line) =>
    line.includes("no Node of this name")
  );
  assert.equal(said.length, 1, log.lines.join(""));
  assert.match(said[0] ?? "", /node=n1/);
});

Deno.test("startProxy() loses no change where the node's addresses cannot be had", async () => {
  await using log = await collectLog("error");
  await using started = await start(NODE_PORT);
  const { clock, engine, interfaces, slices } = started;
  const before = interfaces.splice(0);
  await clock.advance(30_000);
  const moved = slice("default/web-1", {
    endpoints: [{ ip: "10.1.0.2", nodeName: "n1" }],
  });
  slices.send({
    ...moved,
    metadata: { ...moved.metadata, resourceVersion: "2" },
  });
  await clock.advance(0);
  assert.match(log.lines.join(), /Cannot look at the node's addresses/);
  assert.deepEqual(engine.endpointsAt("10.96.0.10:80"), ["10.1.0.2:8080"]);
  interfaces.push(...before, "192.0.2.8");
  await clock.advance(30_000);
  assert.ok(engine.listening.includes("192.0.2.8:30080"));
});

Deno.test("[6.5] startProxy() reads the node's addresses again in every sync period", async () => {
  await using started = await start(NODE_PORT);
  const { clock, engine, steering, interfaces } = started;
  assert.deepEqual(engine.listening, [
    "10.96.0.10:80",
    "127.0.0.1:30080",
    "192.0.2.7:30080",
  ]);
  // An address that steering gave the machine is not the node's.
  steering.ours.add("10.96.0.99");
  interfaces.splice(0, 2, "127.0.0.1", "192.0.2.8", "10.96.0.99");
  await clock.advance(30_000);
  assert.deepEqual(engine.listening, [
    "10.96.0.10:80",
    "127.0.0.1:30080",
    "192.0.2.8:30080",
  ]);
  assert.ok(engine.clusterSources.includes("192.0.2.8/32"));
  assert.ok(!engine.clusterSources.includes("10.96.0.99/32"));
});

Deno.test("[6.5, 8.18] setAddresses() moves NodePorts at once, and takes them off loopback addresses", async () => {
  await using started = await start(NODE_PORT);
  const { clock, engine, proxy } = started;
  proxy.setAddresses({ localhostNodePorts: false });
  await clock.advance(0);
  assert.deepEqual(engine.listening, ["10.96.0.10:80", "192.0.2.7:30080"]);
  assert.ok(!engine.clusterSources.includes("10.244.0.0/16"));
  proxy.setAddresses({
    nodePorts: { cidrs: ["127.0.0.0/8"], primary: false },
    clusterCidrs: ["10.9.0.0/16"],
  });
  await clock.advance(0);
  assert.deepEqual(engine.listening, ["10.96.0.10:80", "127.0.0.1:30080"]);
  assert.ok(engine.clusterSources.includes("10.9.0.0/16"));
});

Deno.test("[5.51, 5.52] startProxy() counts pods of --cluster-cidr and of the own Node as the cluster's, from when it knows them", async () => {
  await using started = await start(NODE_PORT);
  const { clock, engine, nodes } = started;
  assert.ok(engine.clusterSources.includes("10.244.0.0/16"));
  nodes.send(node("n1", { podCIDRs: ["10.200.7.0/24"] }));
  await clock.advance(0);
  assert.ok(engine.clusterSources.includes("10.200.7.0/24"));
});

Deno.test("[6.36, 6.40] startProxy() answers health checks of Services on the addresses for NodePorts", async () => {
  const port = freePort();
  const given: ServiceOverrides = {
    type: "LoadBalancer",
    externalTrafficPolicy: "Local",
    healthCheckNodePort: port,
  };
  using client = Deno.createHttpClient({});
  const ask = () => fetch(`http://127.0.0.1:${port}/`, { client });
  {
    await using started = await start(given);
    started.interfaces.splice(1);
    await started.clock.advance(30_000);
    const answer = await ask();
    assert.equal(answer.status, 200);
    assert.equal((await answer.json()).localEndpoints, 1);
  }
  await assert.rejects(ask());
});

Deno.test("[9.11, 9.12] startProxy() counts changes and syncs, and times what a sync made so", async () => {
  await using started = await start({});
  const { clock, proxy, slices, steering } = started;
  const { counters } = proxy;
  assert.deepEqual([counters.serviceChanges, counters.endpointChanges], [1, 1]);
  assert.deepEqual([counters.servicesPending, counters.endpointsPending], [
    0,
    0,
  ]);
  const syncs = countOf(counters.syncSeconds);
  assert.ok(syncs > 0);
  await clock.advance(2_000);
  const changed = (ip: string) => {
    const made = slice("default/web-1", { endpoints: [ip] });
    const annotations = {
      "endpoints.kubernetes.io/last-change-trigger-time": new Date(
        clock.now() - 1_500,
      ).toISOString(),
    };
    return {
      ...made,
      metadata: { ...made.metadata, annotations, resourceVersion: ip },
    };
  };
  slices.send(changed("10.1.0.2"));
  await clock.advance(0);
  const { IPv4 } = counters.programmingSeconds;
  assert.deepEqual([countOf(IPv4), IPv4.sum], [1, 1.5]);
  assert.equal(proxy.health().syncs.IPv4?.requestedAt, clock.now());
  assert.equal(proxy.steering()?.name, steering.name);
});

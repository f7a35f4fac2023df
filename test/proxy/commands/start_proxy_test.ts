/** The stages together: a source in memory, an engine without sockets. */
import assert from "node:assert/strict";
import {
  type RunningProxy,
  startProxy,
} from "../../../proxy/commands/start_proxy.ts";
import type {
  ClusterObject,
  EndpointSlice,
  Node,
  Service,
  SourceEvent,
} from "../../../watch/types.ts";
import { FakeClock } from "../../support/fake_clock.ts";
import { FakeEngine } from "../../support/fake_engine.ts";
import { FakeSteering } from "../../support/fake_steering.ts";
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
    clusterCidrs: ["10.244.0.0/16"],
    interfaceIps: () => interfaces,
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
    proxy,
    async [Symbol.asyncDispose]() {
      await proxy.stop(AbortSignal.abort());
    },
  };
}

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

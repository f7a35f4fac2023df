/** How the stages meet: what the first sync waits for, and what a lost Node means. */
import assert from "node:assert/strict";
import { startProxy } from "../../../proxy/commands/start_proxy.ts";
import { readiness } from "../../../proxy/status/health.ts";
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
import { node, service, slice } from "../../support/objects.ts";
import { until } from "../../support/tcp.ts";

const NODE = "n1";
const ADDRESS = "10.96.0.10:80";

/** A source of one kind of object, as a test writes it. */
class Script<T extends ClusterObject> {
  readonly #stream: TransformStream<SourceEvent<T>, SourceEvent<T>>;
  readonly #writer: WritableStreamDefaultWriter<SourceEvent<T>>;

  constructor(signal: AbortSignal) {
    this.#stream = new TransformStream({}, { highWaterMark: 100 });
    this.#writer = this.#stream.writable.getWriter();
    signal.addEventListener("abort", () => this.#writer.close());
  }

  get events(): AsyncIterable<SourceEvent<T>> {
    return this.#stream.readable;
  }

  /** Resolves when the event was taken. */
  async send(event: SourceEvent<T>): Promise<void> {
    await this.#writer.write(event);
    await turn();
  }

  list(...objects: readonly T[]): Promise<void> {
    return this.send({ type: "replaced", objects, unreadable: new Set() });
  }
}

/** Long enough for whatever was asked for to have begun. */
async function turn(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

function start() {
  const engine = new FakeEngine();
  let steeringStarted = 0;
  let scripts: {
    services: Script<Service>;
    slices: Script<EndpointSlice>;
    nodes: Script<Node>;
  } | undefined;
  const proxy = startProxy({
    source(signal) {
      scripts = {
        services: new Script<Service>(signal),
        slices: new Script<EndpointSlice>(signal),
        nodes: new Script<Node>(signal),
      };
      const { services, slices, nodes } = scripts;
      return {
        services: services.events,
        endpointSlices: slices.events,
        node: nodes.events,
      };
    },
    nodeName: NODE,
    apiServers: new Set(),
    interfaceIps: () => ["127.0.0.1"],
    engine,
    clock: new FakeClock(),
    steering() {
      steeringStarted++;
      return Promise.resolve(new FakeSteering());
    },
  });
  assert.ok(scripts !== undefined);
  return {
    ...scripts,
    engine,
    proxy,
    get steeringStarted() {
      return steeringStarted;
    },
    [Symbol.asyncDispose]: async () => {
      await proxy.stop(AbortSignal.abort());
    },
  };
}

const WEB = service("default/web");
const NEW = service("default/new", { clusterIP: "10.96.0.11" });
const WEB_SLICE = slice("default/web-1", { endpoints: ["10.244.0.2"] });

for (const first of ["services", "slices"] as const) {
  Deno.test(`[2.36, 2.38] startProxy() touches nothing while only ${first} were listed, and forgets nothing`, async () => {
    await using started = start();
    const { services, slices, engine, proxy } = started;
    await (first === "services" ? services.list(WEB) : slices.list(WEB_SLICE));
    // Changes that come meanwhile ask for no sync either.
    await (first === "services"
      ? services.send({ type: "applied", object: NEW })
      : slices.send({ type: "deleted", key: "default/none" }));
    assert.equal(started.steeringStarted, 0);
    assert.deepEqual(engine.events, []);
    assert.deepEqual(proxy.health().syncs.IPv4?.queuedAt, undefined);

    await (first === "services" ? slices.list(WEB_SLICE) : services.list(WEB));
    await proxy.ready;
    assert.equal(started.steeringStarted, 1);
    assert.deepEqual(engine.listening, [ADDRESS]);
    assert.deepEqual(engine.endpointsAt(ADDRESS), ["10.244.0.2:8080"]);
  });
}

Deno.test("[2.36] startProxy() does not wait for its Node", async () => {
  await using started = start();
  await started.services.list(WEB);
  await started.slices.list(WEB_SLICE);
  await started.proxy.ready;
  assert.deepEqual(started.engine.listening, [ADDRESS]);
  assert.equal(readiness(started.proxy.health()).ok, false);
});

Deno.test("[7.11] startProxy() goes on with the Node it knew when that is deleted", async () => {
  await using started = start();
  const { services, slices, nodes, engine, proxy } = started;
  await nodes.list(node(NODE, { zone: "a", podCIDRs: ["10.244.0.0/24"] }));
  await services.list(WEB);
  await slices.list(slice("default/web-1", {
    endpoints: [
      { ip: "10.244.0.2", zones: ["a"] },
      { ip: "10.244.0.3", zones: ["b"] },
    ],
  }));
  await proxy.ready;
  const asBefore = () => {
    assert.equal(readiness(proxy.health()).ok, true);
    assert.deepEqual(engine.endpointsAt(ADDRESS), ["10.244.0.2:8080"]);
    assert.ok(engine.clusterSources.includes("10.244.0.0/24"));
  };
  asBefore();
  await nodes.send({ type: "deleted", key: NODE });
  asBefore();
  // As a list after a lost watch would say it.
  await nodes.list();
  await services.send({
    type: "applied",
    object: service("default/other", { clusterIP: "10.96.0.11" }),
  });
  asBefore();
  await nodes.list(node(NODE, { zone: "b" }));
  await until(
    "the new zone counts",
    () => engine.endpointsAt(ADDRESS)?.join() === "10.244.0.3:8080",
  );
});

import assert from "node:assert/strict";
import { Informer } from "../../watch/informer.ts";
import { SERVICES } from "../../watch/resource.ts";
import {
  createClusterSource,
  createManifestSource,
  followResource,
} from "../../watch/sources.ts";
import type { Service } from "../../watch/types.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { FetchClient } from "../support/fetch_client.ts";
import { rawService, rawServiceList } from "../support/raw_objects.ts";
import { RawServer } from "../support/raw_server.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

Deno.test({
  name:
    "auto polls where watches are refused, and tries one again after 5 minutes",
  timeout: 20_000,
  async fn() {
    let version = 10;
    let refuse = true;
    const watched = Promise.withResolvers<void>();
    await using server = new RawServer(async (request, reply) => {
      if (!request.isWatch) {
        return await reply.json(
          rawServiceList(version, [rawService("web", version)]),
        );
      }
      if (refuse) return await reply.refuse(405);
      await reply.begin();
      await reply.event("ADDED", rawService("api", version + 1));
      watched.resolve();
    });
    using client = new FetchClient(server.url);
    const clock = new FakeClock();
    const stop = new AbortController();
    const informer = new Informer(followResource(client, SERVICES, {
      mode: "auto",
      pollIntervalMs: 2000,
      signal: stop.signal,
      clock,
      random: () => 0.5,
    }));
    let changed = Promise.withResolvers<void>();
    const running = informer.run(() => {
      changed.resolve();
      changed = Promise.withResolvers<void>();
    });
    await changed.promise;
    await clock.untilSleeping(2000);
    assert.equal(informer.state.phase, "polling");
    version = 20;
    const next = changed.promise;
    await clock.advance(2000);
    await next;
    assert.equal(
      informer.store.get("default/web")?.metadata.resourceVersion,
      "20",
    );
    refuse = false;
    const begun = clock.now();
    let isWatched = false;
    watched.promise.then(() => isWatched = true);
    while (!isWatched) {
      await clock.advance(2000);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const waited = clock.now() - begun;
    assert.ok(waited >= 290_000 && waited <= 330_000, `${waited} ms`);
    stop.abort();
    await running;
  },
});

Deno.test({
  name:
    "createClusterSource() asks for the three kinds in the mode it was told",
  timeout: 20_000,
  async fn() {
    await using server = new RawServer((request, reply) =>
      reply.json({
        kind: "List",
        metadata: { resourceVersion: "5" },
        items: request.path !== "/api/v1/nodes" ? [] : [{
          metadata: { name: "here", uid: "n" },
          status: { addresses: [{ type: "InternalIP", address: "10.0.0.4" }] },
        }],
      })
    );
    using client = new FetchClient(server.url);
    const stop = new AbortController();
    const source = createClusterSource(client, {
      mode: "poll",
      pollIntervalMs: 60_000,
      nodeName: "here",
      signal: stop.signal,
    });
    const informers = [
      new Informer(source.services),
      new Informer(source.endpointSlices),
      new Informer(source.node),
    ];
    const running = informers.map(async (informer) => {
      await informer.run(() => {
        if (informers.every(({ hasSynced }) => hasSynced)) stop.abort();
      });
    });
    await Promise.all(running);
    const asked = server.requests.map(({ path, query }) =>
      `${path} ${query.get("labelSelector")} ${query.get("fieldSelector")}`
    );
    assert.deepEqual(asked.sort(), [
      "/api/v1/nodes null metadata.name=here",
      "/api/v1/services !service.kubernetes.io/service-proxy-name spec.clusterIP!=None",
      "/apis/discovery.k8s.io/v1/endpointslices !service.kubernetes.io/headless null",
    ]);
  },
});

Deno.test({
  name:
    "createManifestSource() feeds three streams from one folder, and ends them",
  timeout: 20_000,
  async fn() {
    await using folder = await temporaryFolder();
    const service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web" },
      spec: { clusterIP: "10.96.0.1", ports: [{ port: 80 }] },
    };
    const node = (name: string) => ({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name },
    });
    await folder.write(
      "all.json",
      JSON.stringify({
        apiVersion: "v1",
        kind: "List",
        items: [service, node("here"), node("there")],
      }),
    );
    const stop = new AbortController();
    const source = createManifestSource(folder.path, {
      nodeName: "here",
      signal: stop.signal,
    });
    const services = new Informer<Service>(source.services);
    const slices = new Informer(source.endpointSlices);
    const nodes = new Informer(source.node);
    const all = [services, slices, nodes];
    await Promise.all(
      all.map((informer) =>
        (informer as Informer<Service>).run(() => {
          if (all.every(({ hasSynced }) => hasSynced)) stop.abort();
        })
      ),
    );
    assert.deepEqual([...services.store.keys()], ["default/web"]);
    assert.deepEqual([...slices.store.keys()], []);
    assert.deepEqual([...nodes.store.keys()], ["here"]);
    assert.equal(services.state.phase, "following");
  },
});

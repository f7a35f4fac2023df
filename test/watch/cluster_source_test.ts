/**
 * The whole stage: the real client and the embedded API server, over loopback
 * and in real time, in each of the modes.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type ApiServer, createApiServer } from "../../watch/apiserver/mod.ts";
import type { ApiClient } from "../../watch/api.ts";
import { createApiClient } from "../../watch/client.ts";
import { Informer } from "../../watch/informer.ts";
import { createClusterSource, type WatchMode } from "../../watch/sources.ts";
import type { Service } from "../../watch/types.ts";

/** Informers over an embedded API server, and waiting for what they know. */
class Stage implements AsyncDisposable {
  readonly server: ApiServer;
  readonly #client: ApiClient;
  readonly #stop = new AbortController();
  readonly services: Informer<Service>;
  readonly #running: Promise<void>;
  #changed = Promise.withResolvers<void>();
  batches = 0;

  static async open(mode: WatchMode): Promise<Stage> {
    const server = createApiServer();
    const { url } = await server.listen();
    return new Stage(server, { mode, url });
  }

  private constructor(
    server: ApiServer,
    { mode, url }: { readonly mode: WatchMode; readonly url: string },
  ) {
    this.server = server;
    this.#client = createApiClient({
      source: "the test",
      server: url,
      insecureSkipTlsVerify: false,
      credential: { type: "none" },
    });
    const source = createClusterSource(this.#client, {
      mode,
      pollIntervalMs: 20,
      nodeName: "here",
      signal: this.#stop.signal,
      random: () => 0.01,
    });
    this.services = new Informer(source.services);
    this.#running = this.services.run(() => {
      this.batches++;
      this.#changed.resolve();
      this.#changed = Promise.withResolvers<void>();
    });
  }

  create(name: string): void {
    this.server.create("services", {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace: "default" },
      spec: { ports: [{ port: 80 }] },
    });
  }

  /** Resolves once exactly these Services are known. */
  async until(names: readonly string[]): Promise<void> {
    const known = () => [...this.services.store.keys()].sort().join(" ");
    const wanted = names.map((name) => `default/${name}`).sort().join(" ");
    while (known() !== wanted) await this.#changed.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#client[Symbol.dispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

function testStage(
  name: string,
  mode: WatchMode,
  fn: (stage: Stage) => Promise<void>,
): void {
  Deno.test({
    name,
    timeout: 30_000,
    async fn() {
      await using stage = await Stage.open(mode);
      await fn(stage);
    },
  });
}

for (const mode of ["watch", "auto", "poll"] satisfies WatchMode[]) {
  testStage(
    `createClusterSource() follows an API server (${mode})`,
    mode,
    async (stage) => {
      await stage.until(["kubernetes"]);
      stage.create("web");
      await stage.until(["kubernetes", "web"]);
      assert.match(
        stage.services.store.get("default/web")?.spec.clusterIP ?? "",
        /^10\.96\./,
      );
      stage.server.delete("services", { namespace: "default", name: "web" });
      await stage.until(["kubernetes"]);
      stage.server.faults.breakStreams();
      stage.create("api");
      await stage.until(["api", "kubernetes"]);
    },
  );
}

testStage(
  "a watch lists again when its history was forgotten",
  "watch",
  async (stage) => {
    await stage.until(["kubernetes"]);
    stage.server.faults.respondWith({
      status: 503,
      times: 2,
      match: ({ url }) => url.includes("watch="),
    });
    stage.server.faults.breakStreams();
    stage.create("web");
    stage.server.faults.compact();
    await stage.until(["kubernetes", "web"]);
  },
);

testStage("auto polls where watches are refused", "auto", async (stage) => {
  stage.server.faults.watchMode = "refuse";
  await stage.until(["kubernetes"]);
  stage.create("web");
  await stage.until(["kubernetes", "web"]);
  assert.equal(stage.services.state.phase, "polling");
});

testStage("auto polls where a proxy buffers watches", "auto", async (stage) => {
  stage.server.faults.watchMode = "buffer";
  await stage.until(["kubernetes"]);
  stage.create("web");
  await stage.until(["kubernetes", "web"]);
  assert.equal(stage.services.state.phase, "polling");
});

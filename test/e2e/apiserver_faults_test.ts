/**
 * API servers that fail, under load: clients of the Services must not notice,
 * neither those that are connected nor those that come, and what changes after
 * the fault is followed. The program runs as a process of its own.
 */
import assert from "node:assert/strict";
import { stringify } from "@std/yaml";
import { type ApiServer, createApiServer } from "../../watch/apiserver/mod.ts";
import type { Child } from "../support/child.ts";
import { kubeNode, kubeService, kubeSlice } from "../support/kube_objects.ts";
import { freePort, startKubePortal } from "../support/kube_portal.ts";
import {
  eventually,
  httpEndpoints,
  httpStatus,
  loopbackRange,
  whoAnswers,
} from "../support/loopback.ts";
import { echoServer, until } from "../support/tcp.ts";
import { serveTls, tlsPath } from "../support/tls.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";
import { Traffic } from "../support/traffic.ts";

const PORT = 8080;
const NODE = "node-1";

/** An embedded API server on one port, which a fault may replace by another. */
class Cluster implements AsyncDisposable {
  readonly range = loopbackRange();
  readonly port = freePort();
  server!: ApiServer;
  #listening: AsyncDisposable | undefined;
  #services = 0;
  readonly #endpoints = httpEndpoints("pod", [`${this.range}.200.2`]);

  constructor(readonly isSecure: boolean) {}

  async start(firstRevision?: number): Promise<void> {
    this.server = createApiServer({
      serviceCIDRs: [`${this.range}.0.0/17`],
      ...(firstRevision === undefined ? {} : { firstRevision }),
    });
    const { port } = this;
    this.#listening = this.isSecure
      ? serveTls((request) => this.server.fetch(request), { port })
      : await this.server.listen({ port });
  }

  async stop(): Promise<void> {
    await this.#listening?.[Symbol.asyncDispose]();
    this.#listening = undefined;
    await this.server[Symbol.asyncDispose]();
  }

  ip(n: number): string {
    return `${this.range}.1.${n}`;
  }

  serve(name: string, ip: string, at: { ip: string; port: number }): void {
    this.server.create(
      "services",
      inDefault(kubeService(name, ip, { p: PORT })),
    );
    const slice = kubeSlice(name, [at.ip], { p: at.port });
    this.server.create("endpointslices", inDefault(slice));
  }

  /** Makes one more Service; whether it is served says whether we are followed. */
  more(): string {
    const ip = this.ip(++this.#services + 10);
    const [address = ""] = this.#endpoints.addresses;
    this.serve(`more-${this.#services}`, ip, {
      ip: address,
      port: this.#endpoints.port,
    });
    return ip;
  }

  /** Another server with the same objects, which begins with other versions. */
  async restart(): Promise<void> {
    const kept = ["services", "endpointslices", "nodes"].flatMap((resource) =>
      this.server.list(resource).map((object) => ({ resource, object }))
    );
    const revision = Number(this.server.resourceVersion);
    await this.start(revision + 1_000);
    for (const { resource, object } of kept) {
      if (object.metadata.name === "kubernetes") continue;
      const { resourceVersion: _, uid: __, ...metadata } = object.metadata;
      this.server.create(resource, { ...object, metadata });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#endpoints[Symbol.asyncDispose]();
  }
}

function inDefault<T extends { readonly metadata: object }>(object: T): T {
  return {
    ...object,
    metadata: { namespace: "default", ...object.metadata },
  };
}

async function served(ip: string, who = "pod-1"): Promise<void> {
  await eventually(
    `${ip} is answered by ${who}`,
    () => whoAnswers(ip, PORT),
    (seen) => seen === who,
  );
}

function kubeconfig(server: string, tokenFile: string): string {
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "test",
    contexts: [{ name: "test", context: { cluster: "test", user: "test" } }],
    clusters: [{
      name: "test",
      cluster: { server, "certificate-authority": tlsPath("ca.crt") },
    }],
    users: [{ name: "test", user: { tokenFile } }],
  });
}

/** A cluster, a proxy that serves it, and clients. */
interface Stage {
  readonly cluster: Cluster;
  readonly proxy: Child;
  readonly token: (text: string) => Promise<unknown>;
  /** Resolves when clients have been answered many more times. */
  readonly moved: () => Promise<void>;
}

function testFault(
  name: string,
  run: (stage: Stage) => Promise<void>,
  { isSecure = false } = {},
): void {
  Deno.test(`clients notice nothing of an API server that is ${name}, and changes are followed after it`, async (t) => {
    await using stack = new AsyncDisposableStack();
    const folder = stack.use(await temporaryFolder());
    const cluster = stack.use(new Cluster(isSecure));
    await cluster.start();
    const echo = stack.use(echoServer(`${cluster.range}.200.1`));
    cluster.serve("echo", cluster.ip(1), echo.address);
    cluster.server.create("nodes", kubeNode(NODE));
    if (isSecure) cluster.server.faults.token = "first";
    const token = await folder.write("token", "first");
    const url = `${isSecure ? "https" : "http"}://127.0.0.1:${cluster.port}`;
    const config = await folder.write("kubeconfig", kubeconfig(url, token));
    const healthPort = freePort();
    const proxy = stack.use(startKubePortal([
      "--steer=none",
      `--kubeconfig=${config}`,
      `--hostname-override=${NODE}`,
      `--healthz-bind-address=127.0.0.1:${healthPort}`,
      "--metrics-bind-address=",
    ]));
    await proxy.waitFor(" Ready ");
    await served(cluster.more());
    const traffic = new Traffic(cluster.ip(1), PORT);
    await run({
      cluster,
      proxy,
      token: (text) => folder.write("token", text),
      async moved() {
        const [answered, connected] = [traffic.answered, traffic.connected];
        await until("traffic goes on", () =>
          traffic.answered > answered + 40 &&
          traffic.connected > connected + 10);
        const health = `http://127.0.0.1:${healthPort}/healthz`;
        assert.equal(await httpStatus(health), 200);
      },
    });
    await served(cluster.more());
    const report = await traffic.end();
    assert.deepEqual(report.failures, []);
    const figures =
      `${report.answered} answers to 4 connections, ${report.connected} new ones, the slowest after ${
        report.slowestMs.toFixed(0)
      } ms`;
    await t.step(figures, () => {});
  });
}

testFault("killed, and back a while later", async (stage) => {
  const { cluster, proxy, moved } = stage;
  await cluster.stop();
  await proxy.waitFor("Cannot reach the API server");
  await moved();
  await cluster.restart();
  await moved();
});

testFault("set back to an earlier state", async ({ cluster, moved }) => {
  const version = cluster.server.resourceVersion;
  const late = cluster.more();
  await served(late);
  cluster.server.faults.rewind(version);
  await served(late, "refused");
  await moved();
});

testFault("forgetting its history again and again", async (stage) => {
  const { cluster, moved } = stage;
  const { faults } = cluster.server;
  for (let n = 0; n < 20; n++) {
    cluster.more();
    faults.compact();
    faults.breakStreams();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await moved();
});

testFault("too busy, and says when to come again", async (stage) => {
  const { cluster, moved } = stage;
  const { faults } = cluster.server;
  const headers = { "Retry-After": "1" };
  faults.respondWith({ status: 429, times: 3, headers });
  faults.breakStreams();
  await moved();
});

testFault("taking another token from now on", async (stage) => {
  const { cluster, proxy, token, moved } = stage;
  const { faults } = cluster.server;
  await token("second");
  faults.token = "second";
  faults.endStreams();
  await served(cluster.more());
  await moved();
  assert.doesNotMatch(proxy.output, /Unauthorized/);
}, { isSecure: true });

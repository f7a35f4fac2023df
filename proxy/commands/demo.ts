/**
 * `kube-portal demo`: a cluster in one process, on loopback addresses. The
 * embedded API server, a Node, sample Services with their endpoints, and the
 * proxy, each talking to the next as they would in a real cluster: over HTTP.
 *
 * @module
 */
import {
  type ApiClient,
  createApiClient,
  createClusterSource,
  loadApiConfig,
  systemClock,
} from "../../watch/mod.ts";
import type { HttpServer } from "../../watch/http/server.ts";
import { createApiServer } from "../../watch/apiserver/mod.ts";
import { chooseEngine } from "../engine/choose_engine.ts";
import type { Engine } from "../engine/engine.ts";
import { chooseSteering, interfaceAddresses } from "../rules/mod.ts";
import { healthApp } from "../status/server.ts";
import {
  type BindAddress,
  bindAddress,
  listenApiserver,
  serveHttp,
} from "./addresses.ts";
import { exercise } from "./demo_check.ts";
import {
  createSamples,
  DEMO_NODE,
  DEMO_SERVICE_CIDR,
  SAMPLE_SERVICES,
  type SamplePod,
  servePods,
} from "./demo_samples.ts";
import { serviceTable, tryThis } from "./demo_words.ts";
import { isLoopback } from "../ip.ts";
import { DEMO_FLAGS } from "./flag_tables.ts";
import { type FlagValues, parseFlags, wholeNumber } from "./flags.ts";
import { writeEvents } from "./service_events.ts";
import { untilSignal } from "./signals.ts";
import { measuredClient } from "./measured_client.ts";
import { EventFeed } from "../status/event_feed.ts";
import { ProxyCounters } from "../status/proxy_counters.ts";
import { loadMetricsHandler } from "./serve_status.ts";
import type { RunningProxy } from "./running_proxy.ts";
import { startProxy } from "./start_proxy.ts";
import { print, printError } from "./terminal.ts";
import { setupLogging } from "./verbosity.ts";

/** The demo's connections are its own: there is nobody to wait for. */
const DRAIN_MS = 2_000;

export async function demoCommand(args: readonly string[]): Promise<number> {
  const flags = parseFlags(args, DEMO_FLAGS);
  // State changes would bury the demo's own words: with -v they are shown.
  const feed = new EventFeed();
  await setupLogging(flags, {
    quiet: flags.v === "0",
    tap: (entry) => feed.add(entry),
  });
  const addresses = demoAddresses(flags);

  await using stack = new AsyncDisposableStack();
  const cluster = await startCluster(stack, addresses.apiserverPort);
  const counters = new ProxyCounters();
  // The task asks for the network alone: then it is the portable one.
  const engine = await chooseEngine("auto", { clock: systemClock });
  stack.use(engine.engine);
  const measured = measuredClient(cluster.client, counters);
  const proxy = stack.adopt(
    startDemoProxy(measured, { counters, engine: engine.engine }),
    async (proxy) => void await proxy.stop(AbortSignal.timeout(DRAIN_MS)),
  );
  followWithEvents(stack, measured, proxy);
  const health = addresses.health &&
    await serveHealth(stack, { address: addresses.health, proxy, counters });
  const metrics = addresses.metrics &&
    await servePages(stack, { address: addresses.metrics, proxy, feed, flags });
  await proxy.ready;
  print(serviceTable(proxy));
  if (!flags.once) {
    print(
      tryThis({
        proxy,
        apiserverUrl: cluster.url,
        health: health?.addr,
        metrics: metrics?.addr,
      }),
    );
    await Promise.race([untilSignal(), proxy.failed, engine.failed]);
    return 0;
  }
  const { client, pods } = cluster;
  const problems = await exercise({ proxy, client, pods });
  for (const problem of problems) printError(`WRONG: ${problem}\n`);
  if (problems.length === 0) print("\nAll of it was right.\n");
  return problems.length === 0 ? 0 : 1;
}

type DemoFlags = FlagValues<typeof DEMO_FLAGS>;

/** @throws {UserError} if one of them is none */
function demoAddresses(flags: DemoFlags) {
  return {
    apiserverPort: wholeNumber(flags["apiserver-port"], {
      flag: "apiserver-port",
      min: 0,
      max: 65535,
    }),
    health: bindAddress(flags["healthz-bind-address"], {
      flag: "healthz-bind-address",
      defaultPort: 10256,
    }),
    metrics: bindAddress(flags["metrics-bind-address"], {
      flag: "metrics-bind-address",
      defaultPort: 10249,
    }),
  };
}

/** An API server, and the pods of the samples in it; all end with the stack. */
async function startCluster(
  stack: AsyncDisposableStack,
  apiserverPort: number,
) {
  const apiserver = stack.use(
    createApiServer({ serviceCIDRs: [DEMO_SERVICE_CIDR] }),
  );
  const { url } = stack.use(
    await listenApiserver(apiserver, {
      port: apiserverPort,
      flag: "apiserver-port",
    }),
  );
  const config = await loadApiConfig({ master: url, env: new Map() });
  const client = stack.use(createApiClient(config));
  const podsEnd = stack.adopt(new AbortController(), (end) => end.abort());
  const pods = new Map(
    SAMPLE_SERVICES.map((service): [string, readonly SamplePod[]] => [
      service.name,
      servePods(service, podsEnd.signal),
    ]),
  );
  await createSamples(client, pods);
  return { url, client, pods };
}

function followWithEvents(
  stack: AsyncDisposableStack,
  client: ApiClient,
  proxy: RunningProxy,
): void {
  const end = new AbortController();
  const { signal } = end;
  stack.adopt(
    writeEvents(client, { proxy, clock: systemClock, signal }),
    (writing) => {
      end.abort();
      return writing;
    },
  );
}

async function serveHealth(
  stack: AsyncDisposableStack,
  { address, proxy, counters }: {
    readonly address: BindAddress;
    readonly proxy: RunningProxy;
    readonly counters: ProxyCounters;
  },
): Promise<HttpServer> {
  const app = healthApp(
    proxy.health,
    (path, code) => counters.healthAnswered(path, code),
  );
  return stack.adopt(
    await serveHttp({
      address,
      flag: "healthz-bind-address",
      handler: app.fetch,
    }),
    (server) => server.shutdown(),
  );
}

async function servePages(
  stack: AsyncDisposableStack,
  { address, proxy, feed, flags }: {
    readonly address: BindAddress;
    readonly proxy: RunningProxy;
    readonly feed: EventFeed;
    readonly flags: DemoFlags;
  },
): Promise<HttpServer> {
  const pagesEnd = new AbortController();
  // Nobody is to wait for the pages to load but who asks for them.
  const pages = proxy.ready.then(() =>
    loadMetricsHandler({
      feed,
      signal: pagesEnd.signal,
      withDashboard: isLoopback(address.ip),
      proxy,
      configz: demoConfigz,
      flags,
    })
  );
  pages.catch(() => {});
  return stack.adopt(
    await serveHttp({
      address,
      flag: "metrics-bind-address",
      handler: async (request) => (await pages)(request),
    }),
    (server) => {
      pagesEnd.abort();
      return server.shutdown();
    },
  );
}

function demoConfigz(): Record<string, unknown> {
  return {
    kind: "KubeProxyConfiguration",
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    hostnameOverride: DEMO_NODE,
    mode: "userspace",
  };
}

function startDemoProxy(
  client: ApiClient,
  { counters, engine }: { counters: ProxyCounters; engine: Engine },
): RunningProxy {
  return startProxy({
    source: (signal) =>
      createClusterSource(client, {
        mode: "auto",
        pollIntervalMs: 2_000,
        nodeName: DEMO_NODE,
        signal,
      }),
    nodeName: DEMO_NODE,
    apiServers: new Set(["127.0.0.1"]),
    interfaceIps: interfaceAddresses,
    engine,
    clock: systemClock,
    counters,
    steering: async (known, signal) => {
      // The demo changes nothing on the machine it runs on.
      const choice = await chooseSteering("none", {
        cidrs: [DEMO_SERVICE_CIDR],
        serviceIps: known.serviceIps,
        clusterFacts: known.facts,
        signal,
      });
      return choice.steering;
    },
  });
}

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
import { createApiServer } from "../../watch/apiserver/mod.ts";
import { chooseEngine } from "../engine/choose_engine.ts";
import type { Engine } from "../engine/engine.ts";
import { chooseSteering, interfaceAddresses } from "../rules/mod.ts";
import { healthApp } from "../status/server.ts";
import { bindAddress, listenApiserver, serveHttp } from "./addresses.ts";
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
import { parseFlags, wholeNumber } from "./flags.ts";
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
  const apiserverPort = wholeNumber(flags["apiserver-port"], {
    flag: "apiserver-port",
    min: 0,
    max: 65535,
  });
  const healthAddress = bindAddress(flags["healthz-bind-address"], {
    flag: "healthz-bind-address",
    defaultPort: 10256,
  });
  const metricsAddress = bindAddress(flags["metrics-bind-address"], {
    flag: "metrics-bind-address",
    defaultPort: 10249,
  });

  await using stack = new AsyncDisposableStack();
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
  const counters = new ProxyCounters();
  // The task asks for the network alone: then it is the portable one.
  const engine = await chooseEngine("auto", { clock: systemClock });
  stack.use(engine.engine);
  const measured = measuredClient(client, counters);
  const proxy = stack.adopt(
    startDemoProxy(measured, { counters, engine: engine.engine }),
    async (proxy) => void await proxy.stop(AbortSignal.timeout(DRAIN_MS)),
  );
  const eventsEnd = new AbortController();
  stack.adopt(
    writeEvents(measured, {
      proxy,
      clock: systemClock,
      signal: eventsEnd.signal,
    }),
    (writing) => {
      eventsEnd.abort();
      return writing;
    },
  );
  const health = healthAddress && stack.adopt(
    await serveHttp({
      address: healthAddress,
      flag: "healthz-bind-address",
      handler: healthApp(
        proxy.health,
        (path, code) => counters.healthAnswered(path, code),
      ).fetch,
    }),
    (server) => server.shutdown(),
  );
  const pagesEnd = new AbortController();
  // Nobody is to wait for the pages to load but who asks for them.
  const pages = proxy.ready.then(() =>
    loadMetricsHandler({
      feed,
      signal: pagesEnd.signal,
      withDashboard: metricsAddress !== undefined &&
        isLoopback(metricsAddress.ip),
      proxy,
      configz: demoConfigz,
      flags,
    })
  );
  pages.catch(() => {});
  const metrics = metricsAddress && stack.adopt(
    await serveHttp({
      address: metricsAddress,
      flag: "metrics-bind-address",
      handler: async (request) => (await pages)(request),
    }),
    (server) => {
      pagesEnd.abort();
      return server.shutdown();
    },
  );
  await proxy.ready;
  print(serviceTable(proxy));
  if (!flags.once) {
    print(
      tryThis({
        proxy,
        apiserverUrl: url,
        health: health?.addr,
        metrics: metrics?.addr,
      }),
    );
    await Promise.race([untilSignal(), proxy.failed, engine.failed]);
    return 0;
  }

  const problems = await exercise({ proxy, client, pods });
  for (const problem of problems) printError(`WRONG: ${problem}\n`);
  if (problems.length === 0) print("\nAll of it was right.\n");
  return problems.length === 0 ? 0 : 1;
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

/**
 * `kube-portal [run]`: the proxy. Reads flags, chooses where objects come from
 * and how packets are steered, starts the flow, and ends it in order.
 *
 * @module
 */
import { getLogger } from "@std/log";
import {
  type ApiClient,
  type ApiConfig,
  type ClusterSource,
  createApiClient,
  createClusterSource,
  createManifestSource,
  explainUnreachable,
  loadApiConfig,
  systemClock,
  type WatchMode,
} from "../../watch/mod.ts";
import { chooseEngine, type EngineRequest } from "../engine/choose_engine.ts";
import { canonicalIp } from "../ip.ts";
import {
  type NodePortSelection,
  nodePortSelection,
} from "../node_addresses.ts";
import {
  chooseSteering,
  interfaceAddresses,
  type PortRange,
  type SteeringRequest,
} from "../rules/mod.ts";
import { healthApp } from "../status/server.ts";
import type { Steering } from "../steering.ts";
import { bindAddress, serveHttp } from "./addresses.ts";
import { cleanupCommand } from "./cleanup.ts";
import { UserError } from "./errors.ts";
import { RUN_FLAGS } from "./flag_tables.ts";
import {
  cidrList,
  durationMs,
  type FlagValues,
  parseFlags,
  portRange,
} from "./flags.ts";
import { checkFolder } from "./folders.ts";
import { serviceCidrsOf } from "./service_cidrs.ts";
import { untilSignal } from "./signals.ts";
import { type KnownCluster, startProxy } from "./start_proxy.ts";
import { flagsConfigz } from "./flags_configz.ts";
import { measuredClient } from "./measured_client.ts";
import { loadMetricsHandler, servePersistently } from "./serve_status.ts";
import { ProxyCounters } from "../status/proxy_counters.ts";
import { setupLogging } from "./verbosity.ts";
import { printVersion, VERSION } from "./version.ts";

const logger = getLogger("main");

type RunFlags = FlagValues<typeof RUN_FLAGS>;

export async function runCommand(args: readonly string[]): Promise<number> {
  const flags = parseFlags(args, RUN_FLAGS);
  if (flags.version) return printVersion();
  await setupLogging(flags);
  if (flags.cleanup) return await cleanupCommand([]);

  // Everything that can be wrong with a flag is found before anything starts.
  const health = bindAddress(flags["healthz-bind-address"], {
    flag: "healthz-bind-address",
    defaultPort: 10256,
  });
  const metricsAddress = bindAddress(flags["metrics-bind-address"], {
    flag: "metrics-bind-address",
    defaultPort: 10249,
  });
  const drainMs = durationMs(flags["drain-timeout"], "drain-timeout");
  const udpTimeoutMs = durationMs(flags["udp-timeout"], "udp-timeout", {
    aboveZero: true,
  });
  const workers = workerCount(flags.workers);
  const pollIntervalMs = durationMs(flags["poll-interval"], "poll-interval", {
    aboveZero: true,
  });
  const cidrs = cidrList(flags["service-cidr"] ?? "", "service-cidr");
  const ports = portRange(
    flags["proxy-port-range"] ?? "",
    "proxy-port-range",
  );
  const clusterCidrs = cidrList(flags["cluster-cidr"] ?? "", "cluster-cidr");
  const nodePorts = nodePortAddresses(flags["nodeport-addresses"] ?? "");
  // Empty is as good as not given, as for kube-proxy.
  const nodeName = (flags["hostname-override"] || Deno.hostname()).trim()
    .toLowerCase();
  const counters = new ProxyCounters();
  const { source, client } = await openSource(flags, {
    counters,
    nodeName,
    cidrs,
    pollIntervalMs,
  });
  // The port first: without it nothing is started, and nothing is said but why.
  const server = health && serveHttp({
    address: health,
    flag: "healthz-bind-address",
    handler: healthApp(
      () => proxy.health(),
      (path, code) => counters.healthAnswered(path, code),
    ).fetch,
  });

  logger.info(`kube-portal v${VERSION}: userspace proxy mode`, {
    node: nodeName,
    source: client?.server ?? flags.manifests,
  });
  const choice = await chooseEngine(flags.engine as EngineRequest, {
    clock: systemClock,
    workers,
    udpTimeoutMs,
  });
  await using engine = choice.engine;
  logger.info(`Moving bytes by ${engine.name}: ${choice.why}`);
  const proxy = startProxy({
    source,
    nodeName,
    nodeNotNeeded: client === undefined,
    apiServers: addressOf(client),
    nodePorts,
    clusterCidrs,
    interfaceIps: interfaceAddresses,
    engine,
    clock: systemClock,
    counters,
    steering: (known, signal) =>
      steer(flags.steer as SteeringRequest, {
        cidrs,
        client,
        known,
        ports,
        signal,
      }),
  });
  const metrics = metricsAddress && servePersistently({
    address: metricsAddress,
    flag: "metrics-bind-address",
    load: () =>
      loadMetricsHandler({ proxy, configz: () => flagsConfigz(flags) }),
    clock: systemClock,
  });
  proxy.ready.then(
    () => logger.info("Ready", { services: proxy.state.size }),
    () => {},
  );
  const asked = await Promise.race([
    untilSignal(),
    // Ends only by its rejection: steering that cannot work ends the program.
    proxy.ready.then(() => new Promise<never>(() => {})),
  ]);
  logger.info(`Stopping at ${asked}; open connections may end`, { drainMs });
  const steering = await proxy.stop(AbortSignal.timeout(drainMs));
  await metrics?.[Symbol.asyncDispose]();
  await server?.shutdown();
  if (flags["cleanup-on-exit"]) {
    await steering?.cleanup(AbortSignal.timeout(CLEANUP_TIMEOUT_MS));
  }
  client?.[Symbol.dispose]();
  logger.info("Stopped");
  return 0;
}

const CLEANUP_TIMEOUT_MS = 10_000;

/** As many as there can be sensibly: each is a thread of the process. */
const WORKERS_MAX = 64;

function workerCount(text: string): number {
  const count = Number(text);
  if (!/^[0-9]+$/.test(text) || count < 1 || count > WORKERS_MAX) {
    throw new UserError(
      `Invalid value "${text}" for --workers: want a number from 1 to ${WORKERS_MAX}`,
    );
  }
  return count;
}

/** @throws {UserError} naming the part that is wrong */
function nodePortAddresses(text: string): NodePortSelection {
  const selection = nodePortSelection(text);
  if ("invalid" in selection) {
    throw new UserError(
      `Invalid value "${selection.invalid}" for --nodeport-addresses: want CIDRs such as 192.0.2.0/24, primary, localhost or all`,
    );
  }
  return selection;
}

/** @throws {UserError | ConfigError} for what the user can mend */
async function openSource(
  flags: RunFlags,
  { nodeName, cidrs, pollIntervalMs, counters }: {
    nodeName: string;
    counters: ProxyCounters;
    cidrs: readonly string[];
    pollIntervalMs: number;
  },
): Promise<
  { source: (signal: AbortSignal) => ClusterSource; client?: ApiClient }
> {
  const { manifests, kubeconfig, context, master } = flags;
  if (manifests !== undefined) {
    if (kubeconfig !== undefined || master !== undefined) {
      throw new UserError(
        "Cannot use --manifests together with --kubeconfig or --master: choose one source",
      );
    }
    await checkFolder(manifests, "manifests");
    return {
      source: (signal) => createManifestSource(manifests, { nodeName, signal }),
    };
  }
  const config = await loadApiConfig({
    kubeconfig,
    context,
    master,
    env: Deno.env,
  });
  const client = measuredClient(createApiClient(config), counters);
  warnIfOwnTask(client, { config, cidrs });
  const mode = flags.watch as WatchMode;
  return {
    source: (signal) =>
      createClusterSource(client, { mode, pollIntervalMs, nodeName, signal }),
    client,
  };
}

/**
 * Says so, once, where the API server's address is a ClusterIP that nobody
 * serves yet: then waiting would never end.
 */
async function warnIfOwnTask(
  client: ApiClient,
  { config, cidrs }: { config: ApiConfig; cidrs: readonly string[] },
): Promise<void> {
  if (config.serviceHost === undefined) return;
  try {
    const response = await client.request("/version");
    await response.body?.cancel();
  } catch (error) {
    const why = explainUnreachable(config, cidrs, error);
    if (why !== undefined) logger.error(why);
  }
}

async function steer(
  request: SteeringRequest,
  { cidrs, client, known, ports, signal }: {
    cidrs: readonly string[];
    client: ApiClient | undefined;
    known: KnownCluster;
    ports: PortRange | undefined;
    signal: AbortSignal;
  },
): Promise<Steering> {
  const needsNone = request === "none" || request === "redirect";
  const found = cidrs.length > 0 || client === undefined || needsNone
    ? cidrs
    : await serviceCidrsOf(client, signal);
  const choice = await chooseSteering(request, {
    cidrs: found,
    serviceIps: known.serviceIps,
    clusterFacts: known.facts,
    ...ports === undefined ? {} : { proxyPorts: ports },
    signal,
  });
  logger.info(`Steering by ${choice.steering.name}: ${choice.why}`, {
    ...Object.fromEntries(
      choice.rejected.map(({ name, why }) => [`not_${name}`, why]),
    ),
  });
  return choice.steering;
}

function addressOf(client: ApiClient | undefined): Set<string> {
  const host = client &&
    new URL(client.server).hostname.replace(/^\[|\]$/g, "");
  const ip = host && canonicalIp(host);
  return new Set(ip ? [ip] : []);
}

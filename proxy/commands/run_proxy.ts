/**
 * The proxy of `run`, from its start to its end: chooses where objects come from
 * and who moves bytes, starts the flow (`start_proxy.ts`) and what shows it, and
 * waits for a reason to stop. In: flags and configuration, read. Out: an exit
 * code.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { systemClock } from "../../watch/mod.ts";
import { configurationObject } from "../config/mod.ts";
import {
  chooseEngine,
  type EngineChoice,
  type EngineRequest,
} from "../engine/choose_engine.ts";
import { NetworkNamespaces } from "../engine/network_namespaces.ts";
import { PortSharing } from "../port_sharing.ts";
import { systemRunner } from "../rules/command.ts";
import { interfaceAddresses } from "../rules/mod.ts";
import { isKernelMode } from "../rules/modes/mod.ts";
import type { EventFeed } from "../status/event_feed.ts";
import { ProxyCounters } from "../status/proxy_counters.ts";
import { healthApp } from "../status/server.ts";
import { followConfigChanges } from "./config_changes.ts";
import {
  addressSettings,
  logFlagsOf,
  modePeriods,
  nodeNameOf,
} from "./config_meaning.ts";
import { descriptorLimit } from "./descriptor_limit.ts";
import type { RUN_FLAGS } from "./flag_tables.ts";
import type { GivenFlags } from "./flags.ts";
import { HandedSockets, HandOver } from "./hand_over.ts";
import { addressOf, openSource } from "./open_source.ts";
import { showProgress, startingText } from "./progress.ts";
import { endRun } from "./run_end.ts";
import { allFlags, readRunFlags } from "./run_flags.ts";
import { kernelModeStart, listenerMode } from "./run_modes.ts";
import type { RunParts } from "./run_parts.ts";
import type { RunningProxy, SharedOptions } from "./running_proxy.ts";
import { saySettings } from "./say_settings.ts";
import { namingWhoSteers } from "./second_run.ts";
import {
  type PersistentServer,
  servePersistently,
  serveStatus,
} from "./serve_status.ts";
import { writeEvents } from "./service_events.ts";
import type { Settings } from "./settings.ts";
import { untilSignal } from "./signals.ts";
import { startProxy } from "./start_proxy.ts";
import { logsConnections, setupLogging } from "./verbosity.ts";
import { VERSION } from "./version.ts";

const logger = getLogger("main");

/** What the command line and the configuration said. */
export interface RunRequest {
  readonly given: GivenFlags<typeof RUN_FLAGS>;
  readonly settings: Settings;
  /** What the dashboard shows of the log. */
  readonly feed: EventFeed;
}

export async function runProxy(request: RunRequest): Promise<number> {
  const { given, settings } = request;
  const { config } = settings;
  const flags = given.values;
  // Everything that can be wrong with a flag is found before anything starts.
  const read = readRunFlags(given, config);
  const nodeName = nodeNameOf(config);
  const counters = new ProxyCounters();
  const { source, client } = await openSource(flags, {
    counters,
    kubeconfig: config.clientConnection.kubeconfig,
    nodeName,
    cidrs: read.cidrs,
    pollIntervalMs: read.pollIntervalMs,
  });
  using namespaces = new NetworkNamespaces();
  using handed = new HandedSockets(namespaces);
  using handOver = await HandOver.begin({
    takesOver: flags["take-over"] ?? false,
    sockets: handed.sockets,
    namespaces,
  });
  const parts: RunParts = {
    flags,
    read,
    nodeName,
    client,
    counters,
    namespaces,
    sockets: handed.sockets,
    handOver,
    portSharing: new PortSharing(flags["take-over"] ?? false),
    stopping: new AbortController(),
    config,
    proxy: () => proxy,
  };
  const health = await serveHealth(parts, settings);
  sayStart(parts, settings);
  const kernelMode = isKernelMode(config.mode) ? config.mode : undefined;
  const choice = kernelMode === undefined ? await engineOf(parts) : undefined;
  await using _engine = choice?.engine;
  const proxy: RunningProxy = startProxy({
    ...sharedOptions(parts, source),
    ...choice === undefined
      ? kernelModeStart(parts, kernelMode ?? "iptables")
      : listenerMode(parts, choice.engine),
  });
  return await untilEnd(request, { parts, proxy, health, choice });
}

/**
 * Who types flags is told of a taken address at once, before anything starts.
 * With a file, a supervisor may have started us beside the one we follow.
 */
async function serveHealth(
  { read, counters, handOver, sockets, proxy }: RunParts,
  { config, file }: Settings,
): Promise<PersistentServer | undefined> {
  const hardFail = config.bindAddressHardFail || file === undefined;
  const server = read.health && servePersistently({
    address: read.health,
    flag: "healthz-bind-address",
    load: () =>
      Promise.resolve(
        healthApp(
          () => proxy().health(),
          (path, code) => counters.healthAnswered(path, code),
        ).fetch,
      ),
    clock: systemClock,
    hardFail,
    after: handOver.mayServe,
    sockets,
  });
  if (hardFail && !handOver.mayServe) await namingWhoSteers(server?.listening);
  return server;
}

function sayStart(
  { flags, nodeName, client }: RunParts,
  settings: Settings,
): void {
  logger.info(`kube-portal v${VERSION}: ${settings.config.mode} proxy mode`, {
    mode_from: settings.modeFrom,
    node: nodeName,
    source: client?.server ?? flags.manifests,
  });
  saySettings(settings);
}

async function engineOf(parts: RunParts): Promise<EngineChoice> {
  const { flags, read, namespaces, sockets, config } = parts;
  const { signal } = parts.stopping;
  const choice = await chooseEngine(flags.engine as EngineRequest, {
    clock: systemClock,
    descriptorLimit: () => descriptorLimit(systemRunner, signal),
    workers: read.workers,
    udpTimeoutMs: read.udpTimeoutMs,
    namespaces,
    sockets,
    portSharing: parts.portSharing,
  });
  choice.engine.tellConnections?.(logsConnections(logFlagsOf(config)));
  logger.info(`Moving bytes by ${choice.engine.name}: ${choice.why}`);
  return choice;
}

function sharedOptions(
  { nodeName, client, config, counters, sockets }: RunParts,
  source: SharedOptions["source"],
): SharedOptions {
  const mode = isKernelMode(config.mode) ? config.mode : "iptables";
  const periods = modePeriods(config, mode);
  return {
    source,
    nodeName,
    nodeNotNeeded: client === undefined,
    apiServers: addressOf(client),
    addresses: addressSettings(config),
    syncPeriodMs: periods.syncPeriod,
    minSyncPeriodMs: periods.minSyncPeriod,
    interfaceIps: interfaceAddresses,
    clock: systemClock,
    counters,
    sockets,
  };
}

/** A proxy that runs, and what there is beside it. */
interface Running {
  readonly parts: RunParts;
  readonly proxy: RunningProxy;
  readonly health: PersistentServer | undefined;
  /** Missing in kernel modes. */
  readonly choice: EngineChoice | undefined;
}

/** Shows what it does, until there is a reason to stop; then ends it in order. */
async function untilEnd(
  request: RunRequest,
  running: Running,
): Promise<number> {
  const { parts, proxy, health, choice } = running;
  const { handOver, stopping, client } = parts;
  const starting = new AbortController();
  showProgress(() => startingText(proxy), { signal: starting.signal });
  const metrics = serveMetrics(request, parts);
  const ready = proxy.ready.then(async () => {
    await handOver.finish(
      proxy,
      () => Promise.allSettled([health?.listening, metrics.listening]),
    );
    starting.abort();
    logger.info("Ready", { services: proxy.state.size });
  });
  const writing = client &&
    writeEvents(client, {
      proxy,
      clock: systemClock,
      signal: stopping.signal,
    });
  const beside = [writing, following(request, running)];
  const signalled = untilSignal();
  const why = await Promise.race([
    signalled,
    handOver.given.then((version) => `the take-over by version ${version}`),
    handOver.lost,
    choice?.failed ?? proxy.failed,
    proxy.failed,
    // End only by their rejections: steering that cannot work ends the program,
    // and so does a metrics address where it has to be had at once.
    ready.then(() => new Promise<never>(() => {})),
    metrics.listening.then(() => new Promise<never>(() => {})),
    health?.listening.then(() => new Promise<never>(() => {})) ?? proxy.failed,
  ]);
  const isGiven = await handOver.stopping();
  stopping.abort();
  await Promise.all(beside);
  starting.abort();
  await endRun(parts, {
    why,
    isGiven,
    servers: health === undefined ? [metrics] : [metrics, health],
    signalled,
  });
  return 0;
}

function serveMetrics({ feed }: RunRequest, parts: RunParts): PersistentServer {
  const { read, flags, handOver, sockets } = parts;
  return serveStatus({
    metricsAddress: read.metricsAddress,
    dashboardAddress: read.dashboardAddress,
    proxy: parts.proxy(),
    configz: () => configurationObject(parts.config),
    flags: allFlags(flags),
    feed,
    clock: systemClock,
    hardFail: parts.config.bindAddressHardFail,
    after: handOver.mayServe,
    sockets,
  });
}

/** Applies a changed configuration file, until the end. */
function following(
  { given, settings, feed }: RunRequest,
  { parts, proxy, choice }: Running,
): Promise<void> {
  return followConfigChanges({
    flags: given,
    settings,
    clock: systemClock,
    signal: parts.stopping.signal,
    async apply(changed) {
      parts.config = changed;
      const logFlags = logFlagsOf(changed);
      await setupLogging(logFlags, { tap: (entry) => feed.add(entry) });
      choice?.engine.tellConnections?.(logsConnections(logFlags));
      proxy.setAddresses(addressSettings(changed));
    },
  });
}

/**
 * `kube-portal [run]`: the proxy. Reads flags, chooses where objects come from
 * and how packets are steered, starts the flow, and ends it in order.
 *
 * @module
 */
import { getLogger, type LogEntry } from "@std/log";
import { systemClock } from "../../watch/mod.ts";
import { chooseEngine, type EngineRequest } from "../engine/choose_engine.ts";
import type { Engine } from "../engine/engine.ts";
import { NetworkNamespaces } from "../engine/network_namespaces.ts";
import { configurationObject } from "../config/mod.ts";
import { systemRunner } from "../rules/command.ts";
import { interfaceAddresses, type SteeringRequest } from "../rules/mod.ts";
import { isKernelMode } from "../rules/modes/mod.ts";
import type { KernelMode } from "../rules/modes/mode_input.ts";
import { healthApp } from "../status/server.ts";
import { cleanupCommand, removeSteering } from "./cleanup.ts";
import { errorLine } from "./errors.ts";
import { descriptorLimit } from "./descriptor_limit.ts";
import { RUN_FLAGS } from "./flag_tables.ts";
import { parseGivenFlags } from "./flags.ts";
import { followConfigChanges } from "./config_changes.ts";
import {
  addressSettings,
  logFlagsOf,
  modePeriods,
  nodeNameOf,
} from "./config_meaning.ts";
import { startKernelMode } from "./kernel_mode.ts";
import { allFlags, readRunFlags } from "./run_flags.ts";
import { sharedPorts } from "./shared_ports.ts";
import { saySettings, writeConfiguration } from "./say_settings.ts";
import { writeEvents } from "./service_events.ts";
import { HandedSockets, HandOver } from "./hand_over.ts";
import { namingWhoSteers } from "./second_run.ts";
import { loadSettings } from "./settings.ts";
import { untilSignal } from "./signals.ts";
import type {
  KernelModeStart,
  ListenerMode,
  SharedOptions,
} from "./running_proxy.ts";
import { startProxy } from "./start_proxy.ts";
import { drainingText, showProgress, startingText } from "./progress.ts";
import { addressOf, openSource } from "./open_source.ts";
import { servePersistently, serveStatus } from "./serve_status.ts";
import { EventFeed } from "../status/event_feed.ts";
import { ProxyCounters } from "../status/proxy_counters.ts";
import { steer } from "./steer.ts";
import { logsConnections, setupLogging } from "./verbosity.ts";
import { printVersion, VERSION } from "./version.ts";

const logger = getLogger("main");

export async function runCommand(args: readonly string[]): Promise<number> {
  const given = parseGivenFlags(args, RUN_FLAGS);
  const flags = given.values;
  if (flags.version) return printVersion();
  const settings = await loadSettings(given);
  const { config } = settings;
  const configPath = flags["write-config-to"];
  if (configPath) {
    await writeConfiguration(configPath, config);
    return 0;
  }
  const logFlags = logFlagsOf(config);
  const feed = new EventFeed();
  const tap = (entry: LogEntry) => feed.add(entry);
  await setupLogging(logFlags, { tap });
  if (flags.cleanup) {
    saySettings(settings);
    return await cleanupCommand([
      `-v=${logFlags.v}`,
      `--logging-format=${logFlags["logging-format"]}`,
    ]);
  }
  // Nothing here needs more privileges at the start than later (fact 8.99).
  if (flags["init-only"]) {
    saySettings(settings);
    return 0;
  }

  // Everything that can be wrong with a flag is found before anything starts.
  const {
    health,
    metricsAddress,
    dashboardAddress,
    drainMs,
    udpTimeoutMs,
    workers,
    pollIntervalMs,
    cidrs,
    ports,
  } = readRunFlags(given, config);
  const nodeName = nodeNameOf(config);
  const counters = new ProxyCounters();
  const { source, client } = await openSource(flags, {
    counters,
    kubeconfig: config.clientConnection.kubeconfig,
    nodeName,
    cidrs,
    pollIntervalMs,
  });
  // Who types flags is told of a taken address at once, before anything starts.
  // With a file, a supervisor may have started us beside the one we follow.
  const healthHardFail = config.bindAddressHardFail ||
    settings.file === undefined;
  using namespaces = new NetworkNamespaces();
  using handed = new HandedSockets(namespaces);
  const { sockets } = handed;
  using handOver = await HandOver.begin({
    takesOver: flags["take-over"] ?? false,
    sockets,
    namespaces,
  });
  const server = health && servePersistently({
    address: health,
    flag: "healthz-bind-address",
    load: () =>
      Promise.resolve(
        healthApp(
          () => proxy.health(),
          (path, code) => counters.healthAnswered(path, code),
        ).fetch,
      ),
    clock: systemClock,
    hardFail: healthHardFail,
    after: handOver.mayServe,
    sockets,
  });
  if (healthHardFail && !handOver.mayServe) {
    await namingWhoSteers(server?.listening);
  }

  const { mode } = config;
  logger.info(`kube-portal v${VERSION}: ${mode} proxy mode`, {
    mode_from: settings.modeFrom,
    node: nodeName,
    source: client?.server ?? flags.manifests,
  });
  saySettings(settings);
  const stopping = new AbortController();
  let current = config;
  const kernelMode = isKernelMode(mode) ? mode : undefined;
  const choice = kernelMode !== undefined
    ? undefined
    : await chooseEngine(flags.engine as EngineRequest, {
      clock: systemClock,
      descriptorLimit: () => descriptorLimit(systemRunner, stopping.signal),
      workers,
      udpTimeoutMs,
      namespaces,
      sockets,
      sharesPort: await sharedPorts({
        takesOver: flags["take-over"] ?? false,
        namespaces,
        runner: systemRunner,
        signal: stopping.signal,
      }),
    });
  await using engine = choice?.engine;
  engine?.tellConnections?.(logsConnections(logFlags));
  if (choice !== undefined) {
    logger.info(`Moving bytes by ${choice.engine.name}: ${choice.why}`);
  }
  const periods = modePeriods(config, kernelMode ?? "iptables");
  const shared: SharedOptions = {
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
  const listeners = (engine: Engine): ListenerMode => ({
    engine,
    async steering(known, signal) {
      const request = flags.steer as SteeringRequest;
      const sharesTcp = engine.listenForRedirected !== undefined;
      const options = {
        cidrs,
        client,
        known,
        ports,
        sharesTcp,
        namespaces,
        ...handOver.takeLock(signal),
        signal,
      };
      const choice = await steer(request, options);
      handOver.hold(choice.lock, proxy);
      return choice.steering;
    },
  });
  const kernel = (mode: KernelMode): KernelModeStart => ({
    mode,
    async kernel(known, signal) {
      const started = await startKernelMode({
        mode,
        config: () => current,
        nodeName,
        cidrs,
        client,
        known,
        ...handOver.takeLock(signal),
        signal,
      });
      handOver.hold(started.lock, proxy);
      return started.proxier;
    },
  });
  const proxy = startProxy({
    ...shared,
    ...choice === undefined
      ? kernel(kernelMode ?? "iptables")
      : listeners(choice.engine),
  });
  const starting = new AbortController();
  showProgress(() => startingText(proxy), { signal: starting.signal });
  const metrics = serveStatus({
    metricsAddress,
    dashboardAddress,
    proxy,
    configz: () => configurationObject(current),
    flags: allFlags(flags),
    feed,
    clock: systemClock,
    hardFail: config.bindAddressHardFail,
    after: handOver.mayServe,
    sockets,
  });
  const ready = proxy.ready.then(async () => {
    await handOver.finish(
      proxy,
      () => Promise.allSettled([server?.listening, metrics.listening]),
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
  const following = followConfigChanges({
    flags: given,
    settings,
    clock: systemClock,
    signal: stopping.signal,
    async apply(changed) {
      current = changed;
      const changedFlags = logFlagsOf(changed);
      await setupLogging(changedFlags, { tap });
      engine?.tellConnections?.(logsConnections(changedFlags));
      proxy.setAddresses(addressSettings(changed));
    },
  });
  const signalled = untilSignal();
  const asked = await Promise.race([
    signalled,
    handOver.given.then((version) => `the take-over by version ${version}`),
    handOver.lost,
    choice?.failed ?? proxy.failed,
    proxy.failed,
    // End only by their rejections: steering that cannot work ends the program,
    // and so does a metrics address where it has to be had at once.
    ready.then(() => new Promise<never>(() => {})),
    metrics.listening.then(() => new Promise<never>(() => {})),
    server?.listening.then(() => new Promise<never>(() => {})) ?? proxy.failed,
  ]);
  const isGiven = await handOver.stopping();
  stopping.abort();
  await Promise.all([following, writing]);
  starting.abort();
  if (kernelMode === undefined) {
    logger.info(`Stopping at ${asked}; open connections may end`, { drainMs });
  } else {
    const rules = flags["cleanup-on-exit"] ? "are removed" : "stay";
    logger.info(`Stopping at ${asked}; the kernel's rules ${rules}`);
  }
  const servers = server === undefined ? [metrics] : [metrics, server];
  const cut = AbortSignal.timeout(drainMs);
  const drained = new AbortController();
  const cutAt = performance.now() + drainMs;
  showProgress(() => drainingText(proxy, cutAt - performance.now()), {
    signal: drained.signal,
  });
  if (isGiven) {
    const leaving = servers.map((each) => each.leave());
    await proxy.stop(cut, () => handOver.leave());
    drained.abort();
    await Promise.all(leaving);
    if (flags["stay-when-replaced"]) {
      await stay(signalled, handOver);
    }
  } else {
    const stage = await proxy.stop(cut);
    drained.abort();
    for (const each of servers) await each[Symbol.asyncDispose]();
    if (flags["cleanup-on-exit"]) {
      const signal = AbortSignal.timeout(CLEANUP_TIMEOUT_MS);
      if (stage === undefined) await removeHalfStarted(signal);
      else await stage.cleanup(signal);
    }
  }
  // Until now nobody else could take what is there for leftovers.
  handOver[Symbol.dispose]();
  client?.[Symbol.dispose]();
  logger.info("Stopped");
  return 0;
}

/**
 * There is nothing left to do, and a supervisor would start what ends again.
 * Where the one that took over is no more, that is just what is wanted.
 */
async function stay(
  signalled: Promise<unknown>,
  handOver: HandOver,
): Promise<void> {
  logger.info("Replaced; staying until told to stop, or until nobody steers");
  const leaving = new AbortController();
  const alone = handOver.untilNobodySteers(leaving.signal);
  await Promise.race([signalled, alone]);
  leaving.abort();
  await alone;
}

/** Told to stop while steering was put up: what is there has no owner. */
async function removeHalfStarted(signal: AbortSignal): Promise<void> {
  try {
    await removeSteering(signal);
  } catch (error) {
    // Somebody else steers, or there were no rights to begin with.
    logger.warn("Steering is not cleaned up", { reason: errorLine(error) });
  }
}

const CLEANUP_TIMEOUT_MS = 10_000;

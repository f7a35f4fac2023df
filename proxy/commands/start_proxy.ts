/**
 * The flow, wired: a source of cluster objects → informers → state tracker →
 * the stage of a mode: listeners, or a program in the kernel. `run` and `demo`
 * both start the proxy here; this is the file to read to see how the stages meet.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { Informer } from "../../watch/mod.ts";
import type { Node } from "../../watch/types.ts";
import type { DesiredState } from "../desired_state.ts";
import { EndpointIps } from "../endpoint_ips.ts";
import { isLoopback } from "../ip.ts";
import { NO_NODE_ADDRESSES, nodeAddresses } from "../node_addresses.ts";
import { StateTracker } from "../state_tracker.ts";
import { type HealthInput, liveness } from "../status/health.ts";
import { ProxyCounters } from "../status/proxy_counters.ts";
import { ServiceHealth } from "../status/service_health.ts";
import { SyncRunner } from "../sync_runner.ts";
import { type TriggerTime, TriggerTimes } from "../trigger_times.ts";
import { Turns } from "../turns.ts";
import { kernelStage, listenerStage, type ModeStage } from "./mode_stage.ts";
import type { RunningProxy, StartProxyOptions } from "./running_proxy.ts";

const logger = getLogger("main");

/** Upstream's default: failed listeners and removed routes wait no longer. */
const SYNC_PERIOD_MS = 30_000;

/** For health checks that had come before another process took over. */
const LEAVE_MS = 1_000;

export function startProxy(options: StartProxyOptions): RunningProxy {
  const { nodeName, clock, syncPeriodMs = SYNC_PERIOD_MS } = options;
  const counters = options.counters ?? new ProxyCounters();
  const triggers = new TriggerTimes(clock.now());
  const stopping = new AbortController();
  const { signal } = stopping;
  const source = options.source(signal);
  const ready = Promise.withResolvers<void>();
  const failed = Promise.withResolvers<never>();
  // Whoever does not ask is not to be ended by it.
  failed.promise.catch(() => {});

  const services = new Informer(source.services);
  const slices = new Informer(source.endpointSlices);
  const nodes = new Informer(source.node);
  const tracker = new StateTracker(nodeName);
  const endpoints = new EndpointIps();
  const health = (): HealthInput => ({
    now: clock.now(),
    syncs: begun?.times(runner.times) ??
      { IPv4: runner.times, IPv6: runner.times },
    node: options.nodeNotNeeded ? "not-needed" : node,
  });
  const serviceHealth = new ServiceHealth(
    () => liveness(health()).ok,
    options.sockets,
  );
  /** As last seen: one that is deleted stays what it was (fact 7.11). */
  let node: Node | undefined;

  let said = options.addresses ?? {};
  const facts = () => ({
    apiServers: options.apiServers,
    podCidrs: [...said.clusterCidrs ?? [], ...node?.spec.podCIDRs ?? []],
    endpoints,
  });

  const { minSyncPeriodMs = 0 } = options;
  let begun: ModeStage | undefined;
  const begin = async (): Promise<ModeStage> => {
    const { state } = tracker;
    const known = { serviceIps: clusterIps(state), state, facts };
    if ("kernel" in options) {
      return kernelStage(await options.kernel(known, signal));
    }
    const { engine } = options;
    const steering = await options.steering(known, signal);
    const pace = { periodMs: minSyncPeriodMs, clock };
    return listenerStage({ engine, steering, pace });
  };

  let addresses = NO_NODE_ADDRESSES;
  let addressesAreStale = true;
  const lookAtNode = (stage: ModeStage) => {
    const interfaceIps = options.interfaceIps()
      .filter((ip) => !stage.isOurs(ip));
    const all = nodeAddresses({
      selection: said.nodePorts ?? { cidrs: [], primary: false },
      clusterCidrs: said.clusterCidrs ?? [],
      bindAddress: said.bindAddress ?? "",
      node,
      interfaceIps,
    });
    addresses = said.localhostNodePorts === false
      ? { ...all, nodePortIps: all.nodePortIps.filter((ip) => !isLoopback(ip)) }
      : all;
    stage.setNode({ addresses, node, interfaceIps });
    addressesAreStale = false;
  };
  /** The changes of Services do not wait for it. */
  const tryLookAtNode = (stage: ModeStage): "done" | "again" => {
    try {
      lookAtNode(stage);
      return "done";
    } catch (error) {
      logger.error("Cannot look at the node's addresses; trying again", {
        cause: error,
      });
      return "again";
    }
  };

  /** Of changes whose rules are still to be written. */
  const triggered: TriggerTime[] = [];
  let repairedAt = clock.now();
  let isPaused = false;
  let syncing: Promise<unknown> = Promise.resolve();
  const runner = new SyncRunner({
    clock,
    periodMs: syncPeriodMs,
    // Listeners change at once; only their rules wait.
    minPauseMs: "kernel" in options ? minSyncPeriodMs : 0,
    synced: (ms) => counters.synced(ms),
    dueAt: () => begun?.writesDueAt(),
    sync() {
      const result = isPaused ? Promise.resolve("done" as const) : sync();
      syncing = result.catch(() => {});
      return result;
    },
  });
  const sync = async (): Promise<"done" | "again"> => {
    if (!isSynced()) return "done";
    // A clock that was set back makes the age negative: due as well.
    const age = clock.now() - repairedAt;
    if (begun !== undefined && (age >= syncPeriodMs || age < 0)) {
      repairedAt = clock.now();
      await begun.repair(signal);
      addressesAreStale = true;
    }
    counters.changesTaken();
    triggered.push(...triggers.take());
    const changes = await tracker.takeChangesInTurns(new Turns());
    endpoints.apply(changes);
    serviceHealth.note(changes);
    try {
      begun ??= await begin();
    } catch (error) {
      // The strategy that was asked for cannot work: not for us to replace,
      // and for whoever waits for `ready` to tell.
      ready.reject(error);
      return "again";
    }
    const results = [
      addressesAreStale ? tryLookAtNode(begun) : "done",
      await begun.sync(changes, signal),
      await serviceHealth.sync(addresses.nodePortIps),
    ];
    if (begun.writesDueAt() === undefined) {
      counters.programmed(triggered.splice(0), clock.now());
    }
    ready.resolve();
    return results.includes("again") ? "again" : "done";
  };

  // Nothing is programmed before both lists are complete: a proxy that starts
  // must not act on half of what there is (fact 2.36). The Node is not waited
  // for.
  const isSynced = () => services.hasSynced && slices.hasSynced;
  const requestSync = () => {
    if (isSynced()) runner.request();
  };

  const running = Promise.all([
    services.run((changes) => {
      tracker.applyServices(changes);
      counters.servicesChanged(changes.map(({ key }) => key));
      requestSync();
    }),
    slices.run((changes) => {
      tracker.applyEndpointSlices(changes);
      counters.slicesChanged(changes.map(({ key }) => key));
      triggers.note(changes);
      requestSync();
    }),
    nodes.run((changes) => {
      tracker.applyNode(changes);
      node = nodes.store.get(nodeName) ?? node;
      if (node === undefined && !options.nodeNotNeeded) sayNoNode(nodeName);
      addressesAreStale = true;
      requestSync();
    }),
    runner.run(signal),
  ]).catch((error) => {
    ready.reject(error);
    failed.reject(error);
  });

  return {
    mode: "kernel" in options ? options.mode : "userspace",
    nodeName,
    engine: "kernel" in options ? "kernel" : options.engine.name,
    ready: ready.promise,
    failed: failed.promise,
    state: tracker.state,
    ports: () => begun?.ports() ?? [],
    draining: () => begun?.draining() ?? [],
    steering: () => begun?.steering(),
    kernelCounts: () => begun?.kernelCounts() ?? {},
    counters,
    healthCheckFailures: () => serviceHealth.failures,
    serviceUid: (key) => services.store.get(key)?.metadata.uid,
    health,
    sources: () => ({
      services: services.state,
      endpointSlices: slices.state,
      node: nodes.state,
    }),
    setAddresses(settings) {
      said = settings;
      addressesAreStale = true;
      requestSync();
    },
    pause() {
      isPaused = true;
      return syncing.then(() => {});
    },
    resume() {
      isPaused = false;
      repairedAt = -Infinity;
      runner.request();
    },
    syncSoon: () => runner.request(),
    async stop(cut, left) {
      stopping.abort();
      await running;
      // While connections drain, load balancers are told to go elsewhere,
      // unless another process serves here from now on.
      if (left === undefined) await serviceHealth[Symbol.asyncDispose]();
      else serviceHealth.leave(LEAVE_MS);
      const closed = begun?.close(cut);
      left?.();
      await closed;
      await serviceHealth[Symbol.asyncDispose]();
      return begun;
    },
  };
}

/** Mostly a name that is not the kubelet's, and nothing else would show it. */
function sayNoNode(nodeName: string): void {
  logger.warn(
    "The API server has no Node of this name; until it has, /healthz answers 503. Is --hostname-override right?",
    { node: nodeName },
  );
}

function clusterIps(state: DesiredState): string[] {
  return [...state.values()].flatMap(({ ports }) =>
    ports.map(({ servicePort }) => servicePort.clusterIP)
  );
}

/**
 * The flow, wired: a source of cluster objects → informers → state tracker →
 * syncs (`sync_pass.ts`) → the stage of a mode (`mode_stage.ts`): listeners, or
 * a program in the kernel. `run` and `demo` both start the proxy here; this is
 * the file to read to see how the stages meet.
 *
 * @module
 */
import { Informer } from "../../watch/mod.ts";
import type { ClusterSource } from "../../watch/mod.ts";
import { StateTracker } from "../state_tracker.ts";
import { ProxyCounters } from "../status/proxy_counters.ts";
import { TriggerTimes } from "../trigger_times.ts";
import { OwnNodeTracker } from "./own_node_tracker.ts";
import type { RunningProxy, StartProxyOptions } from "./running_proxy.ts";
import { type SyncInputs, SyncPass } from "./sync_pass.ts";

/** For health checks that had come before another process took over. */
const LEAVE_MS = 1_000;

/** Starts every stage. They run until `stop`, or until one of them fails. */
export function startProxy(options: StartProxyOptions): RunningProxy {
  const { nodeName, clock } = options;
  const stopping = new AbortController();
  const { signal } = stopping;
  const informers = informersOf(options.source(signal));
  const inputs: SyncInputs = {
    tracker: new StateTracker(nodeName),
    ownNode: new OwnNodeTracker(options),
    triggers: new TriggerTimes(clock.now()),
    counters: options.counters ?? new ProxyCounters(),
    isSynced: () => informers.services.hasSynced && informers.slices.hasSynced,
    signal,
  };
  const syncs = new SyncPass(options, inputs);
  const failed = Promise.withResolvers<never>();
  // Whoever does not ask is not to be ended by it.
  failed.promise.catch(() => {});
  const running = Promise.all([
    ...follow(informers, { nodeName, inputs, syncs }),
    syncs.run(),
  ]).catch((error) => {
    syncs.fail(error);
    failed.reject(error);
  });
  return {
    ...views(options, { informers, inputs, syncs }),
    failed: failed.promise,
    setAddresses(settings) {
      inputs.ownNode.setSettings(settings);
      syncs.request();
    },
    pause: () => syncs.pause(),
    resume: () => syncs.resume(),
    syncSoon: () => syncs.again(),
    async stop(cut, left) {
      stopping.abort();
      await running;
      return await close(syncs, cut, left);
    },
  };
}

type Informers = ReturnType<typeof informersOf>;

function informersOf(source: ClusterSource) {
  return {
    services: new Informer(source.services),
    slices: new Informer(source.endpointSlices),
    nodes: new Informer(source.node),
  };
}

/** What changed goes to the state tracker; then there is a sync. */
function follow(
  { services, slices, nodes }: Informers,
  { nodeName, inputs, syncs }: {
    readonly nodeName: string;
    readonly inputs: SyncInputs;
    readonly syncs: SyncPass;
  },
): Promise<void>[] {
  const { tracker, ownNode, triggers, counters } = inputs;
  return [
    services.run((changes) => {
      tracker.applyServices(changes);
      counters.servicesChanged(changes.map(({ key }) => key));
      syncs.request();
    }),
    slices.run((changes) => {
      tracker.applyEndpointSlices(changes);
      counters.slicesChanged(changes.map(({ key }) => key));
      triggers.note(changes);
      syncs.request();
    }),
    nodes.run((changes) => {
      tracker.applyNode(changes);
      ownNode.apply(nodes.store.get(nodeName));
      syncs.request();
    }),
  ];
}

/** What status, events and commands see of it. */
function views(
  options: StartProxyOptions,
  { informers: { services, slices, nodes }, inputs, syncs }: {
    readonly informers: Informers;
    readonly inputs: SyncInputs;
    readonly syncs: SyncPass;
  },
) {
  return {
    mode: "kernel" in options ? options.mode : "userspace",
    nodeName: options.nodeName,
    engine: "kernel" in options ? "kernel" : options.engine.name,
    ready: syncs.ready,
    state: inputs.tracker.state,
    ports: () => syncs.stage?.ports() ?? [],
    draining: () => syncs.stage?.draining() ?? [],
    steering: () => syncs.stage?.steering(),
    kernelCounts: () => syncs.stage?.kernelCounts() ?? {},
    counters: inputs.counters,
    healthCheckFailures: () => syncs.serviceHealth.failures,
    serviceUid: (key: string) => services.store.get(key)?.metadata.uid,
    health: () => syncs.health(),
    sources: () => ({
      services: services.state,
      endpointSlices: slices.state,
      node: nodes.state,
    }),
  };
}

/**
 * While connections drain, load balancers are told to go elsewhere, unless
 * another process serves here from now on.
 */
async function close(
  { stage, serviceHealth }: SyncPass,
  cut: AbortSignal,
  left?: () => void,
): ReturnType<RunningProxy["stop"]> {
  if (left === undefined) await serviceHealth[Symbol.asyncDispose]();
  else serviceHealth.leave(LEAVE_MS);
  const closed = stage?.close(cut);
  left?.();
  await closed;
  await serviceHealth[Symbol.asyncDispose]();
  return stage;
}

/**
 * One sync, and when there is one: what changed in the desired state goes to the
 * stage that makes it so, which the first sync begins. In: requests, from
 * `start_proxy.ts`. Out: calls of the stage and of health check node ports, and
 * what is counted.
 *
 * @module
 */
import type { DesiredState } from "../desired_state.ts";
import { EndpointIps } from "../endpoint_ips.ts";
import type { StateTracker } from "../state_tracker.ts";
import { type HealthInput, liveness } from "../status/health.ts";
import type { ProxyCounters } from "../status/proxy_counters.ts";
import { ServiceHealth } from "../status/service_health.ts";
import { SyncRunner } from "../sync_runner.ts";
import type { TriggerTime, TriggerTimes } from "../trigger_times.ts";
import { Turns } from "../turns.ts";
import { kernelStage, listenerStage, type ModeStage } from "./mode_stage.ts";
import type { OwnNodeTracker } from "./own_node_tracker.ts";
import type { StartProxyOptions } from "./running_proxy.ts";

/** Upstream's default: failed listeners and removed routes wait no longer. */
const SYNC_PERIOD_MS = 30_000;

/** What a sync reads. */
export interface SyncInputs {
  readonly tracker: StateTracker;
  readonly ownNode: OwnNodeTracker;
  readonly triggers: TriggerTimes;
  readonly counters: ProxyCounters;
  /**
   * Both lists are complete. Nothing is programmed before: a proxy that starts
   * must not act on half of what there is (fact 2.36). The Node is not waited
   * for.
   */
  isSynced(): boolean;
  /** Ends syncs. */
  readonly signal: AbortSignal;
}

export class SyncPass {
  readonly #options: StartProxyOptions;
  readonly #inputs: SyncInputs;
  readonly #periodMs: number;
  readonly #runner: SyncRunner;
  readonly #endpoints = new EndpointIps();
  readonly serviceHealth: ServiceHealth;
  /** Of changes whose rules are still to be written. */
  readonly #triggered: TriggerTime[] = [];
  readonly #ready = Promise.withResolvers<void>();
  #stage: ModeStage | undefined;
  #repairedAt: number;
  #isPaused = false;
  #syncing: Promise<unknown> = Promise.resolve();

  constructor(options: StartProxyOptions, inputs: SyncInputs) {
    const { clock, syncPeriodMs = SYNC_PERIOD_MS, minSyncPeriodMs } = options;
    this.#options = options;
    this.#inputs = inputs;
    this.#periodMs = syncPeriodMs;
    this.#repairedAt = clock.now();
    this.serviceHealth = new ServiceHealth(
      () => liveness(this.health()).ok,
      options.sockets,
    );
    this.#runner = new SyncRunner({
      clock,
      periodMs: syncPeriodMs,
      // Listeners change at once; only their rules wait.
      minPauseMs: "kernel" in options ? minSyncPeriodMs ?? 0 : 0,
      synced: (ms) => inputs.counters.synced(ms),
      dueAt: () => this.#stage?.writesDueAt(),
      sync: () => {
        const result = this.#isPaused
          ? Promise.resolve("done" as const)
          : this.#sync();
        this.#syncing = result.catch(() => {});
        return result;
      },
    });
  }

  /**
   * Resolves after the first sync.
   *
   * @throws why the stage cannot be begun
   */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** None before the first sync. */
  get stage(): ModeStage | undefined {
    return this.#stage;
  }

  health(): HealthInput {
    const { clock, nodeNotNeeded } = this.#options;
    const { times } = this.#runner;
    return {
      now: clock.now(),
      syncs: this.#stage?.times(times) ?? { IPv4: times, IPv6: times },
      node: nodeNotNeeded ? "not-needed" : this.#inputs.ownNode.node,
    };
  }

  /** Makes syncs, until the signal. */
  run(): Promise<void> {
    return this.#runner.run(this.#inputs.signal);
  }

  /** Something has changed. */
  request(): void {
    if (this.#inputs.isSynced()) this.#runner.request();
  }

  /** Something could not be had, and can be now. */
  again(): void {
    this.#runner.request();
  }

  /** None begins until `resume`; resolves when none is under way. */
  pause(): Promise<void> {
    this.#isPaused = true;
    return this.#syncing.then(() => {});
  }

  /** Somebody else may have changed the machine meanwhile. */
  resume(): void {
    this.#isPaused = false;
    this.#repairedAt = -Infinity;
    this.#runner.request();
  }

  /** Nothing will ever be synced. */
  fail(error: unknown): void {
    this.#ready.reject(error);
  }

  async #sync(): Promise<"done" | "again"> {
    const { tracker, ownNode, counters, triggers, signal } = this.#inputs;
    if (!this.#inputs.isSynced()) return "done";
    await this.#repairIfDue();
    counters.changesTaken();
    this.#triggered.push(...triggers.take());
    const changes = await tracker.takeChangesInTurns(new Turns());
    this.#endpoints.apply(changes);
    this.serviceHealth.note(changes);
    try {
      this.#stage ??= await this.#begin();
    } catch (error) {
      // The strategy that was asked for cannot work: not for us to replace,
      // and for whoever waits for `ready` to tell.
      this.#ready.reject(error);
      return "again";
    }
    const results = [
      ownNode.show(this.#stage),
      await this.#stage.sync(changes, signal),
      await this.serviceHealth.sync(ownNode.addresses.nodePortIps),
    ];
    if (this.#stage.writesDueAt() === undefined) {
      counters.programmed(this.#triggered.splice(0), this.#options.clock.now());
    }
    this.#ready.resolve();
    return results.includes("again") ? "again" : "done";
  }

  async #repairIfDue(): Promise<void> {
    const now = this.#options.clock.now();
    // A clock that was set back makes the age negative: due as well.
    const age = now - this.#repairedAt;
    const isDue = age >= this.#periodMs || age < 0;
    if (this.#stage === undefined || !isDue) return;
    this.#repairedAt = now;
    await this.#stage.repair(this.#inputs.signal);
    this.#inputs.ownNode.lookAgain();
  }

  async #begin(): Promise<ModeStage> {
    const options = this.#options;
    const { tracker: { state }, ownNode, signal } = this.#inputs;
    const facts = () => ({
      apiServers: options.apiServers,
      podCidrs: ownNode.podCidrs,
      endpoints: this.#endpoints,
    });
    const known = { serviceIps: clusterIps(state), state, facts };
    if ("kernel" in options) {
      return kernelStage(await options.kernel(known, signal));
    }
    const { engine, clock, minSyncPeriodMs = 0 } = options;
    const steering = await options.steering(known, signal);
    const pace = { periodMs: minSyncPeriodMs, clock };
    return listenerStage({ engine, steering, pace });
  }
}

function clusterIps(state: DesiredState): string[] {
  return [...state.values()].flatMap(({ ports }) =>
    ports.map(({ servicePort }) => servicePort.clusterIP)
  );
}

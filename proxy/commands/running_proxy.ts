/**
 * What the flow is started with, and what it is while it runs: the two ends of
 * `start_proxy.ts`. Types alone.
 *
 * @module
 */
import type { Clock, ClusterSource, SourceState } from "../../watch/mod.ts";
import type { SocketSource } from "../../watch/http/server.ts";
import type { DesiredState } from "../desired_state.ts";
import type { Engine } from "../engine/engine.ts";
import type { IpFamily } from "../ip.ts";
import type { KernelCounts } from "../kernel_counts.ts";
import type { NodePortSelection } from "../node_addresses.ts";
import type { ClusterFacts } from "../rules/mod.ts";
import type { KernelProxier } from "../rules/modes/kernel_proxier.ts";
import type { KernelMode } from "../rules/modes/mode_input.ts";
import type { HealthInput } from "../status/health.ts";
import type { ProxyCounters } from "../status/proxy_counters.ts";
import type { HealthCheckFailure } from "../status/service_health.ts";
import type { SteeringView } from "../status/status_source.ts";
import type { Steering } from "../steering.ts";
import type { ModeStage, StagePort } from "./mode_stage.ts";

/** What is known of the cluster when steering is chosen, and ever after. */
export interface KnownCluster {
  readonly serviceIps: readonly string[];
  /** The live state: as of the last sync. */
  readonly state: DesiredState;
  facts(): ClusterFacts;
}

/** What is said about addresses, and can be said anew while it runs. */
export interface AddressSettings {
  /** Where NodePorts are served; default: on every address of the node. */
  readonly nodePorts?: NodePortSelection;
  /** CIDRs of the cluster's pods; the own Node's are added to them. */
  readonly clusterCidrs?: readonly string[];
  /** NodePorts are served on loopback addresses too; default: yes. */
  readonly localhostNodePorts?: boolean;
  /** The node's primary address, if it is one and not a wildcard (fact 8.74). */
  readonly bindAddress?: string;
}

/** Services are served by listeners of ours. */
export interface ListenerMode {
  readonly engine: Engine;
  /**
   * Chooses and starts the steering strategy. Called once, before the first
   * sync: what has to stay reachable is known only then.
   */
  steering(known: KnownCluster, signal: AbortSignal): Promise<Steering>;
}

/** Services are served by the kernel. */
export interface KernelModeStart {
  readonly mode: KernelMode;
  /** Called once, before the first sync. */
  kernel(known: KnownCluster, signal: AbortSignal): Promise<KernelProxier>;
}

export type StartProxyOptions =
  & SharedOptions
  & (ListenerMode | KernelModeStart);

export interface SharedOptions {
  /** Where objects come from; its streams end with the signal. */
  source(signal: AbortSignal): ClusterSource;
  readonly nodeName: string;
  /** There is no API server with Nodes: health does not wait for ours. */
  readonly nodeNotNeeded?: boolean;
  /** Where the API server is, as far as it is known by address. */
  readonly apiServers: ReadonlySet<string>;
  readonly addresses?: AddressSettings;
  /** Milliseconds between two looks without a change; 30 s by default. */
  readonly syncPeriodMs?: number;
  /** Milliseconds between two writes of rules at least; 0 by default. */
  readonly minSyncPeriodMs?: number;
  /** The addresses of the machine's interfaces, now. */
  interfaceIps(): readonly string[];
  readonly clock: Clock;
  /** Takes part in what is counted; its own if not given. */
  readonly counters?: ProxyCounters;
  /** Where sockets of health check node ports come from, if not from there. */
  readonly sockets?: SocketSource | undefined;
}

export interface RunningProxy {
  /** `userspace`, or the kernel mode that runs. */
  readonly mode: string;
  readonly nodeName: string;
  /** What moves bytes: an engine's name, or `kernel`. */
  readonly engine: string;
  /**
   * Resolves when the first complete lists have been made so.
   *
   * @throws what keeps it from ever being: steering that cannot work, a folder
   *   of manifests that is not there
   */
  readonly ready: Promise<void>;
  /**
   * Never resolves; rejects when a stage has ended by an error, even after
   * `ready`. What is served goes on, but would never change again.
   */
  readonly failed: Promise<never>;
  /** As of the last sync. */
  readonly state: DesiredState;
  ports(): Iterable<StagePort>;
  /** Of Services that are gone; their connections go on. */
  draining(): Iterable<StagePort>;
  /** How packets come to the listeners; missing before the first sync. */
  steering(): SteeringView | undefined;
  /** Of kernel modes, what each family counted. */
  kernelCounts(): Partial<Record<IpFamily, KernelCounts>>;
  readonly counters: ProxyCounters;
  /** Health check node ports that cannot be had, as of the last sync. */
  healthCheckFailures(): readonly HealthCheckFailure[];
  /** The Service's UID, by `namespace/name`; undefined once it is gone. */
  serviceUid(key: string): string | undefined;
  health(): HealthInput;
  /** What each watch is doing. */
  sources(): Readonly<Record<string, SourceState>>;
  /** Takes other addresses; they show with the next sync, which is asked for. */
  setAddresses(settings: AddressSettings): void;
  /**
   * Nothing is opened, closed or steered any more until `resume`, and nothing
   * is under way when this resolves; what is open goes on.
   */
  pause(): Promise<void>;
  /** Goes on, and looks whether anything was changed meanwhile. */
  resume(): void;
  /** Tries again at once what could not be had. */
  syncSoon(): void;
  /**
   * Stops following the cluster and accepting connections, then waits until
   * those that are open have ended or `signal` is aborted, which cuts them.
   *
   * @param left called as soon as nothing is listened on, where another
   *   process has taken over
   * @returns what stays in place and can be removed; none before the first sync
   */
  stop(
    signal: AbortSignal,
    left?: () => void,
  ): Promise<Pick<ModeStage, "cleanup"> | undefined>;
}

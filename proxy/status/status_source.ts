/**
 * What status is made of: the proxy as metrics, dashboard and `status` see it.
 * Everything is asked for when it is needed, and nothing can be changed through
 * it; the wiring hands it out, so that this room never meets the proxier.
 *
 * @module
 */
import type { SourceState } from "../../watch/types.ts";
import type { ServicePortState, ServiceState } from "../desired_state.ts";
import type { ForwarderStats } from "../engine/engine.ts";
import type { IpFamily } from "../ip.ts";
import type { KernelCounts } from "../kernel_counts.ts";
import type { PortBinding, ServiceAddress } from "../steering.ts";
import type { HealthInput } from "./health.ts";
import type { ProxyCounters } from "./proxy_counters.ts";

/** One Service port that is served; the same object as long as it is. */
export interface PortView {
  /** The same object as long as nothing in it changed. */
  readonly state: ServicePortState;
  readonly addresses: readonly ServiceAddress[];
  readonly bindings: Iterable<PortBinding>;
  readonly failures: Iterable<
    { readonly address: ServiceAddress; readonly reason: string }
  >;
  /** Another number after every change of listeners or failures. */
  readonly revision: number;
  readonly forwarder: { stats(): ForwarderStats };
}

/** How packets come to the listeners. */
export interface SteeringView {
  readonly name: string;
  /** One line for people. */
  readonly description: string;
  /** Address key → why packets for it do not come. */
  readonly failures: ReadonlyMap<string, string>;
}

export interface StatusSource {
  readonly version: string;
  /** `userspace`, or the kernel mode that runs. */
  readonly mode: string;
  readonly nodeName: string;
  readonly engine: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly counters: ProxyCounters;
  /** By `namespace/name`. */
  services(): ReadonlyMap<string, ServiceState>;
  ports(): Iterable<PortView>;
  /** Of Services that are gone; connections go on. */
  draining(): Iterable<PortView>;
  health(): HealthInput;
  /** What each watch is doing. */
  sources(): Readonly<Record<string, SourceState>>;
  /** Missing before the first sync. */
  steering(): SteeringView | undefined;
  /** Of kernel modes, by family. */
  kernelCounts(): Readonly<Partial<Record<IpFamily, KernelCounts>>>;
}

/**
 * The last stage of the flow, which makes the desired state so: by listeners and
 * what leads packets to them, or by a program in the kernel. `start_proxy.ts`
 * drives either in the same way and does not know which it is.
 *
 * @module
 */
import type { Node } from "../../watch/types.ts";
import type { ServicePortState } from "../desired_state.ts";
import type { ForwarderStats } from "../engine/engine.ts";
import type { IpFamily } from "../ip.ts";
import type { KernelCounts } from "../kernel_counts.ts";
import { serviceAddresses } from "../listen_addresses.ts";
import { NO_NODE_ADDRESSES, type NodeAddresses } from "../node_addresses.ts";
import type { ListenFailure } from "../port_proxy.ts";
import { Proxier, type ProxierOptions } from "../proxier.ts";
import type { KernelProxier } from "../rules/modes/kernel_proxier.ts";
import type { StateChanges } from "../state_tracker.ts";
import type { PortView, SteeringView } from "../status/status_source.ts";
import type { ServiceAddress } from "../steering.ts";
import type { SyncTimes } from "../sync_runner.ts";

/** A Service port as status and events see it. */
export interface StagePort extends PortView {
  readonly failures: Iterable<ListenFailure>;
}

/** The own node, as far as it is known. */
export interface OwnNode {
  readonly addresses: NodeAddresses;
  readonly node: Node | undefined;
  /** As the machine has them, what steering added left out. */
  readonly interfaceIps: readonly string[];
}

export interface ModeStage {
  /** @returns `again` if something that is wanted could not be had */
  sync(changes: StateChanges, signal: AbortSignal): Promise<"done" | "again">;
  /** Puts back what somebody removed; once in a sync period. */
  repair(signal: AbortSignal): Promise<void>;
  setNode(own: OwnNode): void;
  /** Addresses that it added to the machine itself are not the node's. */
  isOurs(ip: string): boolean;
  /** Stops taking connections; waits for open ones until `cut`. */
  close(cut: AbortSignal): Promise<void>;
  /** Removes what leads packets anywhere. */
  cleanup(signal: AbortSignal): Promise<void>;
  ports(): Iterable<StagePort>;
  /** Of Services that are gone; their connections go on. */
  draining(): Iterable<StagePort>;
  steering(): SteeringView;
  /** Of kernel modes, what each family counted. */
  kernelCounts(): Partial<Record<IpFamily, KernelCounts>>;
  /** When something is to be written that waits; `undefined`: nothing does. */
  writesDueAt(): number | undefined;
  /** @param runner what all families share */
  times(runner: SyncTimes): Partial<Record<IpFamily, SyncTimes>>;
}

/** @param options.steering already started */
export function listenerStage(options: ProxierOptions): ModeStage {
  const proxier = new Proxier(options);
  const { steering } = options;
  return {
    sync: (changes, signal) => proxier.sync(changes, signal),
    repair: (signal) => proxier.repair(signal),
    setNode: ({ addresses }) => proxier.setNode(addresses),
    isOurs: (ip) => steering.isOurs(ip),
    close: (cut) => proxier.close(cut),
    cleanup: (signal) => steering.cleanup(signal),
    ports: () => proxier.ports,
    draining: () => proxier.draining,
    steering: () => ({
      name: steering.name,
      description: steering.description,
      failures: proxier.steeringFailures,
    }),
    kernelCounts: () => ({}),
    writesDueAt: () => proxier.writesDueAt,
    times: (runner) => ({ IPv4: runner, IPv6: runner }),
  };
}

/** The kernel takes the connections: nothing of ours ends with this process. */
export function kernelStage(proxier: KernelProxier): ModeStage {
  const views = new KernelPorts();
  return {
    sync: (changes, signal) => proxier.sync(changes, signal),
    repair: (signal) => proxier.repair(signal),
    setNode({ addresses, node, interfaceIps }) {
      views.node = addresses;
      proxier.setNode({ node, interfaceIps });
    },
    isOurs: () => false,
    close: () => Promise.resolve(),
    cleanup: (signal) => proxier.cleanup(signal),
    ports: () => views.of(proxier.ports()),
    draining: () => [],
    steering: () => ({
      name: proxier.mode,
      description: `rules of ${proxier.mode} mode, ${
        proxier.families.join(" and ")
      }`,
      failures: new Map(),
    }),
    kernelCounts: () => proxier.counts(),
    // Its pace is the runner's.
    writesDueAt: () => undefined,
    times: (runner) => proxier.times(runner),
  };
}

/** The same view of a Service port as long as it is there. */
class KernelPorts {
  node = NO_NODE_ADDRESSES;
  #views = new Map<string, KernelPort>();

  of(states: Iterable<ServicePortState>): KernelPort[] {
    const views = new Map<string, KernelPort>();
    for (const state of states) {
      const { key } = state.servicePort;
      const view = this.#views.get(key) ?? new KernelPort(state);
      view.state = state;
      view.addresses = serviceAddresses(state.servicePort, this.node);
      views.set(key, view);
    }
    this.#views = views;
    return [...views.values()];
  }
}

/** Nothing is listened on, and what the kernel forwards nobody counts. */
class KernelPort implements StagePort {
  state: ServicePortState;
  addresses: readonly ServiceAddress[] = [];
  readonly bindings: StagePort["bindings"] = [];
  readonly failures: StagePort["failures"] = [];
  readonly revision = 0;
  readonly forwarder = { stats: () => NO_STATS };

  constructor(state: ServicePortState) {
    this.state = state;
  }
}

const NO_STATS: ForwarderStats = {
  connectionsOpen: 0,
  connectionsTotal: 0,
  connectionsFailed: 0,
  connectionsRefused: 0,
  flowsEvicted: 0,
  datagramsDropped: 0,
  affinityEntries: 0,
  dialFailures: 0,
  bytesToEndpoints: 0,
  bytesToClients: 0,
  endpoints: new Map(),
};

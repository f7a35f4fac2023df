/**
 * A proxy as status sees it, without one: Service ports made of objects, with
 * the counts that a test gives them.
 *
 * @module
 */
import {
  type ServicePortState,
  type ServiceState,
  serviceState,
} from "../../proxy/desired_state.ts";
import type { ForwarderStats } from "../../proxy/engine/engine.ts";
import type { KernelCounts } from "../../proxy/kernel_counts.ts";
import { ProxyCounters } from "../../proxy/status/proxy_counters.ts";
import type {
  PortView,
  StatusSource,
  SteeringView,
} from "../../proxy/status/status_source.ts";
import type { PortBinding, ServiceAddress } from "../../proxy/steering.ts";
import type { EndpointSlice, Service, SourceState } from "../../watch/types.ts";

export const NO_STATS: ForwarderStats = {
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

/** One Service port whose every part a test may replace. */
export class FakePort implements PortView {
  state: ServicePortState;
  revision = 0;
  addresses: ServiceAddress[] = [];
  bindings: PortBinding[] = [];
  failures: { address: ServiceAddress; reason: string }[] = [];
  stats: ForwarderStats = NO_STATS;
  readonly forwarder = { stats: () => this.stats };

  /** Listens on its ClusterIP. */
  constructor(state: ServicePortState) {
    this.state = state;
    const { servicePort } = state;
    const address: ServiceAddress = {
      kind: "ClusterIP",
      ip: servicePort.clusterIP,
      port: servicePort.portNumber,
      protocol: servicePort.protocol === "UDP" ? "UDP" : "TCP",
      name: servicePort.text,
    };
    this.addresses = [address];
    this.bindings = [{
      address,
      listen: { ip: address.ip, port: address.port },
    }];
  }

  count(stats: Partial<ForwarderStats>): void {
    this.stats = { ...this.stats, ...stats };
  }
}

export class FakeSource implements StatusSource {
  readonly version = "1.2.3";
  mode = "userspace";
  kernel: Partial<Record<"IPv4" | "IPv6", KernelCounts>> = {};
  readonly nodeName = "n1";
  engine = "portable";
  readonly startedAt = Date.UTC(2026, 0, 1);
  readonly counters = new ProxyCounters();
  readonly all = new Map<string, ServiceState>();
  readonly served = new Map<string, FakePort>();
  drains: FakePort[] = [];
  now = Date.UTC(2026, 0, 1, 1);
  phases: Record<string, SourceState> = {
    services: { phase: "watching" },
    endpointSlices: { phase: "watching" },
    node: { phase: "watching" },
  };
  steers: SteeringView | undefined = {
    name: "route",
    description: "10.96.0.0/16 is routed to lo",
    failures: new Map(),
  };

  /** Adds or replaces a Service; its ports, in order. */
  set(service: Service, slices: readonly EndpointSlice[] = []): FakePort[] {
    const state = serviceState(service, {
      slices,
      node: { name: "n1", zone: "" },
    });
    this.all.set(state.key, state);
    return state.ports.map((port) => {
      const { key } = port.servicePort;
      const known = this.served.get(key);
      const fake = known ?? new FakePort(port);
      fake.state = port;
      fake.revision++;
      this.served.set(key, fake);
      return fake;
    });
  }

  remove(key: string): void {
    for (const { servicePort } of this.all.get(key)?.ports ?? []) {
      this.served.delete(servicePort.key);
    }
    this.all.delete(key);
  }

  services() {
    return this.all;
  }

  ports() {
    return this.served.values();
  }

  draining() {
    return this.drains;
  }

  health() {
    const times = {
      updatedAt: this.now - 1_000,
      requestedAt: this.now - 2_000,
    };
    return {
      now: this.now,
      syncs: { IPv4: times, IPv6: times },
      node: "not-needed" as const,
    };
  }

  sources() {
    return this.phases;
  }

  steering() {
    return this.steers;
  }

  kernelCounts() {
    return this.kernel;
  }
}

/** Name and labels of each sample → its value, of Prometheus text. */
export function samples(text: string): Map<string, number> {
  const lines = text.split("\n").filter((line) =>
    line !== "" && !line.startsWith("#")
  );
  return new Map(lines.map((line) => {
    const space = line.lastIndexOf(" ");
    return [line.slice(0, space), Number(line.slice(space + 1))];
  }));
}

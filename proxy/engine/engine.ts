/**
 * Where the desired state meets sockets: the one interface that every engine
 * (portable, splice) implements, and one conformance suite holds them to.
 *
 * An engine is told *what* a ServicePort forwards to, as plain data, and does
 * the choosing itself: rotation and affinity belong to the ServicePort, however
 * many listeners or worker threads it has.
 *
 * @module
 */

import type { DistributionView } from "../distribution.ts";

/** Where bytes go: one usable endpoint of a ServicePort. */
export interface EndpointAddress {
  /** Canonical IP address, without brackets. */
  readonly ip: string;
  readonly port: number;
}

/**
 * Which of a Service's addresses a client used. Policies of Local are about
 * one or the other (facts 5.49, 5.50).
 */
export type ListenScope = "internal" | "external";

/** Everything an engine needs to know about one ServicePort. */
export interface ForwardingPolicy {
  /** As people read it: `default/web:http`. */
  readonly name: string;
  readonly protocol: "TCP" | "UDP";
  readonly endpoints: EndpointLists;
  /** How long a client stays with its endpoint, from its last use; 0: not. */
  readonly affinityMs: number;
  readonly balancer: "round-robin" | "least-connections";
  /**
   * A TCP connection older than this (give or take a tenth, so that not all
   * end at once) is ended when it is at rest, and at twice the age in any
   * case; 0: never. Open connections follow a change.
   */
  readonly maxConnectionAgeMs: number;
  /** The header that tells a TCP endpoint who its client is. */
  readonly proxyProtocol: "none" | "v1" | "v2";
}

/**
 * The endpoints of a ServicePort, by the way a client came in. Each list is in
 * stable order and may be empty: then that client is turned away. The lists
 * may overlap; one affinity table serves them all, and each has a rotation of
 * its own (facts 4.6, 4.7).
 */
export interface EndpointLists {
  /** For clients of the ClusterIP. */
  readonly internal: readonly EndpointAddress[];
  /** For clients of other addresses that come from outside the cluster. */
  readonly external: readonly EndpointAddress[];
  /** For clients of other addresses that are this node, or pods (fact 5.51). */
  readonly externalFromCluster: readonly EndpointAddress[];
  /**
   * Every endpoint that serves or is ready, whatever the policy: a UDP flow goes
   * on as long as its endpoint is one of these (facts 10.49, 10.55).
   */
  readonly serving: readonly EndpointAddress[];
}

export interface ListenAddress {
  /** An IP address, without brackets. */
  readonly ip: string;
  /** 0: any free port. */
  readonly port: number;
  /** The network namespace to listen in, as a path; the process's own if not given. */
  readonly namespace?: string;
}

/** Opens sockets in other network namespaces than the process's own. */
export interface NamespaceOpener {
  /** Why it cannot on this machine, as the rest of a sentence; `undefined` if it can. */
  whyNot(): string | undefined;
  /**
   * Calls `open` in the namespace of this path. What it does must be done when
   * it returns: waiting happens in the process's own namespace again.
   *
   * @throws {Error} if the namespace cannot be entered, and what `open` throws
   */
  openIn<T>(path: string, open: () => T): T;
  /**
   * Writes a file as it is seen from a namespace: its `/proc/sys/net`.
   *
   * @throws {Error} if it cannot
   */
  writeIn(path: string, file: string, text: string): void;
}

export interface ListenOptions {
  readonly scope: ListenScope;
  /**
   * Canonical CIDRs that a client's address must be in; empty: anyone (fact
   * 6.35). They are all that is looked at: whoever opens the listener adds the
   * Service's own load-balancer IPs where fact 6.33 lets those in.
   */
  readonly sourceRanges: readonly string[];
  /**
   * The address that clients use, where steering has them arrive at another
   * one; the listener's own if not given. PROXY protocol tells endpoints.
   */
  readonly serviceAddress?: ListenAddress;
}

export interface Listener {
  /** The address that was really bound. */
  readonly address: ListenAddress;
  /**
   * Stops accepting at once, and gives the port back. Established connections
   * go on; UDP flows, which would have no socket to answer from, end.
   */
  close(): void;
}

/**
 * Monotonic counters, and gauges where the name says `open`. A connection is a
 * flow where the protocol is UDP.
 */
export interface ForwarderStats {
  readonly connectionsOpen: number;
  readonly connectionsTotal: number;
  /** Connections for which every dial failed. */
  readonly connectionsFailed: number;
  /** Clients turned away: source ranges, a policy, or its share of descriptors. */
  readonly connectionsRefused: number;
  /** UDP flows that were ended, not yet silent for long, to make room for others. */
  readonly flowsEvicted: number;
  /**
   * Datagrams that had an endpoint and did not get there, or back: too large,
   * too many waiting, or not from the endpoint at all.
   */
  readonly datagramsDropped: number;
  /** Clients that session affinity remembers. */
  readonly affinityEntries: number;
  readonly dialFailures: number;
  /** Of `dialFailures`, those where nobody answered in time; the rest said no. */
  readonly dialTimeouts?: number;
  /**
   * Seconds from a TCP client's arrival until an endpoint had answered, dials
   * that failed included; missing before the first, in {@linkcode DIAL_BOUNDS_S}.
   */
  readonly dialSeconds?: DistributionView;
  /** Seconds that TCP connections which have ended were open, in {@linkcode CONNECTION_BOUNDS_S}. */
  readonly connectionSeconds?: DistributionView;
  readonly bytesToEndpoints: number;
  readonly bytesToClients: number;
  /**
   * Open and total connections for each endpoint, keyed by `endpointKey`: `10.0.0.1:80`,
   * `[fd00::1]:80`. One that left stays until its last connection ended.
   */
  readonly endpoints: ReadonlyMap<string, EndpointStats>;
}

/** Upper bounds of the buckets for dials, seconds. */
export const DIAL_BOUNDS_S: readonly number[] = [
  0.0005,
  0.001,
  0.0025,
  0.01,
  0.05,
  0.25,
  1,
  4,
];

/** Upper bounds of the buckets for the life of connections, seconds. */
export const CONNECTION_BOUNDS_S: readonly number[] = [
  0.01,
  0.1,
  1,
  10,
  60,
  600,
  3600,
  86_400,
];

export interface EndpointStats {
  readonly connectionsOpen: number;
  readonly connectionsTotal: number;
  readonly dialFailures: number;
  /**
   * Ejected for failed dials: new connections go elsewhere, until a trial that
   * is due then (milliseconds since 1970). Missing: it is not.
   */
  readonly ejectedUntil?: number;
}

/** The forwarding of one ServicePort. */
export interface Forwarder {
  /** New connections see the new policy; established ones are left alone. */
  update(policy: ForwardingPolicy): void;
  /**
   * Opens a listener for this ServicePort.
   *
   * @throws the error of the system (`Deno.errors.AddrInUse`,
   *   `AddrNotAvailable`, `PermissionDenied`), unchanged
   */
  listen(address: ListenAddress, options: ListenOptions): Promise<Listener>;
  stats(): ForwarderStats;
  /**
   * Closes its listeners, waits until every connection has ended, and cuts
   * those that are left when `signal` is aborted. Never rejects.
   */
  close(signal: AbortSignal): Promise<void>;
}

export interface Engine {
  readonly name: "portable" | "splice";
  forwarder(policy: ForwardingPolicy): Forwarder;
  /**
   * CIDRs of clients that count as this node or as pods of the cluster; for
   * every forwarder, from the next connection on.
   */
  setClusterSources(cidrs: readonly string[]): void;
  /**
   * Whether the end of each connection that comes from now on is a debug line.
   * For an engine whose connections are in other threads: one that is not asked
   * tells nothing, and what nobody reads costs nothing.
   */
  tellConnections?(isTold: boolean): void;
  /**
   * Opens a listener for connections that a rule of the kernel (REDIRECT, DNAT)
   * sends there from many Service addresses: one port for all of them. Which
   * ServicePort a connection is for, its original destination says.
   *
   * Only an engine that can ask for it (SO_ORIGINAL_DST) has this.
   *
   * @throws the error of the system, as `Forwarder.listen` does
   */
  listenForRedirected?(address: ListenAddress): Promise<RedirectedListener>;
}

/** A listener that many forwarders share. A client whose destination has no
 * route is turned away, as is one that came to the listener's own address. */
export interface RedirectedListener extends Listener {
  /** Connections to `destination` are this forwarder's, from the next one on. */
  route(
    destination: ListenAddress,
    forwarder: Forwarder,
    options: ListenOptions,
  ): void;
  /**
   * Begins to accept, with the routes it has. Until then clients wait: those
   * that come to a port which another process had before are not turned away
   * for want of a route.
   */
  start(): void;
  /** They are nobody's any more; established ones go on. */
  unroute(destination: ListenAddress): void;
}

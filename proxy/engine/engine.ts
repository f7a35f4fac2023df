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

/** Where bytes go: one usable endpoint of a ServicePort. */
export interface EndpointAddress {
  /** Canonical IP address, without brackets. */
  readonly ip: string;
  readonly port: number;
}

/** Everything an engine needs to know about one ServicePort. */
export interface ForwardingPolicy {
  /** As people read it: `default/web:http`. */
  readonly name: string;
  readonly protocol: "TCP" | "UDP";
  /** Usable endpoints in stable order; empty means nothing can be forwarded. */
  readonly endpoints: readonly EndpointAddress[];
}

export interface ListenAddress {
  /** An IP address, without brackets. */
  readonly ip: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface Listener {
  /** The address that was really bound. */
  readonly address: ListenAddress;
  /**
   * Stops accepting; established connections go on. The address is free, and
   * clients are refused, from the next turn of the event loop: those that came
   * before may be accepted or reset. A second call does nothing.
   */
  close(): void;
}

/** Monotonic counters, and gauges where the name says `open`. */
export interface ForwarderStats {
  readonly connectionsOpen: number;
  readonly connectionsTotal: number;
  /** Connections for which every dial failed. */
  readonly connectionsFailed: number;
  readonly dialFailures: number;
  readonly bytesToEndpoints: number;
  readonly bytesToClients: number;
  /**
   * Open and total connections for each endpoint, keyed by `endpointKey`: `10.0.0.1:80`,
   * `[fd00::1]:80`. One that left stays until its last connection ended.
   */
  readonly endpoints: ReadonlyMap<string, EndpointStats>;
}

export interface EndpointStats {
  readonly connectionsOpen: number;
  readonly connectionsTotal: number;
  readonly dialFailures: number;
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
  listen(address: ListenAddress): Listener;
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
}

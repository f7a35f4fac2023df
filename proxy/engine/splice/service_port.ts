/**
 * A ServicePort in the thread that accepts: who may come in, which endpoint is
 * chosen, and the counts. All choices are made here, in one thread, however
 * many threads move bytes: so there is one rotation and one memory of clients,
 * and they are the same `LoadBalancer` that the portable engine has.
 *
 * @module
 */
import {
  type ClientAddress,
  endpointKey,
  type EndpointListName,
  LoadBalancer,
} from "../../load_balancer.ts";
import type { Admission, CidrSet } from "../admission.ts";
import { SHARE_TAKEN } from "../descriptor_share.ts";
import { answersAgain, ejected, type LoggedEvent } from "../ejection_events.ts";
import type {
  EndpointAddress,
  ForwardingPolicy,
  ListenAddress,
} from "../engine.ts";
import { proxyHeader } from "../proxy_protocol.ts";
import { Endpoint } from "./endpoint.ts";
import type { Libc } from "./libc.ts";
import { MSG_MORE, MSG_NOSIGNAL } from "./libc.ts";
import type { EndedConnection } from "./messages.ts";
import { Roster } from "./roster.ts";
import {
  type Arrival,
  type DialFailure,
  type Pair,
  Search,
  type SearchFailure,
  type SearchOwner,
  type SearchTools,
} from "./search.ts";
import {
  type Line,
  PORT_CELLS,
  type SharedCounters,
} from "./shared_counters.ts";
import { resetOnClose } from "./socket.ts";
import { Timer } from "./timers.ts";
import type { Timings } from "./timings.ts";

/** What a ServicePort asks of its thread. */
export interface ServicePortHost extends SearchTools {
  readonly libc: Libc;
  readonly counters: SharedCounters;
  readonly clusterSources: CidrSet;
  /** See `DescriptorShare`. */
  readonly connectionsMax: number;
  /** Whether it wants to know of each connection that ended. */
  readonly tellsConnections: boolean;
  connectionEnded(ended: EndedConnection): void;
  /** Takes both sockets, and calls `ended` when the connection is no more. */
  place(port: number, pair: Pair, ended: () => void): void;
  log(port: number, event: LoggedEvent): void;
  endpointGone(port: number, key: string, generation: number): void;
  drained(port: number): void;
}

/** A connection that a listener has accepted. */
export interface AcceptedConnection {
  readonly fd: number;
  readonly client: ClientAddress;
  /** The address it used, as it knows it. */
  readonly destination: () => ListenAddress;
}

/** How often affinity that nobody uses is looked at, in milliseconds. */
const AFFINITY_LOOK_MS = 1_000;

const wallClock = { now: () => Date.now() };

export class ServicePort implements SearchOwner {
  readonly #port: number;
  readonly #host: ServicePortHost;
  readonly #line: Line;
  readonly #timings: Timings;
  readonly #endpoints = new Map<string, Endpoint>();
  /** The same, by the objects that the balancer was given. */
  #byAddress = new Map<EndpointAddress, Endpoint>();
  #current: ReadonlySet<string> = new Set();
  #generation = 0;
  #policy: ForwardingPolicy;
  #balancer: LoadBalancer;
  readonly #searches = new Roster<Search>();
  readonly #affinityTimer = new Timer(() => this.#countAffinity());
  #isCutting = false;
  #isDraining = false;

  constructor(
    port: number,
    options: {
      readonly host: ServicePortHost;
      readonly line: Line;
      readonly timings: Timings;
      readonly policy: ForwardingPolicy;
    },
  ) {
    this.#port = port;
    this.#host = options.host;
    this.#line = options.line;
    this.#timings = options.timings;
    this.#policy = options.policy;
    this.#balancer = new LoadBalancer(options.policy, { clock: wallClock });
  }

  /** @param lines endpoint key → number of its counter line */
  update(
    policy: ForwardingPolicy,
    options: {
      readonly generation: number;
      readonly lines: ReadonlyMap<string, number>;
    },
  ): void {
    const { counters } = this.#host;
    const { internal, external, externalFromCluster } = policy.endpoints;
    this.#policy = policy;
    this.#generation = options.generation;
    const byAddress = new Map<EndpointAddress, Endpoint>();
    for (const address of [...internal, ...external, ...externalFromCluster]) {
      const key = endpointKey(address);
      let endpoint = this.#endpoints.get(key);
      if (endpoint === undefined) {
        const line = counters.line(options.lines.get(key)!);
        endpoint = new Endpoint(address, { key, line });
        this.#endpoints.set(key, endpoint);
      }
      byAddress.set(address, endpoint);
    }
    this.#byAddress = byAddress;
    this.#current = new Set(options.lines.keys());
    this.#balancer.update(policy);
    this.#countAffinity();
    for (const endpoint of [...this.#endpoints.values()]) {
      this.#showEjection(endpoint);
      this.#forgetIfGone(endpoint);
    }
  }

  /** A client has come. Owns its socket. */
  accept(connection: AcceptedConnection, admission: Admission): void {
    const { fd, client } = connection;
    this.#line.add(PORT_CELLS.connectionsTotal, 1);
    const list = admission.listForAll ??
      admission.listFor(client.ip, this.#host.clusterSources);
    if (list === undefined) {
      return this.#turnAway(fd, client, "its address is in no source range");
    }
    if (this.#policy.endpoints[list].length === 0) {
      return this.#turnAway(fd, client, `no endpoint for ${list} clients`);
    }
    const open = this.#line.get(PORT_CELLS.connectionsOpen);
    if (open >= this.#host.connectionsMax) {
      return this.#turnAway(fd, client, SHARE_TAKEN);
    }
    this.#line.add(PORT_CELLS.connectionsOpen, 1);
    const destination = this.#policy.proxyProtocol === "none"
      ? undefined
      : connection.destination();
    const arrival: Arrival = { client, list, destination };
    const search = new Search(fd, { tools: this.#host, owner: this, arrival });
    this.#searches.add(search);
    if (this.#isCutting) search.cut();
    else search.start();
  }

  #turnAway(fd: number, client: ClientAddress, reason: string): void {
    this.#line.add(PORT_CELLS.connectionsRefused, 1);
    resetOnClose(this.#host.libc, fd);
    this.#host.poller.close(fd);
    this.#host.log(this.#port, {
      kind: `refused ${reason}`,
      message: "Turned a client away",
      properties: { client: endpointKey(client), reason },
    });
  }

  /** Says `drained` as soon as no connection is left. */
  drain(): void {
    this.#isDraining = true;
    this.#sayIfDrained();
  }

  /** Ends the searches, and those that come; connections are their thread's. */
  cut(): void {
    this.#isCutting = true;
    for (const search of this.#searches.all()) search.cut();
  }

  pick(
    client: ClientAddress,
    list: EndpointListName,
    tried: ReadonlySet<string>,
  ): Endpoint | undefined {
    const picked = this.#balancer.pick(client, list, tried);
    return picked && this.#byAddress.get(picked);
  }

  dialled(endpoint: Endpoint): void {
    endpoint.dialled();
    this.#balancer.opened(endpoint.key);
  }

  dialFailed(
    { arrival: { client } }: Search,
    endpoint: Endpoint,
    failure: DialFailure | undefined,
  ): void {
    endpoint.undialled();
    this.#balancer.closed(endpoint.key);
    if (failure !== undefined) {
      this.#line.add(PORT_CELLS.dialFailures, 1);
      if (failure.type === "timeout") this.#timings.dialTimedOut();
      endpoint.dialFailed();
      this.#host.log(this.#port, {
        kind: `dial ${endpoint.key} ${failure.type}`,
        message: "Cannot dial endpoint; trying the next",
        properties: { endpoint: endpoint.key, ...failure },
      });
      const forMs = this.#balancer.failed(endpoint.key, client);
      if (forMs !== undefined) {
        this.#host.log(this.#port, ejected(endpoint.key, forMs));
        this.#showEjection(endpoint);
      }
    }
    this.#forgetIfGone(endpoint);
  }

  connected(search: Search, pair: Pair, to: Endpoint): void {
    const { client, destination } = search.arrival;
    this.#searches.delete(search);
    const answeredAt = this.#host.now;
    this.#timings.dialled((answeredAt - search.startedAt) / 1_000);
    to.opened();
    if (this.#balancer.answered(to.key)) {
      this.#host.log(this.#port, answersAgain(to.key));
      this.#showEjection(to);
    }
    if (this.#policy.affinityMs > 0) this.#countAffinity();
    if (destination !== undefined) {
      this.#introduce(pair, client, destination);
    }
    // Kept only where somebody wants to know: a client costs memory.
    const toTell = this.#host.tellsConnections ? client : undefined;
    this.#host.place(this.#port, pair, () => {
      this.#balancer.closed(to.key);
      to.closed();
      const openMs = this.#host.now - answeredAt;
      this.#timings.connectionEnded(openMs / 1_000);
      if (toTell !== undefined) this.#tell(toTell, to, openMs);
      this.#forgetIfGone(to);
      this.#connectionEnded();
    });
  }

  #tell(client: ClientAddress, endpoint: Endpoint, openMs: number): void {
    this.#host.connectionEnded({
      port: this.#port,
      client: endpointKey(client),
      endpoint: endpoint.key,
      openMs: Math.round(openMs),
    });
  }

  /**
   * Writes the header. It always fits: the socket is new, and empty. What the
   * client has said already goes in the same packet.
   */
  #introduce(
    { endpoint, first }: Pair,
    source: ClientAddress,
    destination: ListenAddress,
  ): void {
    const { proxyProtocol } = this.#policy;
    if (proxyProtocol === "none") return;
    const header = proxyHeader(proxyProtocol, { source, destination });
    const flags = first === undefined ? MSG_NOSIGNAL : MSG_NOSIGNAL | MSG_MORE;
    const { call } = this.#host.libc;
    call.send(endpoint.fd, header, header.length, flags);
  }

  ended(search: Search, reason?: SearchFailure, cause?: string): void {
    this.#searches.delete(search);
    if (reason !== undefined) {
      this.#line.add(PORT_CELLS.connectionsFailed, 1);
      this.#host.log(this.#port, {
        kind: `failed ${reason}`,
        message: "Cannot reach any endpoint; the connection was reset",
        properties: { reason, ...(cause === undefined ? {} : { cause }) },
      });
    }
    if (this.#policy.affinityMs > 0) this.#countAffinity();
    this.#connectionEnded();
  }

  #connectionEnded(): void {
    this.#line.add(PORT_CELLS.connectionsOpen, -1);
    if (this.#isDraining) this.#sayIfDrained();
  }

  #sayIfDrained(): void {
    if (this.#line.get(PORT_CELLS.connectionsOpen) > 0) return;
    // From here on its counter lines may be another's.
    this.#host.timers.clear(this.#affinityTimer);
    this.#host.drained(this.#port);
  }

  #showEjection(endpoint: Endpoint): void {
    endpoint.ejectedUntil(this.#balancer.ejectedUntil(endpoint.key));
  }

  #forgetIfGone(endpoint: Endpoint): void {
    if (endpoint.isInUse || this.#current.has(endpoint.key)) return;
    if (!this.#endpoints.delete(endpoint.key)) return;
    this.#host.endpointGone(this.#port, endpoint.key, this.#generation);
  }

  /** Now, and again when some may have expired. */
  #countAffinity(): void {
    const { timers, now } = this.#host;
    const { affinityMs } = this.#policy;
    const entries = this.#balancer.affinityEntries;
    this.#line.set(PORT_CELLS.affinityEntries, entries);
    if (entries === 0) return timers.clear(this.#affinityTimer);
    if (this.#affinityTimer.queue !== undefined) return;
    const delayMs = Math.min(affinityMs + 1, AFFINITY_LOOK_MS);
    timers.set(this.#affinityTimer, { now, delayMs });
  }
}

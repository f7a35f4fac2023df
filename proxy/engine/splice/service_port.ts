/**
 * A ServicePort in the thread that accepts: who may come in, which endpoint is
 * chosen, and the counts. All choices are made here, in one thread, however
 * many threads move bytes: so there is one rotation and one memory of clients
 * (`endpoint_choice.ts`).
 *
 * @module
 */
import {
  type ClientAddress,
  endpointKey,
  type EndpointListName,
} from "../../load_balancer.ts";
import type { Admission, CidrSet } from "../admission.ts";
import { SHARE_TAKEN } from "../descriptor_share.ts";
import type { LoggedEvent } from "../ejection_events.ts";
import type { ForwardingPolicy, ListenAddress } from "../engine.ts";
import { proxyHeader } from "../proxy_protocol.ts";
import type { Endpoint } from "./endpoint.ts";
import { EndpointChoice } from "./endpoint_choice.ts";
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

export class ServicePort implements SearchOwner {
  readonly #port: number;
  readonly #host: ServicePortHost;
  readonly #line: Line;
  readonly #timings: Timings;
  #policy: ForwardingPolicy;
  readonly #choice: EndpointChoice;
  readonly #searches = new Roster<Search>();
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
    const { host } = options;
    this.#port = port;
    this.#host = host;
    this.#line = options.line;
    this.#timings = options.timings;
    this.#policy = options.policy;
    this.#choice = new EndpointChoice(options.policy, {
      counters: host.counters,
      timers: host.timers,
      now: () => host.now,
      line: options.line,
      log: (event) => host.log(port, event),
      gone: (key, generation) => host.endpointGone(port, key, generation),
    });
  }

  /** @param lines endpoint key → number of its counter line */
  update(
    policy: ForwardingPolicy,
    options: {
      readonly generation: number;
      readonly lines: ReadonlyMap<string, number>;
    },
  ): void {
    this.#policy = policy;
    this.#choice.update(policy, options);
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
    return this.#choice.pick(client, list, tried);
  }

  dialled(endpoint: Endpoint): void {
    this.#choice.dialled(endpoint);
  }

  dialFailed(
    { arrival: { client } }: Search,
    endpoint: Endpoint,
    failure: DialFailure | undefined,
  ): void {
    if (failure !== undefined) {
      this.#line.add(PORT_CELLS.dialFailures, 1);
      if (failure.type === "timeout") this.#timings.dialTimedOut();
      endpoint.dialFailed();
      this.#host.log(this.#port, {
        kind: `dial ${endpoint.key} ${failure.type}`,
        message: "Cannot dial endpoint; trying the next",
        properties: { endpoint: endpoint.key, ...failure },
      });
      this.#choice.failed(endpoint, client);
    }
    this.#choice.undialled(endpoint);
  }

  connected(search: Search, pair: Pair, to: Endpoint): void {
    const { client, destination } = search.arrival;
    this.#searches.delete(search);
    const answeredAt = this.#host.now;
    this.#timings.dialled((answeredAt - search.startedAt) / 1_000);
    to.opened();
    this.#choice.works(to);
    if (destination !== undefined) {
      this.#introduce(pair, client, destination);
    }
    // Kept only where somebody wants to know: a client costs memory.
    const toTell = this.#host.tellsConnections ? client : undefined;
    this.#host.place(this.#port, pair, () => {
      this.#choice.closed(to);
      const openMs = this.#host.now - answeredAt;
      this.#timings.connectionEnded(openMs / 1_000);
      if (toTell !== undefined) this.#tell(toTell, to, openMs);
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
    this.#connectionEnded();
  }

  #connectionEnded(): void {
    this.#line.add(PORT_CELLS.connectionsOpen, -1);
    if (this.#isDraining) this.#sayIfDrained();
  }

  #sayIfDrained(): void {
    if (this.#line.get(PORT_CELLS.connectionsOpen) > 0) return;
    // From here on its counter lines may be another's.
    this.#choice.close();
    this.#host.drained(this.#port);
  }
}

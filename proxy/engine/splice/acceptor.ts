/**
 * What thread 0 does beside moving bytes: it has the listeners and the
 * ServicePorts, and gives connected pairs to the thread that has fewest. In:
 * commands, and word of pairs that have ended elsewhere. Out: pairs.
 *
 * @module
 */
import { CidrSet } from "../admission.ts";
import { endpointKey } from "../../load_balancer.ts";
import {
  descriptorsForConnections,
  DescriptorShare,
} from "../descriptor_share.ts";
import { OwnAddresses } from "../own_addresses.ts";
import type { ConnectionTools } from "./connection.ts";
import type { Connections } from "./connections.ts";
import type { EventLog } from "./event_log.ts";
import type { HandOverSender } from "./hand_over.ts";
import { type Libc, MSG_NOSIGNAL } from "./libc.ts";
import { AcceptingListener, type ListenerHost } from "./listener.ts";
import type {
  Command,
  CountedEvent,
  EndedConnection,
  Report,
} from "./messages.ts";
import type { Poller } from "./poller.ts";
import type { Pair } from "./search.ts";
import { ServicePort } from "./service_port.ts";
import { descriptorLimit } from "./socket.ts";
import type { SharedCounters } from "./shared_counters.ts";
import type { Timers } from "./timers.ts";
import { Timings } from "./timings.ts";

export interface AcceptorOptions {
  readonly tools: ConnectionTools;
  readonly dialTimeoutsMs: readonly number[];
  readonly counters: SharedCounters;
  readonly events: EventLog;
  /** The other threads. */
  readonly others: readonly HandOverSender[];
  /** The open connections of a port in this thread. */
  readonly connections: (port: number) => Connections | undefined;
  /** The number of the port's counter line in this thread. */
  readonly line: (port: number) => number;
  readonly post: (report: Report) => void;
}

/** A pair that another thread has. */
interface Placed {
  readonly to: Place;
  readonly ended: () => void;
}

/** Another thread, and how many connections it has. */
interface Place {
  readonly sender: HandOverSender;
  open: number;
}

export class Acceptor implements ListenerHost {
  readonly libc: Libc;
  readonly poller: Poller;
  readonly timers: Timers;
  readonly buffer: Uint8Array<ArrayBuffer>;
  readonly dialTimeoutsMs: readonly number[];
  readonly counters: SharedCounters;
  readonly reservedFrom: number;
  readonly ownAddresses = new OwnAddresses();
  clusterSources = new CidrSet([]);
  tellsConnections = false;
  readonly #options: AcceptorOptions;
  readonly #ports = new Map<number, ServicePort>();
  readonly #listeners = new Map<number, AcceptingListener>();
  /** Listener → a key → the end of a claim to an own address. */
  readonly #owned = new Map<number, Map<string, () => void>>();
  readonly #share = new DescriptorShare();
  readonly #others: readonly Place[];
  readonly #placed = new Map<number, Placed>();
  #lastId = 0;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.libc = options.tools.libc;
    this.poller = options.tools.poller;
    this.timers = options.tools.timers;
    this.buffer = options.tools.buffer;
    this.dialTimeoutsMs = options.dialTimeoutsMs;
    this.counters = options.counters;
    this.#share.limit = descriptorLimit(this.libc);
    this.reservedFrom = descriptorsForConnections(this.#share.limit);
    this.#others = options.others.map((sender) => ({ sender, open: 0 }));
  }

  get now(): number {
    return this.#options.tools.now;
  }

  get connectionsMax(): number {
    return this.#share.connectionsMax;
  }

  servicePort(port: number): ServicePort | undefined {
    return this.#ports.get(port);
  }

  apply(command: Command): void {
    switch (command.type) {
      case "policy":
        if (command.generation === 1) this.#addPort(command);
        return this.#ports.get(command.port)?.update(command.policy, command);
      case "listen": {
        const { listener, fd, address, route } = command;
        const accepting = new AcceptingListener(fd, {
          host: this,
          address,
          route,
        });
        this.#listeners.set(listener, accepting);
        // The smallest number that was free: so many are taken.
        if (this.#listeners.size === 1) this.#share.inUse = fd;
        this.#share.listenerOpened();
        const own = this.ownAddresses
          .add(address, route?.options.serviceAddress);
        this.#owned.set(listener, new Map([["", own]]));
        for (const { destination, route } of command.routes ?? []) {
          this.#own({ listener, destination, route });
          accepting.setRoute(destination, route);
        }
        return;
      }
      case "route":
        this.#own(command);
        this.#listeners.get(command.listener)
          ?.setRoute(command.destination, command.route);
        return;
      case "unlisten":
        this.#listeners.get(command.listener)?.close();
        if (this.#listeners.delete(command.listener)) {
          this.#share.listenerClosed();
        }
        for (
          const disown of this.#owned.get(command.listener)?.values() ?? []
        ) {
          disown();
        }
        this.#owned.delete(command.listener);
        return;
      case "cluster sources":
        this.clusterSources = new CidrSet(command.cidrs);
        return;
      case "tell connections":
        this.tellsConnections = command.isTold;
        return;
      case "drain":
        return this.#ports.get(command.port)?.drain();
      case "cut":
        return this.#ports.get(command.port)?.cut();
    }
  }

  /** A destination is led to a listener, or no longer. */
  #own(
    { listener, destination, route }: Omit<
      Extract<Command, { type: "route" }>,
      "type"
    >,
  ): void {
    const owned = this.#owned.get(listener);
    const key = endpointKey(destination);
    owned?.get(key)?.();
    owned?.delete(key);
    if (route !== undefined) {
      owned?.set(key, this.ownAddresses.add(destination));
    }
  }

  place(port: number, pair: Pair, ended: () => void): void {
    const to = this.#emptiest();
    const here = this.#options.connections(port)!;
    if (to === undefined) return here.add(pair, ended);
    // Bytes cannot go with it; a new socket takes them.
    const told = this.#tellFirst(pair);
    if (told.first !== undefined || !this.#give(port, told, { to, ended })) {
      here.add(told, ended);
    }
  }

  #tellFirst(pair: Pair): Pair {
    const { endpoint, first } = pair;
    if (first === undefined) return pair;
    const { bytes, count } = first;
    const sentBytes = this.libc.call
      .send(endpoint.fd, bytes, count, MSG_NOSIGNAL);
    if (sentBytes === -1) return pair;
    if (sentBytes === count) return { ...pair, first: undefined, sentBytes };
    const rest = bytes.slice(sentBytes, count);
    return { ...pair, first: { bytes: rest, count: rest.length }, sentBytes };
  }

  /** False: the other thread has too much to do. */
  #give(
    port: number,
    { client, endpoint, sentBytes }: Pair,
    { to, ended }: Placed,
  ): boolean {
    const id = this.#lastId = (this.#lastId + 1) & 0x7fffffff;
    const isGiven = to.sender.open({
      id,
      port,
      clientFd: client.fd,
      endpointFd: endpoint.fd,
      sentBytes,
    });
    if (!isGiven) return false;
    to.open++;
    this.poller.giveAway(client.fd);
    this.poller.giveAway(endpoint.fd);
    this.#placed.set(id, { to, ended });
    return true;
  }

  /** Undefined: it is this one. A hand-over costs more than none. */
  #emptiest(): Place | undefined {
    let emptiest: Place | undefined;
    let open = this.#options.tools.openConnections;
    for (const place of this.#others) {
      if (place.open >= open) continue;
      emptiest = place;
      open = place.open;
    }
    return emptiest;
  }

  /** Another thread has no pair of this number any more. */
  endedElsewhere(id: number): void {
    const placed = this.#placed.get(id);
    if (placed === undefined) return;
    this.#placed.delete(id);
    placed.to.open--;
    placed.ended();
  }

  log(port: number, event: Omit<CountedEvent, "port" | "count">): void {
    this.#options.events.add({ port, ...event }, this.now);
  }

  logListener(event: Omit<CountedEvent, "port" | "count">): void {
    this.#options.events.add({ port: undefined, ...event }, this.now);
  }

  connectionEnded(ended: EndedConnection): void {
    this.#options.post({ type: "connection ended", ended });
  }

  endpointGone(port: number, key: string, generation: number): void {
    this.#options.post({ type: "endpoint gone", port, key, generation });
  }

  drained(port: number): void {
    this.#ports.delete(port);
    this.#options.post({ type: "drained", port });
  }

  /** Closes the listeners, and what is looking for an endpoint. */
  close(): void {
    for (const listener of this.#listeners.values()) listener.close();
    for (const port of this.#ports.values()) port.cut();
  }

  #addPort(command: Extract<Command, { type: "policy" }>): void {
    const { port, policy } = command;
    const line = this.counters.line(this.#options.line(port));
    const timings = new Timings(this.counters, command.timings);
    const options = { host: this, line, policy, timings };
    this.#ports.set(port, new ServicePort(port, options));
  }
}

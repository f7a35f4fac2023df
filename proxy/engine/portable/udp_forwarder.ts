/**
 * The forwarding of one UDP ServicePort. In: datagrams of clients. Out: the
 * same datagrams at endpoints, and the answers, from the address that the
 * client asked. Read it top down to follow a datagram: received, its flow found
 * or made, sent, answered.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Clock } from "../../../watch/clock.ts";
import { endpointKey, LoadBalancer } from "../../load_balancer.ts";
import { Admission, type CidrSet, peerIp } from "../admission.ts";
import { ForwarderCounters } from "../counters.ts";
import type {
  EndpointAddress,
  Forwarder,
  ForwarderStats,
  ForwardingPolicy,
  ListenAddress,
  Listener,
  ListenOptions,
  NamespaceOpener,
} from "../engine.ts";
import { OWN_ADDRESS, type OwnAddresses } from "../own_addresses.ts";
import { type FlowExpiry, type FlowLimits, FlowTable } from "../udp_flows.ts";
import type { ClosingSockets } from "./closing_sockets.ts";
import { isExhausted } from "./errors.ts";
import { Bursts } from "./turns.ts";
import type { ReceiveBuffers } from "./udp_buffers.ts";
import {
  type Datagram,
  type Door,
  type Flow,
  isFromEndpoint,
  NEW_FLOWS_PER_TURN,
  openFlow,
} from "./udp_flow.ts";
import { UdpReports } from "./udp_reports.ts";
import { type SendResult, UdpSocket } from "./udp_socket.ts";

const logger = getLogger("engine");

export interface UdpForwarderOptions {
  readonly clock: Clock;
  readonly buffers: ReceiveBuffers;
  readonly timeoutMs: number;
  readonly limits: FlowLimits;
  readonly closing: ClosingSockets;
  readonly ownAddresses: OwnAddresses;
  readonly namespaces?: NamespaceOpener | undefined;
  /** Asked for every flow, since it may change. */
  readonly clusterSources: () => CidrSet;
}

const NONE: ReadonlySet<string> = new Set();

export class UdpForwarder implements Forwarder {
  readonly #options: UdpForwarderOptions;
  readonly #balancer: LoadBalancer;
  readonly #counters = new ForwarderCounters();
  readonly #reports: UdpReports;
  readonly #flows: FlowTable<Flow>;
  /** The same, by client. */
  readonly #byClient = new Map<string, Flow>();
  /** Ends the wait for flows that expire. */
  readonly #closing = new AbortController();
  readonly #doors = new Set<Door>();
  /** Sockets that were closed and have not given their descriptor back yet. */
  readonly #ending = new Set<Promise<void>>();
  readonly #newFlows = new Bursts(NEW_FLOWS_PER_TURN);
  #policy: ForwardingPolicy;
  #doorsOpened = 0;
  #closed = false;

  constructor(policy: ForwardingPolicy, options: UdpForwarderOptions) {
    this.#options = options;
    this.#policy = policy;
    this.#balancer = new LoadBalancer(policy, options);
    this.#counters.setEndpoints(policy.endpoints);
    const { clock } = options;
    this.#reports = new UdpReports({
      clock,
      counters: this.#counters,
      service: () => this.#policy.name,
    });
    this.#flows = new FlowTable({
      time: {
        now: () => clock.now(),
        later: (delayMs, run) => {
          clock.delay(delayMs, this.#closing.signal).then(run, () => {});
        },
      },
      timeoutMs: options.timeoutMs,
      limits: options.limits,
      expire: (flow, why) => this.#expire(flow, why),
    });
  }

  /**
   * Flows to endpoints that no longer serve end at once, when none is left too
   * (facts 10.52, 10.55): their clients' next datagrams go elsewhere.
   */
  update(policy: ForwardingPolicy): void {
    this.#policy = policy;
    this.#balancer.update(policy);
    this.#counters.setEndpoints(policy.endpoints);
    const serving = new Set(policy.endpoints.serving.map(endpointKey));
    for (const flow of this.#flows.values()) {
      if (!serving.has(flow.endpointKey)) this.#end(flow, "endpoint left");
    }
  }

  async listen(
    address: ListenAddress,
    options: ListenOptions,
  ): Promise<Listener> {
    if (this.#closed) {
      throw new Error(`Cannot listen: "${this.#policy.name}" is closed`);
    }
    const socket = await this.#options.closing.bind(() =>
      new UdpSocket(address, {
        ...this.#options,
        log: this.#reports.log,
        // Never called before this turn ends: `door` is there by then.
        handle: (data, from) => this.#fromClient(door, data, from),
      })
    );
    const admission = new Admission(options);
    const door: Door = { id: this.#doorsOpened++, admission, socket };
    this.#doors.add(door);
    this.#awaitEnd(socket);
    socket.ended.then(
      this.#options.ownAddresses.add(socket.address, options.serviceAddress),
    );
    // It was closed while this waited for the address.
    if (this.#closed) this.#closeDoor(door);
    return { address: socket.address, close: () => this.#closeDoor(door) };
  }

  stats(): ForwarderStats {
    return this.#counters.snapshot(this.#balancer);
  }

  /** Flows end with their listeners: there is nothing to wait for. */
  async close(_signal: AbortSignal): Promise<void> {
    this.#closed = true;
    for (const door of this.#doors) this.#closeDoor(door);
    await Promise.all(this.#ending);
    this.#closing.abort();
    this.#reports[Symbol.dispose]();
  }

  #closeDoor(door: Door): void {
    if (!this.#doors.delete(door)) return;
    door.socket.close();
    this.#options.closing.add(door.socket.ended);
    for (const flow of this.#flows.values()) {
      if (flow.door === door) this.#end(flow, "listener closed");
    }
  }

  #awaitEnd({ ended }: UdpSocket): void {
    this.#ending.add(ended);
    ended.then(() => this.#ending.delete(ended));
  }

  #fromClient(
    door: Door,
    data: Uint8Array<ArrayBuffer>,
    client: Deno.NetAddr,
  ): Promise<void> | undefined {
    const { connectionsTotal } = this.#counters;
    this.#deliver({
      door,
      client,
      key: `${door.id} ${client.hostname} ${client.port}`,
      // A copy: the next datagram of another client shall not have to wait
      // until this one's endpoint has taken it.
      data: data.slice(),
    });
    return this.#counters.connectionsTotal === connectionsTotal
      ? undefined
      : this.#newFlows.done();
  }

  /** Sends a datagram by its client's flow, or by a new one. */
  #deliver(datagram: Datagram): void {
    let flow = this.#byClient.get(datagram.key);
    if (flow !== undefined) this.#flows.use(flow);
    else flow = this.#open(datagram);
    if (flow === undefined) return;
    if (datagram.tried?.has(flow.endpointKey)) {
      // Other datagrams of this client chose that endpoint meanwhile.
      this.#reports.failed("refused");
      return;
    }
    const { socket, to } = flow;
    socket.send(datagram.data, to).then((result) =>
      this.#sent(datagram, flow, result)
    );
  }

  #open(datagram: Datagram): Flow | undefined {
    const { door, client, tried } = datagram;
    if (door.socket.isClosed) return undefined;
    const address = { ip: peerIp(client.hostname), port: client.port };
    if (tried === undefined && !datagram.madeRoom) {
      this.#counters.connectionsTotal++;
    }
    const sources = this.#options.clusterSources();
    const list = door.admission.listFor(address.ip, sources);
    if (list === undefined) {
      this.#reports.turnedAway(address, "its address is in no source range");
      return undefined;
    }
    if (this.#policy.endpoints[list].length === 0) {
      this.#reports.turnedAway(address, `no endpoint for ${list} clients`);
      return undefined;
    }
    const pick = () =>
      this.#balancer.pick(address, list, datagram.tried ?? NONE);
    let endpoint = pick();
    while (endpoint !== undefined && this.#isOwn(endpoint)) {
      (datagram.tried ??= new Set()).add(endpointKey(endpoint));
      endpoint = pick();
    }
    if (endpoint === undefined) {
      this.#reports.failed("refused");
      return undefined;
    }
    return this.#openTo(endpoint, datagram);
  }

  /** It would lead back here; then it counts as one that cannot be sent to. */
  #isOwn(endpoint: EndpointAddress): boolean {
    const key = endpointKey(endpoint);
    if (!this.#options.ownAddresses.has(key)) return false;
    this.#reports.notSent(key, OWN_ADDRESS);
    return true;
  }

  #openTo(endpoint: EndpointAddress, datagram: Datagram): Flow | undefined {
    let flow: Flow;
    try {
      flow = openFlow(datagram, endpoint, {
        ...this.#options,
        log: this.#reports.log,
        // Never called before this turn ends: `flow` is there by then.
        handle: (data, from) => this.#fromEndpoint(flow, data, from),
      });
    } catch (cause) {
      if (isExhausted(cause)) this.#makeRoom(datagram, cause);
      else this.#reports.failed("no socket", cause);
      return undefined;
    }
    this.#flows.add(flow);
    this.#byClient.set(flow.key, flow);
    this.#counters.connectionsOpen++;
    this.#balancer.opened(flow.endpointKey);
    this.#awaitEnd(flow.socket);
    return flow;
  }

  /**
   * Out of descriptors: the oldest flow gives up its own. Only once for a
   * datagram: what we freed, others may have taken.
   */
  #makeRoom(datagram: Datagram, cause: unknown): void {
    const freed = datagram.madeRoom
      ? undefined
      : this.#options.limits.evictOldest();
    if (freed === undefined) {
      this.#reports.failed("exhausted", cause);
      return;
    }
    datagram.madeRoom = true;
    freed.then(() => this.#deliver(datagram));
  }

  #sent(datagram: Datagram, flow: Flow, result: SendResult): void {
    switch (result.type) {
      case "sent":
        this.#counters.traffic.bytesToEndpoints += datagram.data.length;
        if (flow.isCounted || flow.isEnded) return;
        flow.isCounted = true;
        this.#counters.endpointOpened(flow.endpointKey);
        return;
      case "closed":
        return;
      case "dropped":
        this.#reports.dropped("towards the endpoint", {
          endpoint: flow.endpointKey,
          bytes: datagram.data.length,
          reason: result.reason,
        });
        return;
      case "failed":
        this.#reports.notSent(flow.endpointKey, result.cause);
        this.#end(flow, "failed");
        (datagram.tried ??= new Set()).add(flow.endpointKey);
        this.#deliver(datagram);
    }
  }

  /** Awaited by the flow's socket, so that its memory need not be copied. */
  async #fromEndpoint(
    flow: Flow,
    data: Uint8Array<ArrayBuffer>,
    from: Deno.NetAddr,
  ): Promise<void> {
    if (flow.isEnded) return;
    if (!isFromEndpoint(flow, from)) {
      // Anybody can send to this port and claim to be an answer.
      this.#reports.dropped("from a stranger", {
        endpoint: flow.endpointKey,
        stranger: endpointKey({ ip: from.hostname, port: from.port }),
      });
      return;
    }
    this.#flows.use(flow);
    const result = await flow.door.socket.send(data, flow.client);
    if (result.type === "sent") {
      this.#counters.traffic.bytesToClients += data.length;
    } else if (result.type !== "closed") {
      this.#reports.dropped("towards the client", {
        bytes: data.length,
        ...(result.type === "dropped"
          ? { reason: result.reason }
          : { reason: "failed", cause: result.cause }),
      });
    }
  }

  #expire(flow: Flow, why: FlowExpiry): Promise<void> {
    if (why === "evicted") this.#reports.evicted();
    this.#end(flow, why);
    return flow.socket.ended;
  }

  #end(flow: Flow, reason: string): void {
    if (flow.isEnded) return;
    flow.isEnded = true;
    this.#flows.delete(flow);
    this.#byClient.delete(flow.key);
    flow.socket.close();
    this.#counters.connectionsOpen--;
    this.#balancer.closed(flow.endpointKey);
    if (flow.isCounted) this.#counters.endpointClosed(flow.endpointKey);
    logger.debug("Flow ended", {
      service: this.#policy.name,
      client: endpointKey({ ip: flow.client.hostname, port: flow.client.port }),
      endpoint: flow.endpointKey,
      reason,
    });
  }
}

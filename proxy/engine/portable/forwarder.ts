/**
 * The forwarding of one ServicePort: its listeners, its balancer, its open
 * connections. In: a policy, as data. Out: bytes at the endpoints, and counts
 * for who asks. Read it top down to follow a connection: accepted, an endpoint
 * found, spliced, ended.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Clock } from "../../../watch/clock.ts";
import {
  type ClientAddress,
  endpointKey,
  type EndpointListName,
  LoadBalancer,
} from "../../load_balancer.ts";
import type { PortSharing } from "../../port_sharing.ts";
import { RepeatedLog } from "../../repeated_log.ts";
import { Admission, type CidrSet, peerIp } from "../admission.ts";
import { ForwarderCounters } from "../counters.ts";
import { type DescriptorShare, SHARE_TAKEN } from "../descriptor_share.ts";
import { answersAgain, ejected, type LoggedEvent } from "../ejection_events.ts";
import type { OwnAddresses } from "../own_addresses.ts";
import { proxyHeader } from "../proxy_protocol.ts";
import type {
  Forwarder,
  ForwarderStats,
  ForwardingPolicy,
  ListenAddress,
  Listener,
  ListenOptions,
  NamespaceOpener,
} from "../engine.ts";
import type { BufferPool } from "./buffers.ts";
import type { ClosingSockets } from "./closing_sockets.ts";
import { type Activity, AgeLimit } from "./connection_age.ts";
import { connectToAny } from "./dial.ts";
import { type EarlyRead, splice } from "./splice.ts";
import { listenTcp, type TcpListener } from "./tcp_listener.ts";
import type { OpenConnections } from "./young_connections.ts";

const logger = getLogger("engine");

export interface PortableForwarderOptions {
  readonly clock: Clock;
  readonly buffers: BufferPool;
  readonly dialTimeoutsMs: readonly number[];
  readonly lingerMs: number;
  readonly closing: ClosingSockets;
  readonly ownAddresses: OwnAddresses;
  readonly share: DescriptorShare;
  readonly open: OpenConnections;
  readonly namespaces?: NamespaceOpener | undefined;
  readonly portSharing?: PortSharing | undefined;
  /** Asked for every connection, since it may change. */
  readonly clusterSources: () => CidrSet;
}

/** How a client came, and to what. */
interface Arrival {
  readonly client: ClientAddress;
  /** The address it used, as it knows it. */
  readonly destination: ListenAddress;
  readonly list: EndpointListName;
  /** To be called when its first bytes have been passed on. */
  readonly grown: () => void;
}

/** Forwards TCP with nothing but Deno's own sockets. */
export class PortableForwarder implements Forwarder {
  readonly #options: PortableForwarderOptions;
  readonly #balancer: LoadBalancer;
  readonly #counters = new ForwarderCounters();
  readonly #ages: AgeLimit;
  readonly #log: RepeatedLog;
  readonly #listeners = new Set<TcpListener>();
  /** Each open connection's way to be cut, and its end. */
  readonly #connections = new Map<AbortController, Promise<void>>();
  /** Loops of listeners, closed ones included, that have not ended yet. */
  readonly #acceptLoops = new Set<Promise<void>>();
  #policy: ForwardingPolicy;
  #closed = false;
  /** Connections that arrive now are cut too. */
  #cutting = false;

  constructor(policy: ForwardingPolicy, options: PortableForwarderOptions) {
    this.#options = options;
    this.#policy = policy;
    this.#balancer = new LoadBalancer(policy, options);
    this.#counters.setEndpoints(policy.endpoints);
    this.#ages = new AgeLimit(policy.maxConnectionAgeMs, options);
    this.#log = new RepeatedLog({
      clock: options.clock,
      write: (message, properties) =>
        logger.warn(message, { service: this.#policy.name, ...properties }),
    });
  }

  update(policy: ForwardingPolicy): void {
    this.#policy = policy;
    this.#balancer.update(policy);
    this.#ages.change(policy.maxConnectionAgeMs);
    this.#counters.setEndpoints(policy.endpoints);
  }

  async listen(
    address: ListenAddress,
    options: ListenOptions,
  ): Promise<Listener> {
    if (this.#closed) {
      throw new Error(`Cannot listen: "${this.#policy.name}" is closed`);
    }
    const admission = new Admission(options);
    // A port that is nobody's may be another Service's in the other process.
    const isOwnAddress = options.serviceAddress === undefined &&
      address.port !== 0;
    const { portSharing } = this.#options;
    const reusePort = isOwnAddress && (portSharing?.isOn ?? false);
    const listener = await this.#options.closing.bind(() =>
      listenTcp(address, {
        clock: this.#options.clock,
        log: this.#log,
        namespaces: this.#options.namespaces,
        reusePort,
        handle: (connection, grown) =>
          this.#accept(connection, admission, options, grown),
        hasOthers: () =>
          this.#options.open.isMoreThan(this.#counters.connectionsOpen),
      })
    );
    this.#listeners.add(listener);
    this.#acceptLoops.add(listener.ended);
    const { serviceAddress } = options;
    const disown = this.#options.ownAddresses
      .add(listener.address, serviceAddress);
    this.#options.share.listenerOpened();
    const unshare = reusePort
      ? portSharing?.opened(listener, address)
      : undefined;
    listener.ended.then(() => {
      unshare?.();
      this.#options.share.listenerClosed();
      disown();
      this.#listeners.delete(listener);
      this.#acceptLoops.delete(listener.ended);
    });
    // It was closed while this waited for the address.
    if (this.#closed) this.#closeListener(listener);
    return {
      address: listener.address,
      close: () => this.#closeListener(listener),
    };
  }

  #closeListener(listener: TcpListener): void {
    listener.close();
    this.#options.closing.add(listener.ended);
  }

  stats(): ForwarderStats {
    return this.#counters.snapshot(this.#balancer);
  }

  async close(signal: AbortSignal): Promise<void> {
    this.#closed = true;
    for (const listener of this.#listeners) this.#closeListener(listener);
    const cut = () => {
      this.#cutting = true;
      for (const connection of this.#connections.keys()) connection.abort();
    };
    if (signal.aborted) cut();
    else signal.addEventListener("abort", cut, { once: true });
    await Promise.all(this.#acceptLoops);
    // Complete: no loop is left that could add one.
    await Promise.all(this.#connections.values());
    signal.removeEventListener("abort", cut);
    this.#log[Symbol.dispose]();
  }

  #accept(
    socket: Deno.TcpConn,
    admission: Admission,
    { serviceAddress }: ListenOptions,
    grown: () => void,
  ): void {
    this.#counters.connectionsTotal++;
    const { localAddr, remoteAddr } = socket;
    const client = { ip: peerIp(remoteAddr.hostname), port: remoteAddr.port };
    const turnAway = (reason: string) => {
      this.#turnAway(socket, client, reason);
      grown();
    };
    const list = admission.listFor(client.ip, this.#options.clusterSources());
    if (list === undefined) {
      return turnAway("its address is in no source range");
    }
    if (this.#policy.endpoints[list].length === 0) {
      return turnAway(`no endpoint for ${list} clients`);
    }
    if (this.#counters.connectionsOpen >= this.#options.share.connectionsMax) {
      return turnAway(SHARE_TAKEN);
    }
    const destination = serviceAddress ??
      { ip: peerIp(localAddr.hostname), port: localAddr.port };
    const connection = new AbortController();
    if (this.#cutting) connection.abort();
    const ended = this.#forward(socket, connection, {
      client,
      destination,
      list,
      grown,
    }).finally(() => {
      grown();
      this.#connections.delete(connection);
      this.#counters.connectionsOpen--;
      this.#options.open.closed();
    });
    this.#counters.connectionsOpen++;
    this.#options.open.opened();
    this.#connections.set(connection, ended);
  }

  /** By a FIN, since we have no reset: see ../README.md. */
  #turnAway(socket: Deno.TcpConn, client: ClientAddress, reason: string): void {
    socket.close();
    this.#counters.connectionsRefused++;
    this.#log.report(`refused ${reason}`, "Turned a client away", {
      client: endpointKey(client),
      reason,
    });
  }

  /** The life of one connection. Owns `socket`; never rejects. */
  async #forward(
    socket: Deno.TcpConn,
    connection: AbortController,
    arrival: Arrival,
  ): Promise<void> {
    const { signal } = connection;
    keepAlive(socket);
    const earlyRead = readEarly(socket, connection, this.#options.buffers);
    const arrivedAt = performance.now();
    const found = await connectToAny(this.#balancer, {
      ...arrival,
      timeoutsMs: this.#options.dialTimeoutsMs,
      ownAddresses: this.#options.ownAddresses,
      signal,
      dialFailed: (endpoint, failure) => {
        const key = endpointKey(endpoint);
        this.#counters.dialFailed(key, failure.type);
        this.#log.report(
          `dial ${key} ${failure.type}`,
          "Cannot dial endpoint; trying the next",
          { endpoint: key, ...failure },
        );
        const ejectedMs = this.#balancer.failed(key, arrival.client);
        if (ejectedMs !== undefined) this.#report(ejected(key, ejectedMs));
      },
    });
    if (found.type !== "connected") {
      socket.close();
      await earlyRead.result.catch(() => {});
      this.#options.buffers.giveBackSmall(earlyRead.buffer);
      if (found.type === "failed") this.#failed(found.reason, found.cause);
      return;
    }
    const key = endpointKey(found.endpoint);
    const answeredAt = performance.now();
    this.#counters.dialled((answeredAt - arrivedAt) / 1_000);
    this.#counters.endpointOpened(key);
    if (this.#balancer.answered(key)) this.#report(answersAgain(key));
    keepAlive(found.connection);
    const activity: Activity = { bytes: 0, isAnswerDue: false, writes: 0 };
    const ageing = this.#ages.add(connection, activity);
    const result = await splice(socket, found.connection, {
      signal,
      lingerMs: this.#options.lingerMs,
      buffers: this.#options.buffers,
      traffic: this.#counters.traffic,
      earlyRead,
      activity,
      begun: arrival.grown,
      ...this.#preface(arrival),
    });
    this.#ages.delete(ageing);
    this.#balancer.closed(key);
    this.#counters.endpointClosed(key);
    this.#counters.connectionEnded((performance.now() - answeredAt) / 1_000);
    logger.debug("Connection ended", {
      service: this.#policy.name,
      client: endpointKey(arrival.client),
      endpoint: key,
      ...result,
    });
  }

  /** What the endpoint gets before the client's first byte, if anything. */
  #preface(
    { client, destination }: Arrival,
  ): { readonly preface?: Uint8Array } {
    const { proxyProtocol } = this.#policy;
    if (proxyProtocol === "none") return {};
    const connection = { source: client, destination };
    return { preface: proxyHeader(proxyProtocol, connection) };
  }

  #report({ kind, message, properties }: LoggedEvent): void {
    this.#log.report(kind, message, properties);
  }

  #failed(reason: string, cause: unknown): void {
    this.#counters.connectionsFailed++;
    this.#log.report(
      `failed ${reason}`,
      "Cannot reach any endpoint; the connection was closed",
      { reason, ...(cause === undefined ? {} : { cause }) },
    );
  }
}

/**
 * Reads from the client while an endpoint is looked for. Its first bytes are
 * then there when they are needed, and a client that resets the connection
 * ends the search: without a read nobody would notice.
 *
 * A client that merely ends its direction goes on waiting, or so it must be
 * taken: `nc -N host port </dev/null` looks the same as one that left.
 */
function readEarly(
  client: Deno.TcpConn,
  connection: AbortController,
  buffers: BufferPool,
): EarlyRead {
  const buffer = buffers.takeSmall();
  const result = client.read(buffer);
  result.catch(() => connection.abort());
  return { buffer, result };
}

/**
 * A peer that vanished without a word (a node that lost power) is found by the
 * kernel, after two hours with Linux's defaults, and its descriptors come back.
 */
function keepAlive(connection: Deno.TcpConn): void {
  try {
    connection.setKeepAlive(true);
  } catch {
    // Some systems (macOS) refuse this on a connection that was reset; the
    // next read or write says so.
  }
}

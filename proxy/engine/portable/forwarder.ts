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
import { RepeatedLog } from "../../repeated_log.ts";
import { Admission, type CidrSet, peerIp } from "../admission.ts";
import { ForwarderCounters } from "../counters.ts";
import type {
  Forwarder,
  ForwarderStats,
  ForwardingPolicy,
  ListenAddress,
  Listener,
  ListenOptions,
} from "../engine.ts";
import { type BufferPool, SMALL_BUFFER_BYTES } from "./buffers.ts";
import { connectToAny } from "./dial.ts";
import { type EarlyRead, splice } from "./splice.ts";
import { listenTcp, type TcpListener } from "./tcp_listener.ts";

const logger = getLogger("engine");

export interface PortableForwarderOptions {
  readonly clock: Clock;
  readonly buffers: BufferPool;
  readonly dialTimeoutsMs: readonly number[];
  readonly lingerMs: number;
  /** Asked for every connection, since it may change. */
  readonly clusterSources: () => CidrSet;
}

/** Forwards TCP with nothing but Deno's own sockets. */
export class PortableForwarder implements Forwarder {
  readonly #options: PortableForwarderOptions;
  readonly #balancer: LoadBalancer;
  readonly #counters = new ForwarderCounters();
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
    this.#log = new RepeatedLog({
      clock: options.clock,
      write: (message, properties) =>
        logger.warn(message, { service: this.#policy.name, ...properties }),
    });
  }

  update(policy: ForwardingPolicy): void {
    this.#policy = policy;
    this.#balancer.update(policy);
    this.#counters.setEndpoints(policy.endpoints);
  }

  // deno-lint-ignore require-await -- engines with threads do wait
  async listen(
    address: ListenAddress,
    options: ListenOptions,
  ): Promise<Listener> {
    if (this.#closed) {
      throw new Error(`Cannot listen: "${this.#policy.name}" is closed`);
    }
    const admission = new Admission(options);
    const listener = listenTcp(address, {
      clock: this.#options.clock,
      log: this.#log,
      handle: (connection) => this.#accept(connection, admission),
    });
    this.#listeners.add(listener);
    this.#acceptLoops.add(listener.ended);
    listener.ended.then(() => {
      this.#listeners.delete(listener);
      this.#acceptLoops.delete(listener.ended);
    });
    return listener;
  }

  stats(): ForwarderStats {
    return this.#counters.snapshot(this.#balancer.affinityEntries);
  }

  async close(signal: AbortSignal): Promise<void> {
    this.#closed = true;
    for (const listener of this.#listeners) listener.close();
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

  #accept(client: Deno.TcpConn, admission: Admission): void {
    this.#counters.connectionsTotal++;
    const address = {
      ip: peerIp(client.remoteAddr.hostname),
      port: client.remoteAddr.port,
    };
    const list = admission.listFor(address.ip, this.#options.clusterSources());
    if (list === undefined) {
      this.#turnAway(client, address, "outside the source ranges");
      return;
    }
    if (this.#policy.endpoints[list].length === 0) {
      this.#turnAway(client, address, "its policy leaves no endpoint");
      return;
    }
    const connection = new AbortController();
    if (this.#cutting) connection.abort();
    const ended = this.#forward(client, connection, { address, list })
      .finally(() => {
        this.#connections.delete(connection);
        this.#counters.connectionsOpen--;
      });
    this.#counters.connectionsOpen++;
    this.#connections.set(connection, ended);
  }

  #turnAway(client: Deno.TcpConn, address: ClientAddress, reason: string) {
    client.close();
    this.#counters.connectionsRefused++;
    this.#log.report(
      `refused ${reason}`,
      "Turned a client away",
      { client: endpointKey(address), reason },
    );
  }

  /** The life of one connection. Owns `client`; never rejects. */
  async #forward(
    client: Deno.TcpConn,
    connection: AbortController,
    { address, list }: {
      readonly address: ClientAddress;
      readonly list: EndpointListName;
    },
  ): Promise<void> {
    const { signal } = connection;
    tune(client);
    const earlyRead = readEarly(client, connection);
    const found = await connectToAny(this.#balancer, {
      client: address,
      list,
      timeoutsMs: this.#options.dialTimeoutsMs,
      signal,
      dialFailed: (endpoint, failure) => {
        const key = endpointKey(endpoint);
        this.#counters.dialFailed(key);
        this.#log.report(
          `dial ${key} ${failure.type}`,
          "Cannot dial endpoint; trying the next",
          { endpoint: key, ...failure },
        );
      },
    });
    if (found.type !== "connected") {
      client.close();
      await earlyRead.result.catch(() => {});
      if (found.type === "failed") this.#failed(found.reason, found.cause);
      return;
    }
    const key = endpointKey(found.endpoint);
    this.#counters.endpointOpened(key);
    tune(found.connection);
    const result = await splice(client, found.connection, {
      signal,
      lingerMs: this.#options.lingerMs,
      buffers: this.#options.buffers,
      traffic: this.#counters.traffic,
      earlyRead,
    });
    this.#balancer.closed(key);
    this.#counters.endpointClosed(key);
    logger.debug("Connection ended", {
      service: this.#policy.name,
      client: endpointKey(address),
      endpoint: key,
      ...result,
    });
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
): EarlyRead {
  const buffer = new Uint8Array(SMALL_BUFFER_BYTES);
  const result = client.read(buffer);
  result.catch(() => connection.abort());
  return { buffer, result };
}

/**
 * No delay: we write what has arrived as it arrived, and waiting for more
 * would add up to 40 ms (Nagle against delayed acknowledgements) that a direct
 * connection does not have. Keep-alive: a peer that vanished without a word
 * (a node that lost power) is found by the kernel, after two hours with
 * Linux's defaults, and its descriptors come back.
 */
function tune(connection: Deno.TcpConn): void {
  try {
    connection.setNoDelay(true);
    connection.setKeepAlive(true);
  } catch {
    // Some systems (macOS) refuse this on a connection that was reset; the
    // next read or write says so.
  }
}

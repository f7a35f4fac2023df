/**
 * Health check node ports: for each Service that asks for one, a small HTTP
 * server that tells load balancers whether this node has endpoints of it (facts
 * 6.36–6.48). In: the states of Services that changed, and the addresses to
 * listen on. Out: answers. Knows nothing of how connections are forwarded.
 *
 * Contract:
 * 1. What was noted shows with the next `sync`, which is made only after the
 *    Services themselves were programmed (fact 6.44).
 * 2. One port that cannot be had never stops the others; it is tried again at
 *    every sync, and said once for each reason.
 * 3. An unchanged port keeps its listeners, whatever else changes (fact 6.45).
 *
 * @module
 */
import { getLogger } from "@std/log";
import { bindReason } from "../bind_reason.ts";
import { localReadyCount, type ServiceState } from "../desired_state.ts";
import { formatHostPort, type IpFamily, ipFamily } from "../ip.ts";
import {
  type HttpServer,
  serve,
  type SocketSource,
} from "../../watch/http/server.ts";
import type { StateChanges } from "../state_tracker.ts";

const logger = getLogger("status");

/** What one health check node port tells, in one family. */
export interface HealthCheck {
  readonly namespace: string;
  readonly name: string;
  readonly family: IpFamily;
  readonly port: number;
  /** Local endpoints that are ready. */
  readonly localEndpoints: number;
}

/** The health checks of a Service: none, or one for each family (fact 6.37). */
export function healthChecksOf(state: ServiceState): HealthCheck[] {
  const families: IpFamily[] = ["IPv4", "IPv6"];
  return families.flatMap((family) => {
    const servicePort = state.ports.map((port) => port.servicePort)
      .find((port) => port.family === family && port.healthCheckNodePort !== 0);
    return servicePort === undefined ? [] : [{
      namespace: servicePort.namespace,
      name: servicePort.name,
      family,
      port: servicePort.healthCheckNodePort,
      localEndpoints: localReadyCount(state, family),
    }];
  });
}

/**
 * The answer to any request, byte for byte as upstream's (facts 6.39–6.43).
 *
 * @param isHealthy of the proxy itself, whatever becomes of the node
 */
export function healthCheckAnswer(
  { namespace, name, localEndpoints }: HealthCheck,
  isHealthy: boolean,
): Response {
  const body = {
    service: { namespace, name },
    localEndpoints,
    serviceProxyHealthy: isHealthy,
  };
  return new Response(JSON.stringify(body, null, "\t"), {
    status: localEndpoints > 0 && isHealthy ? 200 : 503,
    headers: {
      "Content-Type": "application/json",
      "X-Content-Type-Options": "nosniff",
      "X-Load-Balancing-Endpoint-Weight": String(localEndpoints),
    },
  });
}

/** A health check that should be listened for on an address and is not. */
export interface HealthCheckFailure {
  readonly check: HealthCheck;
  readonly ip: string;
  /** The rest of a sentence. */
  readonly reason: string;
}

interface Entry {
  check: HealthCheck;
  /** By address. */
  readonly servers: Map<string, HttpServer>;
  readonly failures: Map<string, HealthCheckFailure>;
}

export class ServiceHealth implements AsyncDisposable {
  readonly #isHealthy: () => boolean;
  readonly #sockets: SocketSource | undefined;
  #isLeaving = false;
  /** Service key → its new health checks, until the next sync. */
  readonly #noted = new Map<string, readonly HealthCheck[]>();
  /** Service key → family → what is there now. */
  readonly #entries = new Map<string, Map<IpFamily, Entry>>();
  #ips: readonly string[] = [];
  #isComplete = true;
  readonly #closing = new Set<Promise<void>>();

  /**
   * @param isHealthy asked with every request
   * @param sockets where listening sockets come from, if not from itself
   */
  constructor(isHealthy: () => boolean, sockets?: SocketSource) {
    this.#isHealthy = isHealthy;
    this.#sockets = sockets;
  }

  /** Addresses that should be listened on and are not. */
  get failures(): HealthCheckFailure[] {
    return this.#all().flatMap(({ failures }) => [...failures.values()]);
  }

  /** Takes changes of Services; nothing shows before `sync`. */
  note({ changed, removed }: StateChanges): void {
    for (const key of removed) this.#noted.set(key, []);
    for (const state of changed) {
      const checks = healthChecksOf(state);
      if (checks.length > 0 || this.#entries.has(state.key)) {
        this.#noted.set(state.key, checks);
      } else this.#noted.delete(state.key);
    }
  }

  /**
   * Makes it so, on these addresses of the node and never on a wildcard.
   *
   * @returns `again` if some port could not be had
   */
  async sync(ips: readonly string[]): Promise<"done" | "again"> {
    const isIdle = this.#noted.size === 0 && this.#isComplete &&
      this.#ips === ips;
    if (isIdle) return "done";
    this.#ips = ips;
    for (const [key, checks] of this.#noted) this.#apply(key, checks);
    this.#noted.clear();
    // Listeners nobody wants are closed before any is opened: a port can
    // change hands.
    for (const entry of this.#all()) this.#closeOthers(entry);
    for (const entry of this.#all()) await this.#open(entry);
    this.#isComplete = this.failures.length === 0;
    return this.#isComplete ? "done" : "again";
  }

  #all(): Entry[] {
    return [...this.#entries.values()].flatMap((each) => [...each.values()]);
  }

  #apply(key: string, checks: readonly HealthCheck[]): void {
    const before = this.#entries.get(key) ?? new Map<IpFamily, Entry>();
    const after = new Map<IpFamily, Entry>();
    for (const check of checks) {
      const known = before.get(check.family);
      if (known !== undefined && known.check.port === check.port) {
        known.check = check;
        after.set(check.family, known);
      } else {
        const entry = { check, servers: new Map(), failures: new Map() };
        after.set(check.family, entry);
      }
    }
    for (const [family, entry] of before) {
      if (after.get(family) !== entry) this.#close(entry, entry.servers.keys());
    }
    if (after.size === 0) this.#entries.delete(key);
    else this.#entries.set(key, after);
  }

  #wanted({ check }: Entry): string[] {
    return this.#ips.filter((ip) => ipFamily(ip) === check.family);
  }

  #closeOthers(entry: Entry): void {
    const wanted = this.#wanted(entry);
    const gone = [...entry.servers.keys()].filter((ip) => !wanted.includes(ip));
    this.#close(entry, gone);
    for (const ip of entry.failures.keys()) {
      if (!wanted.includes(ip)) entry.failures.delete(ip);
    }
  }

  async #open(entry: Entry): Promise<void> {
    for (const ip of this.#wanted(entry)) {
      if (entry.servers.has(ip)) continue;
      try {
        entry.servers.set(ip, await this.#serve(entry, ip));
        entry.failures.delete(ip);
      } catch (error) {
        this.#fail(entry, ip, bindReason(error));
      }
    }
  }

  #serve(entry: Entry, ip: string): Promise<HttpServer> {
    return serve({ ip, port: entry.check.port }, () => {
      // A request that raced with closing gets nothing in particular (6.47).
      if (!entry.servers.has(ip) && !this.#isLeaving) return new Response();
      return healthCheckAnswer(entry.check, this.#isHealthy());
    }, { sockets: this.#sockets });
  }

  #fail(entry: Entry, ip: string, reason: string): void {
    const { check } = entry;
    if (entry.failures.get(ip)?.reason !== reason) {
      logger.warn(
        "Cannot listen for the health checks of a Service; trying again",
        {
          service: `${check.namespace}/${check.name}`,
          address: formatHostPort(ip, check.port),
          reason,
        },
      );
    }
    entry.failures.set(ip, { check, ip, reason });
  }

  #close(entry: Entry, ips: Iterable<string>): void {
    for (const ip of [...ips]) {
      const server = entry.servers.get(ip);
      entry.servers.delete(ip);
      if (server === undefined) continue;
      this.#await(server.shutdown());
    }
  }

  /** Closes every listener; who is connected is answered for so long still. */
  leave(graceMs: number): void {
    this.#isLeaving = true;
    for (const entry of this.#all()) {
      for (const server of entry.servers.values()) {
        this.#await(server.leave(graceMs));
      }
      entry.servers.clear();
    }
  }

  #await(closed: Promise<void>): void {
    const closing = closed.finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  /** Closes every listener and cuts the requests that are under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const entry of this.#all()) this.#close(entry, entry.servers.keys());
    this.#entries.clear();
    await Promise.all(this.#closing);
  }
}

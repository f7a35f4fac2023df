/**
 * `route`, and `redirect` for the single addresses that it cannot have: a
 * process that listens on a wildcard address and our listener on ClusterIP:port
 * exclude each other, and a rule leads packets past the process.
 *
 * Each address belongs to one of the two strategies at a time; this file keeps
 * which, and knows neither routes nor rules.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { ListenAddress } from "../engine/engine.ts";
import { addressKey } from "../listen_addresses.ts";
import {
  type ListenerChanges,
  type ServiceAddress,
  type Steering,
  SteeringError,
  type SteeringResult,
} from "../steering.ts";
import type { RedirectSteering } from "./redirect.ts";
import type { RouteSteering } from "./route.ts";

const logger = getLogger("rules");

export class RouteWithRedirect implements Steering {
  readonly name = "route";
  readonly #route: RouteSteering;
  readonly #redirect: RedirectSteering;
  /** `off` until an address needs it: rules are not for free (conntrack). */
  #state: "off" | "on" | "failed" = "off";
  /** Addresses that `redirect` has. */
  readonly #redirected = new Set<string>();
  /** Some address could not be bound since the last pass. */
  #isNeeded = false;

  constructor(route: RouteSteering, redirect: RedirectSteering) {
    this.#route = route;
    this.#redirect = redirect;
  }

  get description(): string {
    return this.#state === "on"
      ? `${this.#route.description}; ${this.#redirect.description} where a port is taken`
      : this.#route.description;
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.#route.start(signal);
    // Rules of an earlier run lead packets away: they are adopted, and those
    // that nobody needs are removed with the first pass.
    if (await this.#redirect.isInstalled(signal)) {
      await this.#startRedirect(signal);
    }
  }

  async #startRedirect(signal: AbortSignal): Promise<void> {
    try {
      await this.#redirect.start(signal);
      this.#state = "on";
    } catch (error) {
      if (!(error instanceof SteeringError)) throw error;
      this.#state = "failed";
      logger.warn(
        "Service ports that other processes hold cannot be redirected",
        { reason: error.message },
      );
    }
  }

  prepare(
    added: readonly ServiceAddress[],
    signal: AbortSignal,
  ): Promise<SteeringResult> {
    return this.#route.prepare(added, signal);
  }

  /** Always the address itself first: whoever holds its port may be gone. */
  bindAddress(address: ServiceAddress): ListenAddress | undefined {
    return this.#route.bindAddress(address);
  }

  /**
   * A proxy port, where the port itself is in use. The first time, only from
   * the next attempt on: rules have to be tried out before.
   */
  fallbackAddress(
    address: ServiceAddress,
    error: unknown,
  ): ListenAddress | undefined {
    if (!(error instanceof Deno.errors.AddrInUse)) return undefined;
    this.#isNeeded = true;
    if (this.#state !== "on") return undefined;
    const key = addressKey(address);
    if (!this.#redirected.has(key)) {
      this.#redirected.add(key);
      this.#redirect.want(address);
    }
    return this.#redirect.bindAddress(address);
  }

  async sync(
    changes: ListenerChanges,
    signal: AbortSignal,
  ): Promise<SteeringResult> {
    if (this.#isNeeded && this.#state === "off") {
      await this.#startRedirect(signal);
    }
    this.#isNeeded = false;
    const routed = await this.#route.sync(changes, signal);
    if (this.#state !== "on") return routed;
    const redirected = await this.#redirect.sync(
      this.#redirectChanges(changes),
      signal,
    );
    return {
      written: routed.written + redirected.written,
      failures: [...routed.failures, ...redirected.failures],
    };
  }

  /** What of the changes `redirect` has to know. */
  #redirectChanges(
    { opened, closed, released }: ListenerChanges,
  ): ListenerChanges {
    const isOurs = (address: ServiceAddress) =>
      this.#redirected.has(addressKey(address));
    // One that was bound itself in the end needs its rule no more.
    const returned = opened.filter(({ address, listen }) =>
      isOurs(address) && listen.ip === address.ip
    ).map(({ address }) => address);
    const changes = {
      opened: opened.filter(({ address, listen }) =>
        isOurs(address) && listen.ip !== address.ip
      ),
      closed: closed.filter(isOurs),
      released: [...released.filter(isOurs), ...returned],
    };
    for (const address of changes.released) {
      this.#redirected.delete(addressKey(address));
    }
    return changes;
  }

  isOurs(ip: string): boolean {
    return this.#route.isOurs(ip) || this.#redirect.isOurs(ip);
  }

  async repair(signal: AbortSignal): Promise<SteeringResult> {
    const routed = await this.#route.repair(signal);
    if (this.#state === "failed") this.#state = "off";
    if (this.#state !== "on") return routed;
    const redirected = await this.#redirect.repair(signal);
    return {
      written: routed.written + redirected.written,
      failures: [...routed.failures, ...redirected.failures],
    };
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    await this.#redirect.cleanup(signal);
    await this.#route.cleanup(signal);
  }
}

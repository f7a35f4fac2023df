/**
 * One ServicePort made real: its forwarder, and a listener for each of its
 * addresses. Knows nothing of other ServicePorts; `proxier.ts` keeps one of
 * these for each and decides when.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { internalEndpoints, type ServicePortState } from "./desired_state.ts";
import type { Engine, Forwarder, Listener } from "./engine/engine.ts";
import { forwardingPolicy } from "./forwarding_policy.ts";
import {
  addressKey,
  listenAddresses,
  serviceAddresses,
} from "./listen_addresses.ts";
import type { PortBinding, ServiceAddress, Steering } from "./steering.ts";

const logger = getLogger("proxy");

/** An address that should be served and is not. */
export interface ListenFailure {
  readonly address: ServiceAddress;
  /** One sentence. */
  readonly reason: string;
}

export class PortProxy {
  #state: ServicePortState;
  #wanted: ReadonlyMap<string, ServiceAddress> = new Map();
  readonly #forwarder: Forwarder;
  readonly #listeners = new Map<string, PortBinding & { listener: Listener }>();
  readonly #failures = new Map<string, ListenFailure>();

  constructor(state: ServicePortState, engine: Engine) {
    this.#state = state;
    this.#forwarder = engine.forwarder(forwardingPolicy(state));
    this.#want(state);
  }

  get state(): ServicePortState {
    return this.#state;
  }

  get forwarder(): Forwarder {
    return this.#forwarder;
  }

  /**
   * Its addresses, listened on or not: without an endpoint too, packets for
   * them have to come here, where they are refused.
   */
  get addresses(): ServiceAddress[] {
    return serviceAddresses(this.#state.servicePort);
  }

  get bindings(): Iterable<PortBinding> {
    return this.#listeners.values();
  }

  get failures(): Iterable<ListenFailure> {
    return this.#failures.values();
  }

  /** Some address that is wanted has no listener. */
  get isIncomplete(): boolean {
    return this.#listeners.size < this.#wanted.size;
  }

  /**
   * Takes a new state: new connections see its endpoints from now on, and
   * listeners on addresses that are no longer wanted are closed.
   *
   * @returns whether its addresses are others than before
   */
  update(state: ServicePortState): boolean {
    this.#state = state;
    this.#forwarder.update(forwardingPolicy(state));
    return this.#want(state);
  }

  #want(state: ServicePortState): boolean {
    const wanted = new Map(
      listenAddresses(state).map((address) => [addressKey(address), address]),
    );
    const same = wanted.size === this.#wanted.size &&
      [...wanted.keys()].every((key) => this.#wanted.has(key));
    this.#wanted = wanted;
    for (const key of this.#listeners.keys()) {
      if (!wanted.has(key)) this.#close(key);
    }
    for (const key of this.#failures.keys()) {
      if (!wanted.has(key)) this.#failures.delete(key);
    }
    return !same;
  }

  /** Opens the listeners that are wanted and not open; those that cannot be are failures. */
  async open(steering: Steering): Promise<void> {
    for (const [key, address] of this.#wanted) {
      if (this.#listeners.has(key)) continue;
      try {
        const listener = await this.#listen(address, steering);
        this.#listeners.set(key, {
          address,
          listen: listener.address,
          listener,
        });
        this.#failures.delete(key);
        logger.info(`added service port ${address.name} ${key}`, {
          endpoints: internalEndpoints(this.#state).length,
          ...(listener.address.ip === address.ip &&
              listener.address.port === address.port
            ? {}
            : { listen: `${listener.address.ip}:${listener.address.port}` }),
        });
      } catch (error) {
        this.#fail(key, { address, reason: bindReason(error) });
      }
    }
  }

  async #listen(
    address: ServiceAddress,
    steering: Steering,
  ): Promise<Listener> {
    const options = { scope: "internal", sourceRanges: [] } as const;
    try {
      return await this.#forwarder.listen(
        steering.bindAddress(address),
        options,
      );
    } catch (error) {
      const instead = steering.fallbackAddress(address, error);
      if (instead === undefined) throw error;
      return await this.#forwarder.listen(instead, options);
    }
  }

  /** Said once, and again when the reason is another. */
  #fail(key: string, failure: ListenFailure): void {
    if (this.#failures.get(key)?.reason !== failure.reason) {
      logger.warn(
        `Cannot listen on ${key} for ${failure.address.name}; trying again`,
        { reason: failure.reason },
      );
    }
    this.#failures.set(key, failure);
  }

  #close(key: string): void {
    const open = this.#listeners.get(key);
    if (open === undefined) return;
    open.listener.close();
    this.#listeners.delete(key);
    logger.info(`removed service port ${open.address.name} ${key}`);
  }

  /**
   * Closes its listeners and waits for its connections: to their end, or until
   * `signal` is aborted, which cuts them.
   */
  async close(signal: AbortSignal): Promise<void> {
    for (const key of [...this.#listeners.keys()]) this.#close(key);
    await this.#forwarder.close(signal);
  }
}

/** What stands in the way, and what helps. */
function bindReason(error: unknown): string {
  if (error instanceof Deno.errors.AddrInUse) {
    return "the address and port are in use by another process";
  }
  if (error instanceof Deno.errors.AddrNotAvailable) {
    return "the address is not local to this machine; see --steer";
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return "ports below 1024 need CAP_NET_BIND_SERVICE";
  }
  return error instanceof Error ? error.message : String(error);
}

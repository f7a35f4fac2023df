/**
 * One ServicePort made real: its forwarder, and a listener for each of its
 * addresses that nobody else has. Knows nothing of other ServicePorts;
 * `proxier.ts` keeps one of these for each and decides when.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { getLogger } from "@std/log";
import type { Claimant } from "./address_claims.ts";
import { reachableEndpoints, type ServicePortState } from "./desired_state.ts";
import type { Engine, Forwarder, Listener } from "./engine/engine.ts";
import { forwardingPolicy } from "./forwarding_policy.ts";
import { bindReason } from "./bind_reason.ts";
import { formatHostPort } from "./ip.ts";
import {
  addressKey,
  listenAddresses,
  serviceAddresses,
  type WantedListener,
} from "./listen_addresses.ts";
import type { NodeAddresses } from "./node_addresses.ts";
import type { SharedListeners } from "./shared_listeners.ts";
import type {
  BindAddress,
  PortBinding,
  ServiceAddress,
  Steering,
} from "./steering.ts";
import type { SteeringPass } from "./steering_pass.ts";

const logger = getLogger("proxy");

/** An address that should be served and is not. */
export interface ListenFailure {
  readonly address: ServiceAddress;
  /**
   * `conflict`: another Service has it. `taken`: another process has the port.
   * `other`: what has to do with this machine, not with the Service.
   */
  readonly kind: "conflict" | "taken" | "other";
  /** One sentence. */
  readonly reason: string;
}

export interface PortProxyOptions {
  readonly engine: Engine;
  readonly node: NodeAddresses;
  /** Told of every listener that opens or closes. */
  readonly pass: SteeringPass;
  /** For addresses that are led to one port. */
  readonly shared: SharedListeners;
}

export class PortProxy {
  readonly #pass: SteeringPass;
  readonly #shared: SharedListeners;
  readonly #forwarder: Forwarder;
  #state: ServicePortState;
  /** All by key, served or not. */
  #addresses: ReadonlyMap<string, ServiceAddress> = new Map();
  #wanted: ReadonlyMap<string, WantedListener> = new Map();
  /** Addresses that another ServicePort has. */
  readonly #lost = new Set<string>();
  /** Addresses that packets do not come to, until steering is repaired. */
  readonly #unsteered = new Set<string>();
  readonly #listeners = new Map<string, PortBinding & { listener: Listener }>();
  readonly #failures = new Map<string, ListenFailure>();
  #revision = 0;

  constructor(state: ServicePortState, options: PortProxyOptions) {
    this.#pass = options.pass;
    this.#shared = options.shared;
    this.#state = state;
    this.#forwarder = options.engine.forwarder(forwardingPolicy(state));
    this.#want(options.node);
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
    return [...this.#addresses.values()];
  }

  get bindings(): Iterable<PortBinding> {
    return this.#listeners.values();
  }

  get failures(): Iterable<ListenFailure> {
    return this.#failures.values();
  }

  /** Another number after every change of addresses, listeners or failures. */
  get revision(): number {
    return this.#revision;
  }

  /** Some address that is wanted has no listener, and could have one. */
  get isIncomplete(): boolean {
    for (const key of this.#wanted.keys()) {
      if (this.#canOpen(key)) return true;
    }
    return false;
  }

  /** Some address waits for steering to be repaired. */
  get isUnsteered(): boolean {
    return this.#unsteered.size > 0;
  }

  /**
   * Takes a new state: new connections see its endpoints from now on, and
   * listeners on addresses that are no longer wanted are closed.
   */
  update(state: ServicePortState, node: NodeAddresses): void {
    this.#state = state;
    this.#forwarder.update(forwardingPolicy(state));
    this.#want(node);
  }

  #want(node: NodeAddresses): void {
    this.#revision++;
    const { servicePort } = this.#state;
    this.#addresses = new Map(
      serviceAddresses(servicePort, node).map((each) => [
        addressKey(each),
        each,
      ]),
    );
    const before = this.#wanted;
    this.#wanted = new Map(
      listenAddresses(this.#state, node).map((each) => [
        addressKey(each.address),
        each,
      ]),
    );
    for (const key of this.#listeners.keys()) {
      const [was, is] = [before.get(key), this.#wanted.get(key)];
      // Who may come in belongs to the listener: other ranges, another one.
      if (!isDeepStrictEqual(was?.options, is?.options)) this.#close(key);
    }
    for (const key of this.#lost) {
      if (!this.#addresses.has(key)) this.grant(key);
    }
    for (const key of [...this.#failures.keys(), ...this.#unsteered]) {
      if (this.#wanted.has(key) || this.#lost.has(key)) continue;
      this.#failures.delete(key);
      this.#unsteered.delete(key);
    }
  }

  /** An address of its own is had by another ServicePort: said once. */
  deny(key: string, winner: Claimant): void {
    const address = this.#addresses.get(key);
    if (address === undefined) return;
    this.#close(key);
    this.#lost.add(key);
    this.#unsteered.delete(key);
    const reason = `"${winner.text}" has this address`;
    if (this.#failures.get(key)?.reason !== reason) {
      logger.warn(
        `Cannot serve ${address.name} on ${key}: another Service has it`,
        {
          has_it: winner.text,
          // Manifests tell no time.
          ...winner.created === "" ? {} : { since: winner.created },
        },
      );
    }
    this.#failures.set(key, { address, kind: "conflict", reason });
    this.#revision++;
  }

  /** An address that was lost is its own again. */
  grant(key: string): void {
    if (!this.#lost.delete(key)) return;
    this.#failures.delete(key);
    this.#revision++;
  }

  /** Closes the listeners that are in another namespace, to be opened anew. */
  leaveNamespaces(steering: Steering): void {
    for (const [key, { address }] of this.#listeners) {
      if (steering.bindAddress(address)?.namespace !== undefined) {
        this.#close(key);
      }
    }
  }

  /** After a repair: what was not steered may be now. */
  reconsider(): void {
    this.#unsteered.clear();
  }

  #canOpen(key: string): boolean {
    return !this.#listeners.has(key) && !this.#lost.has(key) &&
      !this.#unsteered.has(key);
  }

  /**
   * Opens the listeners that are wanted and not open; those that cannot be are
   * failures.
   *
   * @param options.isOneOfMany each is worth a line at `-v=4` only
   * @returns how many it opened
   */
  async open(
    steering: Steering,
    { isOneOfMany }: { readonly isOneOfMany: boolean },
  ): Promise<number> {
    const level = isOneOfMany ? "debug" : "info";
    let opened = 0;
    for (const [key, wanted] of this.#wanted) {
      if (!this.#canOpen(key)) continue;
      const { address } = wanted;
      try {
        const listener = await this.#listen(wanted, steering);
        if (listener === undefined) {
          this.#unsteered.add(key);
          this.#fail(key, {
            address,
            kind: "other",
            reason: notSteered(steering),
          });
          continue;
        }
        const binding = { address, listen: listener.address, listener };
        this.#listeners.set(key, binding);
        this.#pass.opened({ address, listen: listener.address });
        this.#failures.delete(key);
        this.#revision++;
        opened++;
        const { ip, port } = listener.address;
        logger[level](`added service port ${address.name} ${key}`, {
          endpoints: reachableEndpoints(this.#state).length,
          ...(ip === address.ip && port === address.port
            ? {}
            : { listen: formatHostPort(ip, port) }),
        });
      } catch (error) {
        this.#fail(key, {
          address,
          kind: error instanceof Deno.errors.AddrInUse ? "taken" : "other",
          reason: bindReason(error),
        });
      }
    }
    return opened;
  }

  /** `undefined`: packets for the address do not come here. */
  async #listen(
    { address, options }: WantedListener,
    steering: Steering,
  ): Promise<Listener | undefined> {
    const listen = (where: BindAddress) => {
      if (where.ip === address.ip && where.port === address.port) {
        return this.#forwarder.listen(where, options);
      }
      const { ip, port } = address;
      const serviceAddress = { ip, port };
      const led = { ...options, serviceAddress };
      const forwarder = this.#forwarder;
      return where.isShared
        ? this.#shared.listen(where, {
          serviceAddress,
          forwarder,
          options: led,
        })
        : forwarder.listen(where, led);
    };
    const where = steering.bindAddress(address);
    if (where === undefined) return undefined;
    try {
      return await listen(where);
    } catch (error) {
      const instead = steering.fallbackAddress(address, error);
      if (instead === undefined) throw error;
      return await listen(instead);
    }
  }

  /** Said once, and again when the reason is another. */
  #fail(key: string, failure: ListenFailure): void {
    if (this.#failures.get(key)?.reason !== failure.reason) {
      logger.warn(
        `Cannot listen on ${key} for ${failure.address.name}; trying again`,
        { reason: failure.reason },
      );
      this.#revision++;
    }
    this.#failures.set(key, failure);
  }

  #close(key: string): void {
    const open = this.#listeners.get(key);
    if (open === undefined) return;
    this.#listeners.delete(key);
    this.#revision++;
    this.#pass.closed(open.address);
    open.listener.close();
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

function notSteered({ name }: Steering): string {
  return `the address is not local to this machine, and steering by ${name} does not lead it here`;
}

/**
 * What the next steering pass has to be told: collects which addresses came and
 * went and which listeners opened and closed, lets opposites cancel each other,
 * and hands out the difference once. Pure; knows neither sockets nor strategies.
 *
 * @module
 */
import { addressKey } from "./listen_addresses.ts";
import type {
  ListenerChanges,
  PortBinding,
  ServiceAddress,
} from "./steering.ts";

interface Held {
  address: ServiceAddress;
  holders: number;
}

export class SteeringPass {
  readonly #held = new Map<string, Held>();
  readonly #added = new Map<string, ServiceAddress>();
  readonly #released = new Map<string, ServiceAddress>();
  readonly #opened = new Map<string, PortBinding>();
  readonly #closed = new Map<string, ServiceAddress>();

  /** Somebody wants the address: a claim, or connections that go on. */
  hold(address: ServiceAddress): void {
    const key = addressKey(address);
    const held = this.#held.get(key);
    if (held === undefined) {
      this.#held.set(key, { address, holders: 1 });
      const before = this.#released.get(key);
      this.#released.delete(key);
      if (before?.kind !== address.kind) this.#added.set(key, address);
      return;
    }
    held.holders++;
    // An address that was typed before the API server allotted it.
    if (address.kind === "ClusterIP" && held.address.kind !== "ClusterIP") {
      held.address = address;
      this.#added.set(key, address);
    }
  }

  /** One that held it does so no longer. */
  release(address: ServiceAddress): void {
    const key = addressKey(address);
    const held = this.#held.get(key);
    if (held === undefined || --held.holders > 0) return;
    this.#held.delete(key);
    if (!this.#added.delete(key)) this.#released.set(key, held.address);
  }

  opened(binding: PortBinding): void {
    const key = addressKey(binding.address);
    this.#closed.delete(key);
    this.#opened.set(key, binding);
  }

  closed(address: ServiceAddress): void {
    const key = addressKey(address);
    this.#opened.delete(key);
    this.#closed.set(key, address);
  }

  /** What `prepare` has to be told, once. */
  takeAdded(): ServiceAddress[] {
    const added = [...this.#added.values()];
    this.#added.clear();
    return added;
  }

  /** What `sync` has to be told, once. */
  takeChanges(): ListenerChanges {
    const changes = {
      opened: [...this.#opened.values()],
      closed: [...this.#closed].filter(([key]) => this.#held.has(key))
        .map(([, address]) => address),
      released: [...this.#released.values()],
    };
    this.#opened.clear();
    this.#closed.clear();
    this.#released.clear();
    return changes;
  }

  /** Whether there is nothing to tell. */
  get isEmpty(): boolean {
    return this.#added.size === 0 && this.#released.size === 0 &&
      this.#opened.size === 0 && this.#closed.size === 0;
  }
}

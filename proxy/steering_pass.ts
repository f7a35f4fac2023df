/**
 * What the next steering pass has to be told: collects which addresses came and
 * went and which listeners opened and closed, lets opposites cancel each other,
 * and hands out the difference once; or again, if it is put back. Pure; knows neither sockets nor strategies.
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

  /** What `prepare` could not be told, as far as it is still wanted. */
  putBackAdded(added: readonly ServiceAddress[]): void {
    for (const address of added) {
      const key = addressKey(address);
      const held = this.#held.get(key);
      if (held !== undefined) this.#added.set(key, held.address);
    }
  }

  /** What `sync` could not be told; what has happened since overrules it. */
  putBack({ opened, closed, released }: ListenerChanges): void {
    const isNews = (key: string) =>
      !this.#opened.has(key) && !this.#closed.has(key);
    for (const binding of opened) {
      const key = addressKey(binding.address);
      if (isNews(key)) this.#opened.set(key, binding);
    }
    for (const address of closed) {
      const key = addressKey(address);
      if (isNews(key)) this.#closed.set(key, address);
    }
    for (const address of released) {
      const key = addressKey(address);
      if (!this.#held.has(key)) this.#released.set(key, address);
    }
  }

  /** Whether there is nothing to tell. */
  get isEmpty(): boolean {
    return this.#added.size === 0 && this.#released.size === 0 &&
      this.#opened.size === 0 && this.#closed.size === 0;
  }
}

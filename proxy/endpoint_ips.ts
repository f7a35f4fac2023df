/**
 * The addresses of all endpoints, kept up to date by what changed: steering
 * must never make one of them local, and asks for it with every Service that it
 * routes by itself.
 *
 * @module
 */
import type { ServiceState } from "./desired_state.ts";
import type { StateChanges } from "./state_tracker.ts";

export class EndpointIps {
  /** Address → how many Services have it. */
  readonly #counts = new Map<string, number>();
  readonly #ipsOf = new Map<string, ReadonlySet<string>>();

  apply({ changed, removed }: StateChanges): void {
    for (const key of removed) this.#replace(key, new Set());
    for (const state of changed) this.#replace(state.key, ipsOf(state));
  }

  has(ip: string): boolean {
    return this.#counts.has(ip);
  }

  [Symbol.iterator](): Iterator<string> {
    return this.#counts.keys();
  }

  #replace(key: string, ips: ReadonlySet<string>): void {
    for (const ip of ips) {
      this.#counts.set(ip, (this.#counts.get(ip) ?? 0) + 1);
    }
    for (const ip of this.#ipsOf.get(key) ?? []) {
      const count = (this.#counts.get(ip) ?? 0) - 1;
      if (count > 0) this.#counts.set(ip, count);
      else this.#counts.delete(ip);
    }
    if (ips.size === 0) this.#ipsOf.delete(key);
    else this.#ipsOf.set(key, ips);
  }
}

function ipsOf({ ports }: ServiceState): Set<string> {
  return new Set(
    ports.flatMap(({ endpoints }) => endpoints.map(({ ip }) => ip)),
  );
}

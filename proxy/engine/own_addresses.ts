/**
 * The addresses of one protocol that an engine's listeners serve. In: listeners
 * as they open and end. Out: whether an endpoint is one of them; dialling it
 * would come back to us, again and again, until there are no descriptors left.
 * The API server refuses some addresses for endpoints, but not these (fact
 * 2.32): upstream's rules do not apply to what they have rewritten, ours do to
 * what we dial.
 *
 * @module
 */
import { endpointKey } from "../load_balancer.ts";
import type { ListenAddress } from "./engine.ts";

/** Why such an endpoint is not dialled; for the log. */
export const OWN_ADDRESS =
  "it is an address of a Service, which leads back here";

export class OwnAddresses {
  /** Key → listeners: while an address changes hands, two have it. */
  readonly #listeners = new Map<string, number>();

  /**
   * A listener is open: at `bound`, and for clients at `service` where
   * steering leads those of another address to it.
   *
   * @returns to be called once when it has ended
   */
  add(bound: ListenAddress, service: ListenAddress = bound): () => void {
    const keys = new Set([endpointKey(bound), endpointKey(service)]);
    for (const key of keys) {
      this.#listeners.set(key, (this.#listeners.get(key) ?? 0) + 1);
    }
    return () => {
      for (const key of keys) {
        const rest = (this.#listeners.get(key) ?? 0) - 1;
        if (rest > 0) this.#listeners.set(key, rest);
        else this.#listeners.delete(key);
      }
    };
  }

  /** @param key see `endpointKey` */
  has(key: string): boolean {
    return this.#listeners.has(key);
  }
}

/**
 * The Service addresses that a strategy was told of and that were not released
 * since, by IP address: strategies are given differences, and what they install
 * for an IP address is shared by all ports there.
 *
 * @module
 */
import { addressKey } from "../listen_addresses.ts";
import type { ServiceAddress } from "../steering.ts";

export class WantedAddresses {
  /** IP address → its Service addresses, by key. */
  readonly #byIp = new Map<string, Map<string, ServiceAddress>>();

  /** Every IP address that something is wanted on. */
  get ips(): Iterable<string> {
    return this.#byIp.keys();
  }

  /** Adds an address; one that is known gets its new kind. */
  add(address: ServiceAddress): void {
    const known = this.#byIp.get(address.ip);
    const key = addressKey(address);
    if (known !== undefined) known.set(key, address);
    else this.#byIp.set(address.ip, new Map([[key, address]]));
  }

  release(address: ServiceAddress): void {
    const known = this.#byIp.get(address.ip);
    known?.delete(addressKey(address));
    if (known?.size === 0) this.#byIp.delete(address.ip);
  }

  /** Whether some port of it is a cluster IP's, and not just a typed address. */
  isClusterIp(ip: string): boolean {
    const addresses = this.#byIp.get(ip)?.values() ?? [];
    return [...addresses].some(({ kind }) => kind === "ClusterIP");
  }

  /** Whether some port of it is more than a NodePort. */
  isSteered(ip: string): boolean {
    const addresses = this.#byIp.get(ip)?.values() ?? [];
    return [...addresses].some(({ kind }) => kind !== "NodePort");
  }

  /** All of them; walks everything. */
  *[Symbol.iterator](): Iterator<ServiceAddress> {
    for (const addresses of this.#byIp.values()) yield* addresses.values();
  }
}

/**
 * Who has an address that several ServicePorts want: an index from addresses to
 * their claimants. In: what each ServicePort claims. Out: whose claims changed.
 * Pure; what is done about it is `proxier.ts`'s.
 *
 * Contract:
 * 1. Who has an address depends on the claims alone, not on their order.
 * 2. Addresses that the API server allots (cluster IPs, NodePorts) are not
 *    taken by addresses that somebody typed: otherwise one line in a Service
 *    would take another one's clients.
 * 3. Among equals the older Service has it; of the same second, the first by
 *    namespace, name and port (fact 6.26).
 * 4. A claim costs the work of its own addresses.
 *
 * @module
 */
import { addressKey } from "./listen_addresses.ts";
import type { ServicePort } from "./service_port.ts";
import type { AddressKind, ServiceAddress } from "./steering.ts";

/** Who claims: the part of a ServicePort that decides. */
export type Claimant = Pick<
  ServicePort,
  "key" | "text" | "namespace" | "name" | "created"
>;

/** Somebody wants an address, which is of some kind to them. */
export interface Claim {
  readonly claimant: Claimant;
  readonly kind: AddressKind;
}

export class AddressClaims {
  /** Address key → its claims, the one that has it first. */
  readonly #claims = new Map<string, Claim[]>();
  /** ServicePort key → what it claims, by address key. */
  readonly #claimed = new Map<string, Map<string, Claim>>();

  /**
   * Replaces everything that this ServicePort claims.
   *
   * @returns keys of the addresses that it claims now and did not claim so
   *   before, or the other way round
   */
  set(claimant: Claimant, addresses: readonly ServiceAddress[]): string[] {
    const before = this.#claimed.get(claimant.key) ?? new Map<string, Claim>();
    const after = new Map<string, Claim>();
    const touched: string[] = [];
    for (const address of addresses) {
      const key = addressKey(address);
      const claim = { claimant, kind: address.kind };
      const known = before.get(key);
      before.delete(key);
      if (known !== undefined && isSame(known, claim)) {
        after.set(key, known);
        continue;
      }
      if (known !== undefined) this.#remove(key, known);
      this.#insert(key, claim);
      after.set(key, claim);
      touched.push(key);
    }
    for (const [key, claim] of before) {
      this.#remove(key, claim);
      touched.push(key);
    }
    if (after.size === 0) this.#claimed.delete(claimant.key);
    else this.#claimed.set(claimant.key, after);
    return touched;
  }

  /** Who claims an address: the one that has it, then those that do not. */
  claimants(key: string): Claimant[] {
    return (this.#claims.get(key) ?? []).map(({ claimant }) => claimant);
  }

  /** How many addresses are claimed. */
  get size(): number {
    return this.#claims.size;
  }

  #insert(key: string, claim: Claim): void {
    const claims = this.#claims.get(key);
    if (claims === undefined) this.#claims.set(key, [claim]);
    else {
      claims.push(claim);
      claims.sort(compareClaims);
    }
  }

  #remove(key: string, claim: Claim): void {
    const claims = this.#claims.get(key) ?? [];
    claims.splice(claims.indexOf(claim), 1);
    if (claims.length === 0) this.#claims.delete(key);
  }
}

function isSame(a: Claim, b: Claim): boolean {
  return a.kind === b.kind && a.claimant.created === b.claimant.created;
}

/** Which of two claims of one address has it: that one is first. */
export function compareClaims(a: Claim, b: Claim): number {
  return Number(isTyped(a.kind)) - Number(isTyped(b.kind)) ||
    compareTexts(age(a), age(b)) ||
    compareTexts(a.claimant.namespace, b.claimant.namespace) ||
    compareTexts(a.claimant.name, b.claimant.name) ||
    compareTexts(a.claimant.key, b.claimant.key);
}

function isTyped(kind: AddressKind): boolean {
  return kind === "ExternalIP" || kind === "LoadBalancerIP";
}

/** RFC 3339 in UTC sorts as text. What has no time of creation is the youngest. */
function age({ claimant }: Claim): string {
  return claimant.created === "" ? "~" : claimant.created;
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * The parts that all ServicePorts want of one table, and who gets what several
 * want. In: what one ServicePort wants, again and again. Out: which parts are
 * different now. Pure; what a program is compiled from at once, and what a
 * running proxy keeps.
 *
 * Contract:
 * 1. What is in the table depends on what is wanted alone, not on the order in
 *    which it was told.
 * 2. Addresses that the API server allots are not taken by addresses that
 *    somebody typed; among equals the oldest Service has it, then the first by
 *    name (fact 6.26).
 * 3. Telling costs the work of what one ServicePort wants.
 *
 * @module
 */
import type { ServicePort } from "../../../service_port.ts";
import type { NftChain, NftElement, NftSet } from "./program.ts";

/** An element, and the set or map that it is in. */
export interface PlacedElement {
  readonly kind: "set" | "map";
  readonly of: string;
  readonly element: NftElement;
}

/**
 * Something that is in a table once, however many ServicePorts want it. All
 * elements about one address are one part: who has the address has them all.
 */
export type TablePart =
  | { readonly kind: "chain"; readonly key: string; readonly chain: NftChain }
  | { readonly kind: "set"; readonly key: string; readonly set: NftSet }
  | {
    readonly kind: "elements";
    readonly key: string;
    readonly elements: readonly PlacedElement[];
    /** Somebody typed the address: it does not win over one that was allotted. */
    readonly isTyped: boolean;
  };

type Claimant = Pick<ServicePort, "key" | "created">;

interface Claim {
  /** The key of who wants it. */
  readonly by: string;
  /** The least one has it. */
  readonly order: string;
  readonly part: TablePart;
}

export class TableParts {
  /** Part key → its claims, the one that has it first. */
  readonly #claims = new Map<string, Claim[]>();
  /** ServicePort key → keys of the parts that it wants. */
  readonly #wanted = new Map<string, ReadonlySet<string>>();

  /** Replaces what a ServicePort wants; nothing, once it is gone. */
  set(claimant: Claimant, parts: readonly TablePart[]): Set<string> {
    const touched = new Set(this.#wanted.get(claimant.key));
    for (const key of touched) this.#withdraw(key, claimant.key);
    const wanted = new Set<string>();
    for (const part of parts) {
      // A Service may name one address twice.
      if (wanted.has(part.key)) continue;
      wanted.add(part.key);
      touched.add(part.key);
      this.#claim({ by: claimant.key, order: orderOf(claimant, part), part });
    }
    if (wanted.size === 0) this.#wanted.delete(claimant.key);
    else this.#wanted.set(claimant.key, wanted);
    return touched;
  }

  /** What is in the table under this key. */
  get(key: string): TablePart | undefined {
    return this.#claims.get(key)?.[0]?.part;
  }

  /** Keys of ServicePorts that want something. */
  get claimants(): Iterable<string> {
    return this.#wanted.keys();
  }

  /** Everything that is in the table, sorted by key. */
  all(): TablePart[] {
    return [...this.#claims.keys()].sort().flatMap((key) =>
      this.get(key) ?? []
    );
  }

  #claim(claim: Claim): void {
    const claims = this.#claims.get(claim.part.key);
    if (claims === undefined) this.#claims.set(claim.part.key, [claim]);
    else {
      claims.push(claim);
      claims.sort((a, b) => a.order < b.order ? -1 : 1);
    }
  }

  #withdraw(key: string, by: string): void {
    const claims = (this.#claims.get(key) ?? [])
      .filter((claim) => claim.by !== by);
    if (claims.length === 0) this.#claims.delete(key);
    else this.#claims.set(key, claims);
  }
}

/** RFC 3339 in UTC sorts as text. What has no time of creation is the youngest. */
function orderOf({ key, created }: Claimant, part: TablePart): string {
  const isTyped = part.kind === "elements" && part.isTyped;
  return `${isTyped ? 1 : 0} ${created === "" ? "~" : created} ${key}`;
}

/**
 * What an nftables program is made of, as data: tables, chains with hooks and
 * rules, sets and maps with their elements. `text.ts` writes it for `nft`;
 * `explain` walks it, packet in hand. Only what kube-proxy's nftables mode says
 * can be said. Types, and nothing else.
 *
 * @module
 */

/** One table; the program of one IP family. */
export interface NftTable {
  readonly family: "ip" | "ip6";
  readonly name: string;
  readonly comment: string;
  readonly sets: readonly NftSet[];
  /** Maps whose values are verdicts. */
  readonly maps: readonly NftSet[];
  readonly chains: readonly NftChain[];
}

/** A named set, or a named map if its elements have verdicts. */
export interface NftSet {
  readonly name: string;
  /** Types of the parts of a key: `["ipv4_addr", "inet_proto"]`. */
  readonly type: readonly string[];
  readonly comment?: string;
  /**
   * Rules add elements themselves, and each is forgotten so many seconds after
   * it was last added.
   */
  readonly timeoutSeconds?: number;
  readonly elements: readonly NftElement[];
}

export interface NftElement {
  /** Canonical addresses, names of protocols, decimal ports. */
  readonly key: readonly string[];
  /** Of a map. */
  readonly verdict?: NftVerdict;
  readonly comment?: string;
}

/** What becomes of a packet, or where it is asked about next. */
export type NftVerdict =
  | { readonly verdict: "drop" | "reject" }
  /** `jump` comes back when the chain has nothing to say; `goto` does not. */
  | { readonly verdict: "goto" | "jump"; readonly chain: string };

export interface NftChain {
  readonly name: string;
  readonly comment?: string;
  /** A base chain: the kernel sends packets here by itself. Policy: accept. */
  readonly hook?: NftHook;
  readonly rules: readonly NftRule[];
}

export interface NftHook {
  readonly type: "filter" | "nat";
  readonly hook: "prerouting" | "input" | "forward" | "output" | "postrouting";
  /** Chains of one hook are asked from the lowest to the highest. */
  readonly priority: number;
}

/** Statements from left to right; the first match that fails ends the rule. */
export interface NftRule {
  readonly statements: readonly NftStatement[];
  readonly comment?: string;
}

/** What can be asked of a packet. Addresses are those of the table's family. */
export type NftField =
  | "saddr"
  | "daddr"
  /** `tcp`, `udp`, `sctp`. */
  | "l4proto"
  | "dport"
  | "iifname"
  | "mark"
  /** `new`, of the connection. */
  | "ct state"
  /** `dnat`: the connection's destination was translated. */
  | "ct status"
  /** `local`: the address belongs to this machine. */
  | "saddr type"
  | "daddr type";

export type NftStatement =
  | NftMatch
  /** Looks the fields up in a map; no such key, and the rule goes on. */
  | {
    readonly kind: "look-up";
    readonly fields: readonly NftField[];
    readonly map: string;
  }
  /** One of these at random, each as likely as the others. */
  | { readonly kind: "choose"; readonly verdicts: readonly NftVerdict[] }
  /**
   * Translates the destination to one of these at random, each as likely as the
   * others. Ends the walk through the hook's nat chains.
   */
  | { readonly kind: "dnat"; readonly to: readonly NftDestination[] }
  /** The same to this one. */
  | { readonly kind: "dnat-to"; readonly to: NftDestination }
  | {
    readonly kind: "set-mark";
    readonly operation: "or" | "xor";
    readonly bits: number;
  }
  /** Translates the source to an address of this machine. */
  | { readonly kind: "masquerade" }
  /** Puts the source address in a set, or renews it there. */
  | { readonly kind: "remember-source"; readonly set: string }
  | { readonly kind: "verdict"; readonly verdict: NftVerdict };

/** Several fields: all of them together are one key. */
export interface NftMatch {
  readonly kind: "match";
  readonly fields: readonly NftField[];
  /** Only these bits of the field count. */
  readonly mask?: number;
  readonly isNot?: boolean;
  readonly of:
    /** Addresses, CIDRs or words: one of these. */
    | { readonly values: readonly string[] }
    | { readonly bits: number }
    | { readonly set: string };
}

export interface NftDestination {
  readonly ip: string;
  readonly port: number;
}

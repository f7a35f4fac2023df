/**
 * An iptables program as data: tables of chains of rules, each rule a list of
 * matches and a target. `compile.ts` makes it, `text.ts` prints it for
 * `iptables-restore`, and whoever explains a connection walks it. Nothing here
 * is text that would have to be parsed again. Pure.
 *
 * @module
 */
import type { IpFamily } from "../../../ip.ts";

export type TableName = "mangle" | "filter" | "nat";

/** The kernel's own chains, which rules are hooked into. */
export type BaseChain =
  | "PREROUTING"
  | "INPUT"
  | "FORWARD"
  | "OUTPUT"
  | "POSTROUTING";

export interface IptablesProgram {
  readonly family: IpFamily;
  readonly tables: readonly IptablesTable[];
}

export interface IptablesTable {
  readonly name: TableName;
  /**
   * Rules that lead from the kernel's chains to ours, in the order in which
   * they stand; upstream inserts them apart from the rest (fact 10.10).
   */
  readonly jumps: readonly BaseRule[];
  /** Chains of our own, in the order in which they are declared. */
  readonly chains: readonly IptablesChain[];
}

export interface BaseRule extends IptablesRule {
  readonly chain: BaseChain;
}

export interface IptablesChain {
  readonly name: string;
  readonly rules: readonly IptablesRule[];
  /** `namespace/name` of the Service whose it is alone; missing: shared. */
  readonly service?: string;
}

/** Matches all have to hold, in this order; the first that does not ends it. */
export interface IptablesRule {
  readonly matches: readonly Match[];
  /** Missing: a rule that only says something. */
  readonly target?: Target;
}

export type Match =
  | { readonly type: "comment"; readonly text: string }
  | { readonly type: "protocol"; readonly protocol: Protocol }
  | Not<{ readonly type: "source"; readonly cidr: string }>
  | Not<{ readonly type: "destination"; readonly cidr: string }>
  | { readonly type: "destination-port"; readonly port: number }
  /** By this interface; a name that ends in `+` means all that begin so. */
  | Not<{ readonly type: "in-interface"; readonly name: string }>
  /** The kernel's routing table has the address as one of the machine's. */
  | { readonly type: "local-address"; readonly of: "source" | "destination" }
  | Not<{ readonly type: "mark"; readonly mark: number }>
  | Not<{
    readonly type: "connection-state";
    readonly states: readonly ConnectionState[];
  }>
  /** Holds with this probability, each time anew. */
  | { readonly type: "random"; readonly probability: number }
  /** The source address is in the list, not longer than that. */
  | {
    readonly type: "recently-seen";
    readonly list: string;
    readonly seconds: number;
  }
  /** Puts the source address into the list; always holds. */
  | { readonly type: "remember"; readonly list: string }
  /** Counts the packet; always holds. */
  | { readonly type: "count"; readonly counter: string };

type Not<M> = M & { readonly not?: true };

export type Protocol = "tcp" | "udp" | "sctp";

export type ConnectionState =
  | "NEW"
  | "INVALID"
  | "RELATED"
  | "ESTABLISHED"
  | "DNAT";

export type Target =
  | { readonly type: "jump"; readonly chain: string }
  | { readonly type: "accept" }
  | { readonly type: "drop" }
  | { readonly type: "return" }
  /** Port unreachable, which a client sees as refused. */
  | { readonly type: "reject" }
  /** Sets the bits of the mark. */
  | { readonly type: "set-mark"; readonly mark: number }
  /** Flips the bits of the mark. */
  | { readonly type: "flip-mark"; readonly mark: number }
  /** The source becomes an address of the interface that it leaves by. */
  | { readonly type: "masquerade" }
  | { readonly type: "dnat"; readonly ip: string; readonly port: number };

/** The chain of this name, in one table. */
export function chainOf(
  program: IptablesProgram,
  table: TableName,
  name: string,
): IptablesChain | undefined {
  return program.tables.find((each) => each.name === table)?.chains
    .find((chain) => chain.name === name);
}

/** A rule from its comment, the rest of its matches, and its target. */
export function rule(
  comment: string,
  matches: readonly Match[],
  target?: Target,
): IptablesRule {
  const all: readonly Match[] = comment === ""
    ? matches
    : [{ type: "comment", text: comment }, ...matches];
  return target === undefined ? { matches: all } : { matches: all, target };
}

export function jump(chain: string): Target {
  return { type: "jump", chain };
}

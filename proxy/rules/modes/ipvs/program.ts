/**
 * What ipvs mode loads into the kernel, as data: virtual servers, sets, rules
 * that ask the sets, and the addresses that make the virtual servers local. Out
 * of `compile.ts`; `text.ts` spells it for the four programs that load it, and
 * whoever explains a connection walks it. Types, and a few constants.
 *
 * @module
 */
import type { Protocol } from "../../../../watch/types.ts";
import type { IpFamily } from "../../../ip.ts";
import type { AddressKind } from "../../../steering.ts";

/** The interface that has the Service addresses (fact 10.40). */
export const IPVS_DEVICE = "kube-ipvs0";

export interface IpvsProgram {
  readonly family: IpFamily;
  /** Service by Service, each address and port once. */
  readonly virtualServers: readonly VirtualServer[];
  /** All sets of the family, empty ones too: rules may ask an empty set. */
  readonly sets: readonly IpSet[];
  readonly tables: readonly RuleTable[];
  /** Rules in the kernel's own chains, in the order they are to stand there. */
  readonly jumps: readonly TableRule[];
  /** Addresses on `kube-ipvs0`, in canonical form. */
  readonly addresses: readonly string[];
}

/** An address that IPVS serves (fact 10.41). */
export interface VirtualServer {
  readonly ip: string;
  readonly port: number;
  readonly protocol: Protocol;
  /** What kind of Service address it is. */
  readonly kind: AddressKind;
  /** Whose address it is, as people write it: `default/web:http`. */
  readonly service: string;
  /** A name of the kernel's: `rr`, `lc`, `sh` … Nobody checks it (fact 10.47). */
  readonly scheduler: string;
  /** Flags of the scheduler, as `ipvsadm -b` takes them; empty: none. */
  readonly schedulerFlags: string;
  /** Seconds a client stays with its real server; 0: no session affinity. */
  readonly persistentSeconds: number;
  /** Packets are sent on by NAT; none: the kernel refuses clients (fact 5.60). */
  readonly realServers: readonly RealServer[];
}

export interface RealServer {
  readonly ip: string;
  readonly port: number;
  /** 1; or 0 while it only finishes what it has (facts 3.5, 10.42). */
  readonly weight: number;
}

export type IpSetType =
  | "hash:ip"
  | "hash:ip,port"
  | "hash:ip,port,ip"
  | "hash:ip,port,net"
  | "bitmap:port";

export interface IpSet {
  /** As the kernel knows it: with a `6` in it for IPv6 (fact 10.44). */
  readonly name: string;
  readonly type: IpSetType;
  /** As ipset writes them: `10.96.0.1,tcp:443`, `30080`; each once. */
  readonly entries: readonly string[];
}

export interface RuleTable {
  readonly name: "nat" | "filter";
  readonly chains: readonly RuleChain[];
}

export interface RuleChain {
  readonly name: string;
  readonly rules: readonly Rule[];
}

/** A rule of a chain that is not ours. */
export interface TableRule {
  readonly table: "nat" | "filter";
  readonly chain: string;
  readonly rule: Rule;
}

/** A packet that all of `matches` hold for goes to `target`. */
export interface Rule {
  /** Empty: none. */
  readonly comment: string;
  readonly matches: readonly RuleMatch[];
  readonly target: RuleTarget;
}

export type RuleMatch =
  /** The packet's addresses and ports, in the order of `parts`, are in a set. */
  | { readonly kind: "set"; readonly set: string; readonly parts: SetParts }
  | { readonly kind: "protocol"; readonly protocol: "tcp" | "udp" | "sctp" }
  | { readonly kind: "source"; readonly cidr: string; readonly not: boolean }
  /** A name; one that ends in `+` means all that begin so. */
  | { readonly kind: "interface"; readonly name: string; readonly not: boolean }
  | { readonly kind: "mark"; readonly bits: number; readonly not: boolean }
  /** The source, or the destination, is an address of this machine. */
  | {
    readonly kind: "local";
    readonly side: "src" | "dst";
    readonly not: boolean;
  }
  | { readonly kind: "connection"; readonly states: string }
  /** It did not come in through a port of a bridge. */
  | { readonly kind: "not bridged" }
  /** It belongs to a connection of this virtual server. */
  | {
    readonly kind: "ipvs";
    readonly ip: string;
    readonly protocol: string;
    readonly port: number;
  };

/** `dst,dst,src`: destination address, destination port, source address. */
export type SetParts = "dst" | "dst,dst" | "src,dst" | "dst,dst,src";

export type RuleTarget =
  | { readonly kind: "verdict"; readonly name: "ACCEPT" | "DROP" | "RETURN" }
  | { readonly kind: "reject" }
  | { readonly kind: "chain"; readonly name: string }
  /** Sets, or turns over, bits of the packet's mark. */
  | {
    readonly kind: "mark";
    readonly how: "or" | "xor";
    readonly bits: number;
  }
  | { readonly kind: "masquerade" };

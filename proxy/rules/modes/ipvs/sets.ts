/**
 * The sets of ipvs mode: their names, their types and how an entry is spelt
 * (fact 10.44). Rules ask sets, so that there are as many rules for 10,000
 * Services as for one. Pure.
 *
 * @module
 */
import type { Protocol } from "../../../../watch/types.ts";
import type { IpFamily } from "../../../ip.ts";
import type { IpSet, IpSetType } from "./program.ts";

const TYPES = {
  "KUBE-LOOP-BACK": "hash:ip,port,ip",
  "KUBE-CLUSTER-IP": "hash:ip,port",
  "KUBE-EXTERNAL-IP": "hash:ip,port",
  "KUBE-EXTERNAL-IP-LOCAL": "hash:ip,port",
  "KUBE-LOAD-BALANCER": "hash:ip,port",
  "KUBE-LOAD-BALANCER-FW": "hash:ip,port",
  "KUBE-LOAD-BALANCER-LOCAL": "hash:ip,port",
  "KUBE-LOAD-BALANCER-SOURCE-IP": "hash:ip,port,ip",
  "KUBE-LOAD-BALANCER-SOURCE-CIDR": "hash:ip,port,net",
  "KUBE-NODE-PORT-TCP": "bitmap:port",
  "KUBE-NODE-PORT-LOCAL-TCP": "bitmap:port",
  "KUBE-NODE-PORT-UDP": "bitmap:port",
  "KUBE-NODE-PORT-LOCAL-UDP": "bitmap:port",
  "KUBE-NODE-PORT-SCTP-HASH": "hash:ip,port",
  "KUBE-NODE-PORT-LOCAL-SCTP-HASH": "hash:ip,port",
  "KUBE-HEALTH-CHECK-NODE-PORT": "bitmap:port",
  "KUBE-IPVS-IPS": "hash:ip",
} as const satisfies Readonly<Record<string, IpSetType>>;

/** A set by its IPv4 name, whatever the family. */
export type SetName = keyof typeof TYPES;

export const SET_NAMES = Object.keys(TYPES) as SetName[];

/** The kernel's limit. */
const LONGEST_NAME = 31;

/** The set's name in the kernel; the families share one name space. */
export function kernelSetName(name: SetName, family: IpFamily): string {
  return family === "IPv4"
    ? name
    : name.replace("KUBE-", "KUBE-6-").slice(0, LONGEST_NAME);
}

/** `10.96.0.1,tcp:443`, or `10.96.0.1,tcp:443,10.244.0.2` with a third part. */
export function addressEntry(
  { ip, port, protocol }: { ip: string; port: number; protocol: Protocol },
  third?: string,
): string {
  const entry = `${ip},${protocol.toLowerCase()}:${port}`;
  return third === undefined ? entry : `${entry},${third}`;
}

/** Collects entries; each is in a set once. */
export class SetEntries {
  readonly #entries = new Map<SetName, Set<string>>();

  add(name: SetName, entry: string): void {
    const entries = this.#entries.get(name);
    if (entries === undefined) this.#entries.set(name, new Set([entry]));
    else entries.add(entry);
  }

  has(name: SetName): boolean {
    return this.#entries.has(name);
  }

  /** All sets of ipvs mode, with or without entries. */
  sets(family: IpFamily): IpSet[] {
    return SET_NAMES.map((name) => ({
      name: kernelSetName(name, family),
      type: TYPES[name],
      entries: [...this.#entries.get(name) ?? []],
    }));
  }
}

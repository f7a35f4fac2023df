/**
 * Who may come in, and to which endpoints: the same for every engine and
 * protocol. In: a client's address, and how the listener it came to was opened.
 * Out: the name of a list of endpoints, or nothing for a client that source
 * ranges keep out. Decides before an endpoint is chosen (fact 6.35).
 *
 * @module
 */
import { BlockList } from "node:net";
import { canonicalIp, ipFamily } from "../ip.ts";
import type { EndpointListName } from "../load_balancer.ts";
import type { ListenOptions } from "./engine.ts";

/** A set of CIDRs, read once and asked for every client. */
export class CidrSet {
  readonly #list = new BlockList();
  readonly isEmpty: boolean;

  /** @param cidrs canonical, of both families */
  constructor(cidrs: readonly string[]) {
    this.isEmpty = cidrs.length === 0;
    for (const cidr of cidrs) {
      const [ip = "", prefix] = cidr.split("/");
      this.#list.addSubnet(ip, Number(prefix), family(ip));
    }
  }

  /** @param ip canonical; an IPv4-mapped one would be in no IPv4 CIDR */
  has(ip: string): boolean {
    return !this.isEmpty && this.#list.check(ip, family(ip));
  }
}

function family(ip: string): "ipv4" | "ipv6" {
  return ipFamily(ip) === "IPv4" ? "ipv4" : "ipv6";
}

/** What an engine keeps for each listener. */
export class Admission {
  readonly #scope: ListenOptions["scope"];
  readonly #sourceRanges: CidrSet;

  constructor(options: ListenOptions) {
    this.#scope = options.scope;
    this.#sourceRanges = new CidrSet(options.sourceRanges);
  }

  /** The list of everybody, where it does not matter who comes. */
  get listForAll(): EndpointListName | undefined {
    const isForAll = this.#scope === "internal" && this.#sourceRanges.isEmpty;
    return isForAll ? "internal" : undefined;
  }

  /**
   * The endpoints a client may reach; `undefined`: none, it is outside the
   * source ranges (6.30–6.32).
   *
   * @param clientIp canonical
   * @param clusterSources this node and its pods, who are no outsiders to
   *   policies of Local (5.51, 5.52), yet are to source ranges (6.31)
   */
  listFor(
    clientIp: string,
    clusterSources: CidrSet,
  ): EndpointListName | undefined {
    if (!this.#sourceRanges.isEmpty && !this.#sourceRanges.has(clientIp)) {
      return undefined;
    }
    if (this.#scope === "internal") return "internal";
    return clusterSources.has(clientIp) ? "externalFromCluster" : "external";
  }
}

/**
 * A peer's address as the rest of the program writes it: a listener on an IPv6
 * wildcard sees IPv4 clients as `::ffff:10.0.0.1`.
 */
export function peerIp(hostname: string): string {
  return hostname.startsWith("::")
    ? canonicalIp(hostname) ?? hostname
    : hostname;
}

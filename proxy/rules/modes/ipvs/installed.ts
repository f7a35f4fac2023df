/**
 * What of ipvs mode is in the kernel: virtual servers, sets and addresses, read
 * from what `ipvsadm`, `ipset` and `ip` print. A program has the same form, so
 * that `difference.ts` can compare them. Pure.
 *
 * @module
 */
import { canonicalIp, type IpFamily, ipFamily } from "../../../ip.ts";
import type { Protocol } from "../../../../watch/types.ts";
import type { IpvsProgram, VirtualServer } from "./program.ts";
import { addressEntry, kernelSetName, type SetName } from "./sets.ts";
import { realServerKey, virtualServerKey, virtualServerLine } from "./text.ts";

/** By their names: see `virtualServerKey`, `realServerKey`. */
export interface Installed {
  readonly servers: ReadonlyMap<string, InstalledServer>;
  readonly sets: ReadonlyMap<string, ReadonlySet<string>>;
  readonly addresses: ReadonlySet<string>;
}

export interface InstalledServer {
  /** How it was made: `-t 10.96.0.1:443 -s rr`. */
  readonly line: string;
  readonly ip: string;
  /** Real server → weight. */
  readonly realServers: ReadonlyMap<string, number>;
}

export const NOTHING_INSTALLED: Installed = {
  servers: new Map(),
  sets: new Map(),
  addresses: new Set(),
};

/** What is there once a program is loaded. */
export function installedOf(program: IpvsProgram): Installed {
  return {
    servers: new Map(
      program.virtualServers.map((server) => [
        virtualServerKey(server),
        installedServer(server),
      ]),
    ),
    sets: new Map(
      program.sets.map(({ name, entries }) => [name, new Set(entries)]),
    ),
    addresses: new Set(program.addresses),
  };
}

function installedServer(server: VirtualServer): InstalledServer {
  return {
    line: virtualServerLine(server),
    ip: server.ip,
    realServers: new Map(
      server.realServers.map((each) => [realServerKey(each), each.weight]),
    ),
  };
}

/** Sets that have `address,protocol:port` of virtual servers. */
const ADDRESS_SETS: readonly SetName[] = [
  "KUBE-CLUSTER-IP",
  "KUBE-EXTERNAL-IP",
  "KUBE-EXTERNAL-IP-LOCAL",
  "KUBE-LOAD-BALANCER",
  "KUBE-NODE-PORT-SCTP-HASH",
];

/** Those virtual servers that the mode made: its sets know them. */
export function ownServers(
  { servers, sets }: Installed,
  family: IpFamily,
): string[] {
  const has = (name: SetName, entry: string) =>
    sets.get(kernelSetName(name, family))?.has(entry) ?? false;
  return [...servers].filter(([key, { ip }]) => {
    const protocol = PROTOCOLS[key.split(" ")[0] ?? ""];
    const port = Number(key.slice(key.lastIndexOf(":") + 1));
    if (protocol === undefined) return false;
    const entry = addressEntry({ ip, port, protocol });
    return ADDRESS_SETS.some((name) => has(name, entry)) ||
      protocol !== "SCTP" && has(`KUBE-NODE-PORT-${protocol}`, String(port));
  }).map(([key]) => key);
}

const PROTOCOLS: Readonly<Record<string, Protocol>> = {
  "-t": "TCP",
  "-u": "UDP",
  "--sctp-service": "SCTP",
};

/** What `ipvsadm -Sn` printed, of one family; marks of a firewall are left out. */
export function parseServers(
  text: string,
  family: IpFamily,
): Map<string, InstalledServer> {
  const servers = new Map<
    string,
    InstalledServer & { realServers: Map<string, number> }
  >();
  for (const line of text.split("\n")) {
    const [verb, protocol = "", address = "", ...rest] = line.trim()
      .split(/\s+/);
    if (!(protocol in PROTOCOLS)) continue;
    const ip = addressOf(address);
    if (ip === undefined || ipFamily(ip) !== family) continue;
    const key = `${protocol} ${address}`;
    if (verb === "-A") {
      servers.set(key, {
        line: [key, ...withoutMask(rest)].join(" "),
        ip,
        realServers: new Map(),
      });
    } else if (verb === "-a") {
      servers.get(key)?.realServers.set(
        optionOf(rest, "-r"),
        Number(optionOf(rest, "-w")),
      );
    }
  }
  return servers;
}

/** Persistence for single addresses: what there is without `-M`. */
function withoutMask(words: readonly string[]): string[] {
  return words.filter((word, at) =>
    !(word === "-M" || words[at - 1] === "-M") ||
    isPartialMask(word === "-M" ? words[at + 1] : word)
  );
}

function isPartialMask(mask = ""): boolean {
  return mask !== "255.255.255.255" && mask !== "128";
}

function optionOf(words: readonly string[], option: string): string {
  return words[words.indexOf(option) + 1] ?? "";
}

function addressOf(hostPort: string): string | undefined {
  const [, ip = ""] = /^\[?([^\]]*?)\]?:\d+$/.exec(hostPort) ?? [];
  return canonicalIp(ip);
}

/** Connections of each real server, `SERVER REAL` → how many. */
export function parseConnections(listing: string): Map<string, number> {
  const connections = new Map<string, number>();
  const options = new Map(
    Object.entries(PROTOCOLS).map(([option, name]) => [String(name), option]),
  );
  let server = "";
  for (const line of listing.split("\n")) {
    const words = line.trim().split(/\s+/);
    const [first = "", address = ""] = words;
    const option = options.get(first);
    if (option !== undefined) server = `${option} ${address}`;
    else if (first === "->" && words.length === 6) {
      const count = Number(words[4]) + Number(words[5]);
      if (!Number.isNaN(count)) {
        connections.set(`${server} ${address}`, count);
      }
    }
  }
  return connections;
}

/** What `ipset save` printed, of sets that somebody asks for. */
export function parseSets(
  text: string,
  isOurs: (name: string) => boolean,
): Map<string, Set<string>> {
  const sets = new Map<string, Set<string>>();
  for (const line of text.split("\n")) {
    const [verb, name = "", entry = ""] = line.split(" ");
    if (!isOurs(name)) continue;
    if (verb === "create") sets.set(name, new Set());
    else if (verb === "add") sets.get(name)?.add(entry);
  }
  return sets;
}

/** What `ip -json address show` printed of one interface. */
export function parseAddresses(json: string, family: IpFamily): Set<string> {
  const links: unknown = JSON.parse(json === "" ? "[]" : json);
  const addresses = new Set<string>();
  if (!Array.isArray(links)) return addresses;
  for (const { addr_info = [] } of links as readonly Link[]) {
    for (const { local = "", scope } of addr_info) {
      const ip = canonicalIp(local);
      if (ip === undefined || ipFamily(ip) !== family) continue;
      if (scope !== "link") addresses.add(ip);
    }
  }
  return addresses;
}

/** The part of what `ip` prints that we read. */
interface Link {
  readonly addr_info?: readonly {
    readonly local?: string;
    readonly scope?: string;
  }[];
}

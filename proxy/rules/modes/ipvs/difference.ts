/**
 * What has to be done so that the kernel holds a program: lines for `ipset
 * restore`, `ipvsadm --restore` and `ip -batch`, in the order in which no packet
 * meets a half of it. An endpoint that is gone keeps its connections: its weight
 * becomes 0, and it is removed when they have ended (fact 10.42). Pure.
 *
 * @module
 */
import { cidrContains } from "../../../ip.ts";
import {
  type Installed,
  installedOf,
  type InstalledServer,
} from "./installed.ts";
import type { IpvsProgram } from "./program.ts";
import { addressLine, createSetLine } from "./text.ts";

export interface Difference {
  /** Before rules ask the sets. */
  readonly newEntries: readonly string[];
  readonly servers: readonly string[];
  readonly newAddresses: readonly string[];
  readonly oldAddresses: readonly string[];
  /** After their addresses are gone. */
  readonly oldServers: readonly string[];
  readonly oldEntries: readonly string[];
  /** What is there afterwards, with what only ends its connections. */
  readonly after: Installed;
}

/** A real server that takes no new connections: `SERVER REAL`. */
export interface Draining {
  readonly server: string;
  readonly realServer: string;
}

/**
 * @param excludeCidrs virtual servers in here are somebody else's (fact 8.24)
 */
export function difference(
  installed: Installed,
  program: IpvsProgram,
  excludeCidrs: readonly string[] = [],
): Difference {
  const wanted = installedOf(program);
  const isOthers = ({ ip }: InstalledServer) =>
    excludeCidrs.some((cidr) => cidrContains(cidr, ip));
  const servers: string[] = [];
  const after = new Map<string, InstalledServer>();
  for (const [key, server] of wanted.servers) {
    const there = installed.servers.get(key);
    if (there?.line !== server.line) {
      servers.push(`${there === undefined ? "-A" : "-E"} ${server.line}`);
    }
    const { lines, weights } = realServers(key, there, server);
    servers.push(...lines);
    after.set(key, { ...server, realServers: weights });
  }
  const oldServers: string[] = [];
  for (const [key, server] of installed.servers) {
    if (wanted.servers.has(key)) continue;
    if (isOthers(server)) after.set(key, server);
    else oldServers.push(`-D ${key}`);
  }
  const { newEntries, oldEntries } = entries(installed, program);
  return {
    newEntries,
    servers,
    newAddresses: missing(wanted.addresses, installed.addresses)
      .map((ip) => addressLine("replace", ip)),
    oldAddresses: missing(installed.addresses, wanted.addresses)
      .map((ip) => addressLine("delete", ip)),
    oldServers,
    oldEntries,
    after: { ...wanted, servers: after },
  };
}

/** Whether the kernel holds the program. */
export function isNothing(difference: Difference): boolean {
  const { after: _, ...lines } = difference;
  return Object.values(lines).every((each) => each.length === 0);
}

function realServers(
  key: string,
  there: InstalledServer | undefined,
  wanted: InstalledServer,
): { lines: string[]; weights: Map<string, number> } {
  const lines: string[] = [];
  const weights = new Map(wanted.realServers);
  for (const [realServer, weight] of wanted.realServers) {
    const known = there?.realServers.get(realServer);
    if (known === weight) continue;
    const verb = known === undefined ? "-a" : "-e";
    lines.push(`${verb} ${key} -r ${realServer} -m -w ${weight}`);
  }
  for (const [realServer, weight] of there?.realServers ?? []) {
    if (wanted.realServers.has(realServer)) continue;
    if (!key.startsWith("-t")) {
      lines.push(`-d ${key} -r ${realServer}`);
      continue;
    }
    weights.set(realServer, 0);
    if (weight !== 0) lines.push(`-e ${key} -r ${realServer} -m -w 0`);
  }
  return { lines, weights };
}

function entries(
  { sets }: Installed,
  program: IpvsProgram,
): { newEntries: string[]; oldEntries: string[] } {
  const newEntries: string[] = [];
  const oldEntries: string[] = [];
  for (const set of program.sets) {
    const there = sets.get(set.name);
    const wanted = new Set(set.entries);
    if (there === undefined) newEntries.push(createSetLine(set, program));
    for (const entry of missing(wanted, there ?? new Set())) {
      newEntries.push(`add ${set.name} ${entry} -exist`);
    }
    for (const entry of missing(there ?? new Set(), wanted)) {
      oldEntries.push(`del ${set.name} ${entry} -exist`);
    }
  }
  return { newEntries, oldEntries };
}

/** Those that the other one has not. */
function missing(
  some: ReadonlySet<string>,
  others: ReadonlySet<string>,
): string[] {
  return [...some].filter((each) => !others.has(each));
}

/** Real servers that are there only for the connections they have. */
export function drainingIn(
  { servers }: Installed,
  program: IpvsProgram,
): Draining[] {
  const wanted = installedOf(program).servers;
  return [...servers].flatMap(([server, { realServers }]) => {
    const kept = wanted.get(server)?.realServers;
    // Another's server, or one of ours that is not in the program any more.
    if (kept === undefined) return [];
    return [...realServers.keys()].filter((each) => !kept.has(each))
      .map((realServer) => ({ server, realServer }));
  });
}

/** The same without some that have ended. */
export function without(
  installed: Installed,
  ended: readonly Draining[],
): Installed {
  const servers = new Map(installed.servers);
  for (const { server, realServer } of ended) {
    const there = servers.get(server);
    if (there === undefined) continue;
    const realServers = new Map(there.realServers);
    realServers.delete(realServer);
    servers.set(server, { ...there, realServers });
  }
  return { ...installed, servers };
}

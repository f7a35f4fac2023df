/**
 * An `IpvsProgram` as the texts that load it: what `ipvsadm --restore`, `ipset
 * restore`, `iptables-restore --noflush` and `ip -batch` read. Pure.
 *
 * @module
 */
import { formatHostPort, singleAddressCidr } from "../../../ip.ts";
import {
  type IpSet,
  IPVS_DEVICE,
  type IpvsProgram,
  type RealServer,
  type Rule,
  type RuleMatch,
  type RuleTarget,
  type TableRule,
  type VirtualServer,
} from "./program.ts";

/** What tells virtual servers apart. */
export type VirtualServerAddress = Pick<
  VirtualServer,
  "ip" | "port" | "protocol"
>;

const PROTOCOL_OPTIONS = { TCP: "-t", UDP: "-u", SCTP: "--sctp-service" };

/** As ipvsadm names a virtual server: `-t 10.96.0.1:443`. */
export function virtualServerKey(server: VirtualServerAddress): string {
  const address = formatHostPort(server.ip, server.port);
  return `${PROTOCOL_OPTIONS[server.protocol]} ${address}`;
}

/** `10.244.0.2:8080` */
export function realServerKey({ ip, port }: RealServer): string {
  return formatHostPort(ip, port);
}

/** A virtual server without its real servers: the rest of `-A` or `-E`. */
export function virtualServerLine(server: VirtualServer): string {
  const { scheduler, persistentSeconds, schedulerFlags } = server;
  return `${virtualServerKey(server)} -s ${scheduler}` +
    (persistentSeconds === 0 ? "" : ` -p ${persistentSeconds}`) +
    (schedulerFlags === "" ? "" : ` -b ${schedulerFlags}`);
}

/** A real server: the rest of `-a` or `-e`. NAT: a reply comes back this way. */
export function realServerLine(
  server: VirtualServerAddress,
  realServer: RealServer,
): string {
  return `${virtualServerKey(server)} -r ${realServerKey(realServer)} -m -w ` +
    realServer.weight;
}

/** What `ipvsadm --restore` reads, and `ipvsadm --save -n` prints. */
export function ipvsadmText({ virtualServers }: IpvsProgram): string {
  return virtualServers.map((server) =>
    [
      `-A ${virtualServerLine(server)}\n`,
      ...server.realServers.map((realServer) =>
        `-a ${realServerLine(server, realServer)}\n`
      ),
    ].join("")
  ).join("");
}

/** The line of `ipset restore` that makes a set, if it is not there. */
export function createSetLine(
  { name, type }: Pick<IpSet, "name" | "type">,
  { family }: Pick<IpvsProgram, "family">,
): string {
  if (type === "bitmap:port") {
    return `create ${name} ${type} range 0-65535 -exist`;
  }
  const inet = family === "IPv4" ? "inet" : "inet6";
  return `create ${name} ${type} family ${inet} hashsize 1024 maxelem 65536 -exist`;
}

/** What `ipset restore` reads. Sets that are there keep what they have. */
export function ipsetText(program: IpvsProgram): string {
  return program.sets.map((set) =>
    [
      `${createSetLine(set, program)}\n`,
      ...set.entries.map((entry) => `add ${set.name} ${entry} -exist\n`),
    ].join("")
  ).join("");
}

/**
 * What `iptables-restore --noflush` reads: our chains, emptied and filled. The
 * sets have to be there.
 *
 * @param options.jumps with the rules in the kernel's own chains, put before
 *   what is there, again each time it is loaded
 */
export function iptablesText(
  program: IpvsProgram,
  options: { readonly jumps: boolean },
): string {
  return tablesText(program, options.jumps ? program.jumps : []);
}

/** The same, with some of the rules in the kernel's own chains. */
export function tablesText(
  { tables }: IpvsProgram,
  jumps: readonly TableRule[],
): string {
  return tables.map(({ name, chains }) =>
    [
      `*${name}`,
      ...chains.map((chain) => `:${chain.name} - [0:0]`),
      // Each goes before those that are there: the last one is the first.
      ...jumps.filter(({ table }) => table === name).map(jumpLine).reverse(),
      ...chains.flatMap((chain) =>
        chain.rules.map((rule) => `-A ${chain.name} ${ruleText(rule)}`)
      ),
      "COMMIT\n",
    ].join("\n")
  ).join("");
}

function jumpLine({ chain, rule }: TableRule): string {
  return `-I ${chain} ${ruleText(rule)}`;
}

const ADD_DEVICE = `link add ${IPVS_DEVICE} type dummy`;

/** What `ip -batch -` reads, where the interface is not there yet. */
export function addressesText(program: IpvsProgram): string {
  return `${ADD_DEVICE}\n${addressLines(program)}`;
}

function addressLines({ addresses }: IpvsProgram): string {
  return addresses.map((ip) => `${addressLine("replace", ip)}\n`).join("");
}

export const IPVS_PARTS = [
  "ipset",
  "iptables",
  "ipvsadm",
  "addresses",
] as const;
export type IpvsPartName = typeof IPVS_PARTS[number];

/** One part of the program: the input of the tool that loads it. */
export function ipvsPartText(
  program: IpvsProgram,
  name: IpvsPartName,
  options: { readonly jumps: boolean },
): string {
  switch (name) {
    case "ipset":
      return ipsetText(program);
    case "iptables":
      return iptablesText(program, options);
    case "ipvsadm":
      return ipvsadmText(program);
    case "addresses":
      return addressesText(program);
  }
}

/**
 * The whole program as a shell script: each part is the input of the command
 * that loads it. Rules come after the sets they ask, and the addresses last:
 * packets arrive when there is somebody to take them.
 */
export function scriptText(
  program: IpvsProgram,
  options: { readonly jumps: boolean },
): string {
  const tables = program.family === "IPv4" ? "iptables" : "ip6tables";
  return [
    input("ipset restore", ipsetText(program)),
    input(`${tables}-restore --noflush`, iptablesText(program, options)),
    input("ipvsadm --restore", ipvsadmText(program)),
    // The other family, or another run, may have made it.
    `ip link show ${IPVS_DEVICE} >/dev/null 2>&1 || ip ${ADD_DEVICE}\n`,
    input("ip -batch -", addressLines(program)),
  ].join("");
}

function input(command: string, text: string): string {
  return `${command} <<'END'\n${text}END\n`;
}

/** A command of `ip` about one address of our interface. */
export function addressLine(verb: "replace" | "delete", ip: string): string {
  return `address ${verb} ${singleAddressCidr(ip)} dev ${IPVS_DEVICE}`;
}

/** A rule as iptables spells it, after its chain. */
export function ruleText({ comment, matches, target }: Rule): string {
  const isFirst = (match: RuleMatch) => match.kind === "protocol";
  return [
    ...matches.filter(isFirst).map(matchText),
    ...(comment === "" ? [] : [`-m comment --comment "${comment}"`]),
    ...matches.filter((match) => !isFirst(match)).map(matchText),
    `-j ${targetText(target)}`,
  ].join(" ");
}

function matchText(match: RuleMatch): string {
  switch (match.kind) {
    case "set":
      return `-m set --match-set ${match.set} ${match.parts}`;
    case "protocol":
      return `-p ${match.protocol}`;
    case "source":
      return `${not(match)}-s ${match.cidr}`;
    case "interface":
      return `${not(match)}-i ${match.name}`;
    case "mark":
      return `-m mark ${not(match)}--mark ${hex(match.bits)}/${
        hex(match.bits)
      }`;
    case "local":
      return `-m addrtype ${not(match)}--${match.side}-type LOCAL`;
    case "connection":
      return `-m conntrack --ctstate ${match.states}`;
    case "not bridged":
      return "-m physdev ! --physdev-is-in";
    case "ipvs":
      return `-m ipvs --vaddr ${match.ip} --vproto ${match.protocol} ` +
        `--vport ${match.port}`;
  }
}

function not(match: { readonly not: boolean }): string {
  return match.not ? "! " : "";
}

function targetText(target: RuleTarget): string {
  switch (target.kind) {
    case "verdict":
    case "chain":
      return target.name;
    case "reject":
      return "REJECT";
    case "masquerade":
      return "MASQUERADE";
    case "mark":
      return `MARK --${target.how}-mark ${hex(target.bits)}`;
  }
}

/** The digits, not the number with its `0x`, are filled up (fact 10.24). */
function hex(bits: number): string {
  return `0x${bits.toString(16).padStart(8, "0")}`;
}

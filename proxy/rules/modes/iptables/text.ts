/**
 * The text of an iptables program: input for `iptables-restore`, in the form
 * that `iptables-save` would print it back. That form is the kernel's own, so
 * what is rendered can be compared with what any machine has loaded. Pure.
 *
 * @module
 */
import { formatHostPort, type IpFamily } from "../../../ip.ts";
import type {
  IptablesProgram,
  IptablesRule,
  IptablesTable,
  Match,
  Target,
} from "./program.ts";

export interface TextOptions {
  /** With the rules in the kernel's own chains. */
  readonly jumps?: boolean;
}

/** All tables of a program, for `iptables-restore --noflush`. */
export function programText(
  { family, tables }: IptablesProgram,
  { jumps = false }: TextOptions = {},
): string {
  return tables.map((table) => tableText(table, { family, jumps })).join("");
}

/**
 * The kernel's own chains are not declared: to declare them would set their
 * policies, which are the machine's.
 */
function tableText(
  table: IptablesTable,
  { family, jumps }: { family: IpFamily; jumps: boolean },
): string {
  return [
    `*${table.name}`,
    ...table.chains.map(({ name }) => declaration(name)),
    ...(jumps ? table.jumps : []).map((each) =>
      ruleText(each.chain, each, family)
    ),
    ...table.chains.flatMap(({ name, rules }) =>
      rules.map((each) => ruleText(name, each, family))
    ),
    "COMMIT",
    "",
  ].join("\n");
}

/** Declares a chain; one that is there loses its rules (fact 10.13). */
export function declaration(chain: string): string {
  return `:${chain} - [0:0]`;
}

/** `-A CHAIN …`, without a line's end. */
export function ruleText(
  chain: string,
  rule: IptablesRule,
  family: IpFamily,
): string {
  return `-A ${chain}${
    ruleArgs(rule, family).map((arg) => ` ${arg}`).join("")
  }`;
}

/**
 * What follows the chain's name. Addresses, interface and protocol come first,
 * whatever their place among the matches: `iptables-save` has them so, since
 * the kernel keeps them apart from its other matches.
 */
export function ruleArgs(rule: IptablesRule, family: IpFamily): string[] {
  const { matches, target } = rule;
  const of = (type: Match["type"]) =>
    matches.filter((match) => match.type === type)
      .map((match) => matchText(match, family));
  const parts = [
    ...of("source"),
    ...of("destination"),
    ...of("in-interface"),
    ...of("protocol"),
  ];
  const protocol = matches.find((match) => match.type === "protocol")?.protocol;
  for (const match of matches) {
    if (isAddressed(match)) continue;
    parts.push(
      match.type === "destination-port"
        ? `-m ${protocol} --dport ${match.port}`
        : matchText(match, family),
    );
  }
  if (target !== undefined) {
    // A DNAT to a port needs the protocol's module, which nothing else loaded.
    const isAlone = target.type === "dnat" &&
      !matches.some((match) => match.type === "destination-port");
    if (isAlone && protocol !== undefined) parts.push(`-m ${protocol}`);
    parts.push(`-j ${targetText(target, family)}`);
  }
  return parts;
}

function isAddressed({ type }: Match): boolean {
  return type === "source" || type === "destination" ||
    type === "in-interface" || type === "protocol";
}

function matchText(match: Match, family: IpFamily): string {
  const not = "not" in match && match.not ? "! " : "";
  switch (match.type) {
    case "comment":
      return `-m comment --comment "${match.text}"`;
    case "protocol":
      return `-p ${match.protocol}`;
    case "source":
      return `${not}-s ${match.cidr}`;
    case "destination":
      return `${not}-d ${match.cidr}`;
    case "destination-port":
      return `--dport ${match.port}`;
    case "in-interface":
      return `${not}-i ${match.name}`;
    case "local-address":
      return `-m addrtype --${
        match.of === "source" ? "src" : "dst"
      }-type LOCAL`;
    case "mark":
      return `-m mark ${not}--mark ${hex(match.mark)}/${hex(match.mark)}`;
    case "connection-state":
      return `-m conntrack ${not}--ctstate ${match.states.join(",")}`;
    case "random":
      return `-m statistic --mode random --probability ${
        probabilityText(match.probability)
      }`;
    case "recently-seen":
      return `-m recent --rcheck --seconds ${match.seconds} --reap ` +
        listText(match.list, family);
    case "remember":
      return `-m recent --set ${listText(match.list, family)}`;
    case "count":
      return `-m nfacct --nfacct-name  ${match.counter}`;
  }
}

function targetText(target: Target, family: IpFamily): string {
  switch (target.type) {
    case "jump":
      return target.chain;
    case "accept":
    case "drop":
    case "return":
      return target.type.toUpperCase();
    case "reject":
      return `REJECT --reject-with ${
        family === "IPv4" ? "icmp-port-unreachable" : "icmp6-port-unreachable"
      }`;
    case "set-mark":
      return `MARK --set-xmark ${hex(target.mark)}/${hex(target.mark)}`;
    case "flip-mark":
      return `MARK --set-xmark ${hex(target.mark)}/0x0`;
    case "masquerade":
      return "MASQUERADE --random-fully";
    case "dnat":
      return `DNAT --to-destination ${formatHostPort(target.ip, target.port)}`;
  }
}

function listText(list: string, family: IpFamily): string {
  const mask = family === "IPv4"
    ? "255.255.255.255"
    : "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
  return `--name ${list} --mask ${mask} --rsource`;
}

/** `0x4000`; bit 31 too is no negative number. */
function hex(mark: number): string {
  return `0x${(mark >>> 0).toString(16)}`;
}

/** The kernel counts chances in 2^31ths. */
const CHANCES = 2 ** 31;

/**
 * Upstream writes ten digits (fact 3.3), the kernel keeps the nearest of its
 * own steps, and `iptables-save` shows that with eleven.
 */
function probabilityText(probability: number): string {
  const written = Number(probability.toFixed(10));
  return (Math.round(written * CHANCES) / CHANCES).toFixed(11);
}

/**
 * Redirections as iptables rules, and back: which chains there are, what leads
 * packets into them, and what closes the back door. Pure; `iptables_writer.ts`
 * brings it into the kernel.
 *
 * @module
 */
import {
  canonicalIp,
  formatHostPort,
  type IpFamily,
  singleAddressCidr,
} from "../ip.ts";
import {
  type ChainName,
  lineOf,
  type RuleLine,
  ruleParts,
  type Ruleset,
  ruleTarget,
  type Table,
} from "./iptables_text.ts";
import type { Redirection } from "./redirection.ts";

/**
 * Our chains in `nat`, as the first kube-proxy named them: packets from pods
 * and other hosts come to CONTAINER, those of processes on the node to HOST.
 * The two are to do the same, so HOST only jumps to CONTAINER: one rule for
 * each redirection instead of two.
 */
export const PORTALS_CONTAINER = "KUBE-PORTALS-CONTAINER";
export const PORTALS_HOST = "KUBE-PORTALS-HOST";
export const NODEPORT_CONTAINER = "KUBE-NODEPORT-CONTAINER";
export const NODEPORT_HOST = "KUBE-NODEPORT-HOST";
/** What was sent to a proxy port directly ends here. */
export const PORTALS_DIRECT = "KUBE-PORTALS-DIRECT";
/** Exists for a moment, while rules are tried out. */
export const PORTALS_PROBE = "KUBE-PORTALS-PROBE";

const OWN_CHAINS: ReadonlySet<string> = new Set([
  PORTALS_CONTAINER,
  PORTALS_HOST,
  NODEPORT_CONTAINER,
  NODEPORT_HOST,
  PORTALS_DIRECT,
  PORTALS_PROBE,
]);

/**
 * How rules are spelt on this machine. Poor kernels (gVisor, some of WSL2) lack
 * matches, and one rule with a missing match makes a whole transaction fail.
 */
export interface IptablesForm {
  readonly family: IpFamily;
  /** Where DNAT sends packets; missing: REDIRECT. */
  readonly target?: string;
  readonly comments: boolean;
  readonly addrtype: boolean;
  /** The table in which direct packets are told apart; `none`: nowhere. */
  readonly guard: Exclude<Table, "nat"> | "none";
  /** TCP is led by what is in sets; missing: each redirection has a rule. */
  readonly sets?: SetRules;
}

/** The sets that rules ask. */
export interface SetNames {
  readonly services: OpenAndClosed;
  readonly nodePorts: OpenAndClosed;
  readonly clusterIps: string;
}

/** Sets of address, protocol and port. */
export interface OpenAndClosed {
  readonly open: string;
  readonly closed: string;
}

/** Where rules lead what is in the sets. */
export interface SetRules {
  readonly names: SetNames;
  /** Proxy port of what is open; `undefined`: not known yet, no rules. */
  readonly port: number | undefined;
  /** Of what is closed, and of all other ports of cluster IPs. */
  readonly closedPort: number;
}

/** The chains that have to be there. */
export function ownChains(form: IptablesForm): ChainName[] {
  const nat = [
    PORTALS_CONTAINER,
    PORTALS_HOST,
    NODEPORT_CONTAINER,
    NODEPORT_HOST,
  ].map((chain): ChainName => `nat ${chain}`);
  return form.guard === "none"
    ? nat
    : [`${form.guard} ${PORTALS_DIRECT}`, ...nat];
}

/** The rules that have to be there whatever Services there are. */
export function frameRules(form: IptablesForm): RuleLine[] {
  const rules = [
    jump(form, { from: "PREROUTING", to: PORTALS_CONTAINER }),
    jump(form, { from: "OUTPUT", to: PORTALS_HOST }),
    jump(form, { from: PORTALS_HOST, to: PORTALS_CONTAINER }),
    jump(form, { from: "PREROUTING", to: NODEPORT_CONTAINER }),
    jump(form, { from: "OUTPUT", to: NODEPORT_HOST }),
    jump(form, { from: NODEPORT_HOST, to: NODEPORT_CONTAINER }),
    ...setRules(form),
  ];
  if (form.guard === "none") return rules;
  const hook = form.guard === "filter" ? "INPUT" : "PREROUTING";
  const guard = [
    "-A",
    hook,
    ...comment(form, "kube-portal: proxy ports only by a Service address"),
    "-j",
    PORTALS_DIRECT,
  ];
  rules.unshift(ruleLine(form.guard, guard));
  if (form.target !== undefined) {
    const what = ["-d", singleAddressCidr(form.target), "!", "-i", "lo"];
    rules.unshift(guardRule(form, what));
  }
  return rules;
}

/** First of all, but for NodePorts, which are last, as they always were. */
export function isInsertedFirst(rule: RuleLine): boolean {
  return !OWN_CHAINS.has(ruleParts(rule).chain) &&
    !ruleTarget(rule).startsWith("KUBE-NODEPORT-");
}

const JUMP_COMMENTS: Readonly<Record<string, string>> = {
  PORTALS: "kube-portal: Service addresses, before NodePorts",
  NODEPORT: "kube-portal: NodePorts, after Service addresses",
};

function jump(
  form: IptablesForm,
  { from, to }: { from: string; to: string },
): RuleLine {
  const isNodePort = to.startsWith("KUBE-NODEPORT-");
  const local = isNodePort && form.addrtype && !OWN_CHAINS.has(from)
    ? ["-m", "addrtype", "--dst-type", "LOCAL"]
    : [];
  const text = JUMP_COMMENTS[isNodePort ? "NODEPORT" : "PORTALS"] ?? "";
  return ruleLine("nat", [
    "-A",
    from,
    ...local,
    ...comment(form, text),
    "-j",
    to,
  ]);
}

/** The rules of one redirection: the one that everybody knows, first. */
export function redirectionRules(
  redirection: Redirection,
  form: IptablesForm,
): RuleLine[] {
  const { ip, port, protocol, proxyPort, name } = redirection;
  if (form.sets !== undefined && protocol === "TCP") return [];
  const proto = protocol.toLowerCase();
  const chain = redirection.isNodePort ? NODEPORT_CONTAINER : PORTALS_CONTAINER;
  const rule = ruleLine("nat", [
    "-A",
    chain,
    "-d",
    singleAddressCidr(ip),
    "-p",
    proto,
    ...comment(form, name),
    "-m",
    proto,
    "--dport",
    String(port),
    "-j",
    ...leadTo(form, proxyPort),
  ]);
  return [rule, ...portGuard(form, { proto, proxyPort })];
}

function leadTo({ target }: IptablesForm, proxyPort: number): string[] {
  return target === undefined
    ? ["REDIRECT", "--to-ports", String(proxyPort)]
    : ["DNAT", "--to-destination", formatHostPort(target, proxyPort)];
}

/**
 * Where the listener is bound to every address of the node, each port of it has
 * to be closed for itself.
 */
function portGuard(
  form: IptablesForm,
  { proto, proxyPort }: { proto: string; proxyPort: number },
): RuleLine[] {
  if (form.target !== undefined || form.guard === "none") return [];
  const what = ["!", "-i", "lo", "-p", proto, "-m", proto];
  return [guardRule(form, [...what, "--dport", String(proxyPort)])];
}

/**
 * The rules that ask sets. No packet matches two that lead to different ports,
 * but for a moment while an address changes sets: their order means nothing.
 */
function setRules(form: IptablesForm): RuleLine[] {
  const { names, port, closedPort } = form.sets ?? {};
  if (names === undefined || port === undefined || closedPort === undefined) {
    return [];
  }
  const rule = (
    chain: string,
    { proto, match, text, to }: {
      proto: string;
      match: readonly string[];
      text: string;
      to: number;
    },
  ) => {
    const words = ["-A", chain, "-p", proto, ...match];
    const note = comment(form, `kube-portal: ${text}`);
    return ruleLine("nat", [...words, ...note, "-j", ...leadTo(form, to)]);
  };
  const inSet = (set: string, what = "dst,dst") =>
    ["-m", "set", "--match-set", set, what] as const;
  const tables = [
    [PORTALS_CONTAINER, names.services],
    [NODEPORT_CONTAINER, names.nodePorts],
  ] as const;
  const { open } = names.services;
  const isOther = [
    ...inSet(names.clusterIps, "dst"),
    ...["-m", "set", "!", "--match-set", open, "dst,dst"],
  ];
  return [
    ...tables.flatMap(([chain, sets]) => [
      rule(chain, {
        proto: "tcp",
        match: inSet(sets.open),
        text: "addresses with endpoints",
        to: port,
      }),
      rule(chain, {
        proto: "tcp",
        match: inSet(sets.closed),
        text: "addresses without, refused",
        to: closedPort,
      }),
    ]),
    ...["tcp", "udp"].map((proto) =>
      rule(PORTALS_CONTAINER, {
        proto,
        match: isOther,
        text: "other ports of cluster IPs, refused",
        to: closedPort,
      })
    ),
    ...portGuard(form, { proto: "tcp", proxyPort: port }),
  ];
}

/** Where the rules that ask a set lead; `undefined` if there are none. */
export function setRulePort(
  rules: readonly RuleLine[],
  set: string,
): number | undefined {
  const start = `nat -A ${PORTALS_CONTAINER} -p tcp -m set --match-set ${set} `;
  const rule = rules.find((each) => each.startsWith(start));
  const port = /(?:--to-ports |--to-destination \S*:)(\d+)$/.exec(rule ?? "");
  return port === null ? undefined : Number(port[1]);
}

/**
 * `raw` and `mangle` see packets before NAT does: one for a proxy port was sent
 * there directly. `filter` sees them after, and has to ask conntrack.
 */
function guardRule(form: IptablesForm, what: readonly string[]): RuleLine {
  const direct = form.guard === "filter"
    ? ["-m", "conntrack", "!", "--ctstate", "DNAT"]
    : form.target === undefined
    // What is only passed on to other hosts is none of ours.
    ? ["-m", "addrtype", "--dst-type", "LOCAL"]
    : [];
  const table = form.guard === "none" ? "raw" : form.guard;
  return ruleLine(table, [
    "-A",
    PORTALS_DIRECT,
    ...what,
    ...direct,
    "-j",
    "DROP",
  ]);
}

function comment(form: IptablesForm, text: string): string[] {
  if (!form.comments) return [];
  // The kernel keeps 255 bytes. Names come from an API server, which checks
  // them, or from files, which nobody did.
  const plain = text.replaceAll(/[^\w ./:,@+-]/g, "?").slice(0, 255);
  return ["-m", "comment", "--comment", plain];
}

function ruleLine(table: Table, parts: readonly string[]): RuleLine {
  return `${table} ${lineOf(parts)}` as RuleLine;
}

/** Whether a chain of this name is ours, in whatever table. */
export function isOwnChain(name: string): boolean {
  return OWN_CHAINS.has(name);
}

/** What of a ruleset is ours: our chains, what is in them or leads to them. */
export function ownPart({ chains, rules }: Ruleset): Ruleset {
  return {
    chains: new Set(
      [...chains].filter((name) => OWN_CHAINS.has(name.split(" ")[1] ?? "")),
    ),
    rules: rules.filter((rule) =>
      // A node may have 100,000 rules of others: most are passed over unread.
      rule.includes("KUBE-") &&
      (OWN_CHAINS.has(ruleParts(rule).chain) ||
        OWN_CHAINS.has(ruleTarget(rule)))
    ),
  };
}

/**
 * The redirection that a rule was written for, in whatever form.
 *
 * @returns `undefined` for any other rule, also if somebody added a condition:
 *   such a rule does not do what a redirection does
 */
export function parseRedirection(rule: RuleLine): Redirection | undefined {
  const { table, chain, rest } = ruleParts(rule);
  const isNodePort = chain === NODEPORT_CONTAINER;
  if (table !== "nat" || (!isNodePort && chain !== PORTALS_CONTAINER)) {
    return undefined;
  }
  const values = new Map<string, string>();
  for (let at = 0; at < rest.length; at += 2) {
    const option = rest[at] ?? "";
    // -m is said twice, and says nothing.
    if (option === "-m") continue;
    if (!KNOWN_OPTIONS.has(option)) return undefined;
    values.set(option, rest[at + 1] ?? "");
  }
  const ip = canonicalIp((values.get("-d") ?? "").replace(/\/(32|128)$/, ""));
  const protocol = PROTOCOLS[values.get("-p") ?? ""];
  const port = Number(values.get("--dport"));
  const proxyPort = Number(
    values.get("--to-ports") ??
      /:(\d+)$/.exec(values.get("--to-destination") ?? "")?.[1],
  );
  if (ip === undefined || protocol === undefined) return undefined;
  if (!isPort(port) || !isPort(proxyPort)) return undefined;
  const name = values.get("--comment") ?? "";
  return { ip, port, protocol, isNodePort, name, proxyPort };
}

const KNOWN_OPTIONS: ReadonlySet<string> = new Set([
  "-d",
  "-p",
  "-j",
  "--comment",
  "--dport",
  "--to-ports",
  "--to-destination",
]);

const PROTOCOLS: Readonly<Record<string, "TCP" | "UDP">> = {
  tcp: "TCP",
  udp: "UDP",
};

function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port <= 65_535;
}

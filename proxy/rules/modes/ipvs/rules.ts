/**
 * The iptables rules of ipvs mode (facts 10.45, 10.46). IPVS finds the endpoint;
 * rules decide, by asking the sets, what is masqueraded, what is let in, and
 * what is turned away. Their number does not depend on the Services, but for
 * load-balancer addresses that the node itself may not use. Pure.
 *
 * @module
 */
import type { LocalDetector, ModeInput } from "../mode_input.ts";
import type { BarredAddress } from "./compile.ts";
import type {
  Rule,
  RuleChain,
  RuleMatch,
  RuleTable,
  RuleTarget,
  SetParts,
  TableRule,
} from "./program.ts";
import {
  FILTER_CHAINS,
  type FilterChain,
  NAT_CHAINS,
  type NatChain,
  SetRules,
  toChain,
  verdict,
} from "./set_rules.ts";
import type { SetEntries } from "./sets.ts";

/** Upstream puts each before those that are there: the last one is first. */
export const IPVS_JUMPS: readonly TableRule[] = [
  jump("nat", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals"),
  jump("nat", "PREROUTING", "KUBE-SERVICES", "kubernetes service portals"),
  jump(
    "nat",
    "POSTROUTING",
    "KUBE-POSTROUTING",
    "kubernetes postrouting rules",
  ),
  jump("filter", "FORWARD", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules"),
  jump("filter", "FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules"),
  jump("filter", "INPUT", "KUBE-IPVS-FILTER", "kubernetes ipvs access filter"),
  jump("filter", "INPUT", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules"),
  jump("filter", "INPUT", "KUBE-NODE-PORT", "kubernetes health check rules"),
  jump(
    "filter",
    "OUTPUT",
    "KUBE-IPVS-OUT-FILTER",
    "kubernetes ipvs access filter",
  ),
];

function jump(
  table: "nat" | "filter",
  chain: string,
  to: NatChain | FilterChain,
  comment: string,
): TableRule {
  return { table, chain, rule: { comment, matches: [], target: toChain(to) } };
}

/** Both tables with all of their chains. */
export function ruleTables(
  input: ModeInput,
  { sets, barred }: {
    sets: SetEntries;
    barred: readonly BarredAddress[];
  },
): RuleTable[] {
  const ask = new SetRules(input, sets);
  return [natTable(input, ask), filterTable(input, ask, barred)];
}

function natTable(input: ModeInput, ask: SetRules): RuleTable {
  const bits = masqueradeBits(input);
  const rules: Readonly<Record<NatChain, readonly Rule[]>> = {
    "KUBE-SERVICES": servicesChain(input, ask),
    "KUBE-POSTROUTING": [
      ...ask.inChain("nat", "KUBE-POSTROUTING"),
      {
        comment: "",
        matches: [{ kind: "mark", bits, not: true }],
        target: verdict("RETURN"),
      },
      { comment: "", matches: [], target: { kind: "mark", how: "xor", bits } },
      {
        comment: "kubernetes service traffic requiring SNAT",
        matches: [],
        target: { kind: "masquerade" },
      },
    ],
    "KUBE-NODE-PORT": ask.inChain("nat", "KUBE-NODE-PORT"),
    "KUBE-LOAD-BALANCER": [
      ...ask.inChain("nat", "KUBE-LOAD-BALANCER"),
      { comment: "", matches: [], target: toChain("KUBE-MARK-MASQ") },
    ],
    "KUBE-MARK-MASQ": [
      { comment: "", matches: [], target: { kind: "mark", how: "or", bits } },
    ],
  };
  return { name: "nat", chains: chainsOf(NAT_CHAINS, rules) };
}

/** Nothing here changes a destination: IPVS does, after the rules. */
function servicesChain(input: ModeInput, ask: SetRules): Rule[] {
  const loopback = input.family === "IPv4" ? "127.0.0.0/8" : "::1/128";
  const external: { matches?: readonly RuleMatch[]; target: RuleTarget }[] = [
    {
      matches: [
        { kind: "not bridged" },
        { kind: "local", side: "src", not: true },
      ],
      target: verdict("ACCEPT"),
    },
    {
      matches: [{ kind: "local", side: "dst", not: false }],
      target: verdict("ACCEPT"),
    },
  ];
  const masquerade = { target: toChain("KUBE-MARK-MASQ") };
  return [
    {
      comment: "",
      matches: [{ kind: "source", cidr: loopback, not: false }],
      target: verdict("RETURN"),
    },
    ...ask.inChain("nat", "KUBE-SERVICES"),
    ...ask.ifFilled("KUBE-CLUSTER-IP", [clusterIpRule(input)]),
    ...ask.ifFilled("KUBE-EXTERNAL-IP", [masquerade, ...external]),
    ...ask.ifFilled("KUBE-EXTERNAL-IP-LOCAL", external),
    {
      comment: "",
      matches: [{ kind: "local", side: "dst", not: false }],
      target: toChain("KUBE-NODE-PORT"),
    },
    // Other rules of the node must not take what IPVS is to serve.
    ...ask.ifFilled("KUBE-CLUSTER-IP", [{ target: verdict("ACCEPT") }])
      .map(withoutComment),
    ...ask.ifFilled("KUBE-LOAD-BALANCER", [{ target: verdict("ACCEPT") }])
      .map(withoutComment),
  ];
}

/** Who is masqueraded on the way to a ClusterIP (facts 5.55, 5.76). */
function clusterIpRule({ masqueradeAll, localDetector }: ModeInput): {
  parts: SetParts;
  matches: readonly RuleMatch[];
  target: RuleTarget;
} {
  const target = toChain("KUBE-MARK-MASQ");
  if (masqueradeAll) return { parts: "dst,dst", matches: [], target };
  const notLocal = notOfThisNode(localDetector);
  // The node's own packets have the address they go to as their source, since
  // it is on kube-ipvs0: endpoints would answer to it.
  return notLocal === undefined
    ? { parts: "src,dst", matches: [], target }
    : { parts: "dst,dst", matches: [notLocal], target };
}

function notOfThisNode(detector: LocalDetector): RuleMatch | undefined {
  switch (detector.kind) {
    case "none":
      return undefined;
    case "cidr":
      return { kind: "source", cidr: detector.cidr, not: true };
    case "interface":
      return { kind: "interface", name: detector.name, not: true };
    case "interface-prefix":
      return { kind: "interface", name: `${detector.prefix}+`, not: true };
  }
}

function filterTable(
  input: ModeInput,
  ask: SetRules,
  barred: readonly BarredAddress[],
): RuleTable {
  const bits = masqueradeBits(input);
  const rules: Readonly<Record<FilterChain, readonly Rule[]>> = {
    "KUBE-FORWARD": [
      {
        comment: "kubernetes forwarding rules",
        matches: [{ kind: "mark", bits, not: false }],
        target: verdict("ACCEPT"),
      },
      {
        comment: "kubernetes forwarding conntrack rule",
        matches: [{ kind: "connection", states: "RELATED,ESTABLISHED" }],
        target: verdict("ACCEPT"),
      },
    ],
    "KUBE-NODE-PORT": [
      ask.always("KUBE-HEALTH-CHECK-NODE-PORT", "dst", verdict("ACCEPT")),
    ],
    "KUBE-PROXY-FIREWALL": ask.inChain("filter", "KUBE-PROXY-FIREWALL"),
    "KUBE-SOURCE-RANGES-FIREWALL": [
      ...ask.inChain("filter", "KUBE-SOURCE-RANGES-FIREWALL"),
      { comment: "", matches: [], target: verdict("DROP") },
    ],
    "KUBE-IPVS-FILTER": ipvsFilter(ask),
    "KUBE-IPVS-OUT-FILTER": barred.map(barredRule),
  };
  return { name: "filter", chains: chainsOf(FILTER_CHAINS, rules) };
}

/** Other ports of the host are not to be reached by a Service address. */
function ipvsFilter(ask: SetRules): Rule[] {
  const pass = verdict("RETURN");
  return [
    ask.plain("KUBE-LOAD-BALANCER", pass),
    ask.plain("KUBE-CLUSTER-IP", pass),
    ask.plain("KUBE-EXTERNAL-IP", pass),
    ask.plain("KUBE-EXTERNAL-IP-LOCAL", pass),
    ask.plain("KUBE-HEALTH-CHECK-NODE-PORT", pass, "dst"),
    {
      comment: "",
      matches: [
        { kind: "connection", states: "NEW" },
        ask.match("KUBE-IPVS-IPS", "dst"),
      ],
      target: { kind: "reject" },
    },
  ];
}

/** The node's own packets to a virtual server come from its address. */
function barredRule({ ip, port, protocol }: BarredAddress): Rule {
  return {
    comment: "",
    matches: [
      { kind: "source", cidr: ip, not: false },
      { kind: "ipvs", ip, protocol: protocol.toLowerCase(), port },
    ],
    target: verdict("DROP"),
  };
}

function chainsOf<Name extends string>(
  names: readonly Name[],
  rules: Readonly<Record<Name, readonly Rule[]>>,
): RuleChain[] {
  return names.map((name) => ({ name, rules: rules[name] }));
}

function withoutComment(rule: Rule): Rule {
  return { ...rule, comment: "" };
}

/** Unsigned, bit 31 included (fact 10.24). */
function masqueradeBits({ masqueradeBit }: ModeInput): number {
  return 2 ** masqueradeBit;
}

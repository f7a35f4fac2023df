/**
 * Rules of ipvs mode that ask a set: which set, where, and what for (facts
 * 10.44, 10.45). `rules.ts` puts them between the others. Pure.
 *
 * @module
 */
import type { ModeInput } from "../mode_input.ts";
import type { Rule, RuleMatch, RuleTarget, SetParts } from "./program.ts";
import { kernelSetName, type SetEntries, type SetName } from "./sets.ts";

export const NAT_CHAINS = [
  "KUBE-SERVICES",
  "KUBE-POSTROUTING",
  "KUBE-NODE-PORT",
  "KUBE-LOAD-BALANCER",
  "KUBE-MARK-MASQ",
] as const;

export const FILTER_CHAINS = [
  "KUBE-FORWARD",
  "KUBE-NODE-PORT",
  "KUBE-PROXY-FIREWALL",
  "KUBE-SOURCE-RANGES-FIREWALL",
  "KUBE-IPVS-FILTER",
  "KUBE-IPVS-OUT-FILTER",
] as const;

export type NatChain = typeof NAT_CHAINS[number];
export type FilterChain = typeof FILTER_CHAINS[number];

/** What rules on a set say it is for. */
const COMMENTS: Readonly<Partial<Record<SetName, string>>> = {
  "KUBE-LOOP-BACK":
    "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
  "KUBE-CLUSTER-IP":
    "Kubernetes service cluster ip + port for masquerade purpose",
  "KUBE-EXTERNAL-IP":
    "Kubernetes service external ip + port for masquerade and filter purpose",
  "KUBE-EXTERNAL-IP-LOCAL":
    "Kubernetes service external ip + port with externalTrafficPolicy=local",
  "KUBE-LOAD-BALANCER": "Kubernetes service lb portal",
  "KUBE-LOAD-BALANCER-LOCAL":
    "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
  "KUBE-LOAD-BALANCER-FW":
    "Kubernetes service load balancer ip + port for load balancer with sourceRange",
  "KUBE-LOAD-BALANCER-SOURCE-IP":
    "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
  "KUBE-LOAD-BALANCER-SOURCE-CIDR":
    "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
  "KUBE-NODE-PORT-TCP": "Kubernetes nodeport TCP port for masquerade purpose",
  "KUBE-NODE-PORT-LOCAL-TCP":
    "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
  "KUBE-NODE-PORT-UDP": "Kubernetes nodeport UDP port for masquerade purpose",
  "KUBE-NODE-PORT-LOCAL-UDP":
    "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
  "KUBE-NODE-PORT-SCTP-HASH":
    "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
  "KUBE-NODE-PORT-LOCAL-SCTP-HASH":
    "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
  "KUBE-HEALTH-CHECK-NODE-PORT": "Kubernetes health check node port",
};

interface SetRule {
  readonly set: SetName;
  readonly table: "nat" | "filter";
  readonly chain: NatChain | FilterChain;
  readonly parts: SetParts;
  readonly target: RuleTarget;
  readonly protocol?: "tcp" | "udp" | "sctp";
}

/**
 * Rules that are there while their set has entries. The set of a policy of Local
 * is asked before the one of all NodePorts, which would have it masqueraded.
 */
const SET_RULES: readonly SetRule[] = [
  {
    set: "KUBE-LOOP-BACK",
    table: "nat",
    chain: "KUBE-POSTROUTING",
    parts: "dst,dst,src",
    target: { kind: "masquerade" },
  },
  {
    set: "KUBE-LOAD-BALANCER",
    table: "nat",
    chain: "KUBE-SERVICES",
    parts: "dst,dst",
    target: toChain("KUBE-LOAD-BALANCER"),
  },
  {
    set: "KUBE-LOAD-BALANCER-LOCAL",
    table: "nat",
    chain: "KUBE-LOAD-BALANCER",
    parts: "dst,dst",
    target: verdict("RETURN"),
  },
  ...nodePortRules("tcp", "TCP", "dst"),
  ...nodePortRules("udp", "UDP", "dst"),
  ...nodePortRules("sctp", "SCTP-HASH", "dst,dst"),
  {
    set: "KUBE-LOAD-BALANCER-FW",
    table: "filter",
    chain: "KUBE-PROXY-FIREWALL",
    parts: "dst,dst",
    target: toChain("KUBE-SOURCE-RANGES-FIREWALL"),
  },
  ...([
    "KUBE-LOAD-BALANCER-SOURCE-CIDR",
    "KUBE-LOAD-BALANCER-SOURCE-IP",
  ] as const)
    .map((set): SetRule => ({
      set,
      table: "filter",
      chain: "KUBE-SOURCE-RANGES-FIREWALL",
      parts: "dst,dst,src",
      target: verdict("RETURN"),
    })),
];

function nodePortRules(
  protocol: "tcp" | "udp" | "sctp",
  suffix: "TCP" | "UDP" | "SCTP-HASH",
  parts: SetParts,
): SetRule[] {
  const rule = {
    table: "nat",
    chain: "KUBE-NODE-PORT",
    parts,
    protocol,
  } as const;
  return [
    {
      ...rule,
      set: `KUBE-NODE-PORT-LOCAL-${suffix}`,
      target: verdict("RETURN"),
    },
    {
      ...rule,
      set: `KUBE-NODE-PORT-${suffix}`,
      target: toChain("KUBE-MARK-MASQ"),
    },
  ];
}

/** Makes rules that ask sets. */
export class SetRules {
  readonly #family: ModeInput["family"];
  readonly #entries: SetEntries;

  constructor({ family }: ModeInput, entries: SetEntries) {
    this.#family = family;
    this.#entries = entries;
  }

  /** The rules of `SET_RULES` that belong to a chain. */
  inChain(table: "nat" | "filter", chain: string): Rule[] {
    return SET_RULES.filter((rule) =>
      rule.table === table && rule.chain === chain &&
      this.#entries.has(rule.set)
    ).map(({ set, parts, target, protocol }) => {
      const ofProtocol: RuleMatch[] = protocol === undefined
        ? []
        : [{ kind: "protocol", protocol }];
      const comment = COMMENTS[set] ?? "";
      const matches = [...ofProtocol, this.match(set, parts)];
      return { comment, matches, target };
    });
  }

  match(set: SetName, parts: SetParts): RuleMatch {
    return { kind: "set", set: kernelSetName(set, this.#family), parts };
  }

  /** Rules with the set's comment; none while the set is empty. */
  ifFilled(
    set: SetName,
    rules: readonly {
      readonly parts?: SetParts;
      readonly matches?: readonly RuleMatch[];
      readonly target: RuleTarget;
    }[],
  ): Rule[] {
    if (!this.#entries.has(set)) return [];
    return rules.map(({ parts = "dst,dst", matches = [], target }) => ({
      comment: COMMENTS[set] ?? "",
      matches: [this.match(set, parts), ...matches],
      target,
    }));
  }

  /** A rule with the set's comment, whether it has entries or not. */
  always(set: SetName, parts: SetParts, target: RuleTarget): Rule {
    return { ...this.plain(set, target, parts), comment: COMMENTS[set] ?? "" };
  }

  /** A rule without a comment, whether the set has entries or not. */
  plain(set: SetName, target: RuleTarget, parts: SetParts = "dst,dst"): Rule {
    return { comment: "", matches: [this.match(set, parts)], target };
  }
}

export function verdict(name: "ACCEPT" | "DROP" | "RETURN"): RuleTarget {
  return { kind: "verdict", name };
}

export function toChain(name: NatChain | FilterChain): RuleTarget {
  return { kind: "chain", name };
}

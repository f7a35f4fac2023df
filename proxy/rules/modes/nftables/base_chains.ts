/**
 * The chains of the nftables program that every cluster has: those that the
 * kernel sends packets to, and those that ask the maps (facts 5.55, 10.36,
 * 10.39). Pure.
 *
 * @module
 */
import type { ModeInput } from "../mode_input.ts";
import { bitOf, podMatch, setMark } from "./matches.ts";
import {
  CLUSTER_IPS,
  FIREWALL_IPS,
  HAIRPINS,
  NO_ENDPOINT_NODEPORTS,
  NO_ENDPOINT_SERVICES,
  NODEPORT_IPS,
  REJECT_CHAIN,
  SERVICE_IPS,
  SERVICE_NODEPORTS,
} from "./names.ts";
import type {
  NftChain,
  NftField,
  NftHook,
  NftMatch,
  NftRule,
  NftStatement,
} from "./program.ts";

/** What of the input the base depends on. */
export type BaseInput = Pick<
  ModeInput,
  | "family"
  | "nodePortIps"
  | "localDetector"
  | "masqueradeAll"
  | "masqueradeBit"
  | "serviceCidrs"
>;

/** All of them; the maps that they ask are the base's. */
export function baseChains(input: BaseInput): NftChain[] {
  return [...HOOKS.map(hookedChain), ...askingChains(input)];
}

/**
 * Base chain, where it hangs, and the chains it asks in turn (fact 10.36). What
 * filters asks about new connections only; NAT sees no others anyway.
 */
const HOOKS: readonly (readonly [string, NftHook, readonly string[]])[] = [
  // Before DNAT, while the destination is the load balancer's (fact 6.30).
  [
    "filter-prerouting-pre-dnat",
    { type: "filter", hook: "prerouting", priority: -110 },
    ["firewall-check"],
  ],
  [
    "filter-output-pre-dnat",
    { type: "filter", hook: "output", priority: -110 },
    ["firewall-check"],
  ],
  [
    "filter-input",
    { type: "filter", hook: "input", priority: 0 },
    ["nodeport-endpoints-check", "service-endpoints-check"],
  ],
  [
    "filter-forward",
    { type: "filter", hook: "forward", priority: 0 },
    ["service-endpoints-check", "cluster-ips-check"],
  ],
  [
    "filter-output",
    { type: "filter", hook: "output", priority: 0 },
    ["service-endpoints-check", "cluster-ips-check"],
  ],
  [
    "nat-prerouting",
    { type: "nat", hook: "prerouting", priority: -100 },
    ["services"],
  ],
  [
    "nat-output",
    { type: "nat", hook: "output", priority: -100 },
    ["services"],
  ],
  [
    "nat-postrouting",
    { type: "nat", hook: "postrouting", priority: 100 },
    ["masquerading"],
  ],
];

function hookedChain(
  [name, hook, asked]: typeof HOOKS[number],
): NftChain {
  const isNew: NftMatch = {
    kind: "match",
    fields: ["ct state"],
    of: { values: ["new"] },
  };
  const rules = asked.map((chain): NftRule => ({
    statements: [
      ...hook.type === "filter" ? [isNew] : [],
      { kind: "verdict", verdict: { verdict: "jump", chain } },
    ],
  }));
  return { name, hook, rules };
}

const ADDRESS: readonly NftField[] = ["daddr", "l4proto", "dport"];
const PORT: readonly NftField[] = ["l4proto", "dport"];

function askingChains(input: BaseInput): NftChain[] {
  const lookUp = (fields: readonly NftField[], map: string): NftStatement => ({
    kind: "look-up",
    fields,
    map,
  });
  const chain = (name: string, ...rules: NftRule[]): NftChain => ({
    name,
    rules,
  });
  return [
    chain("nodeport-endpoints-check", {
      statements: [
        // Of what comes to filter-input, everything is for this node.
        ...nodePortMatches(input).filter(({ fields }) =>
          fields[0] !== "daddr type"
        ),
        lookUp(PORT, NO_ENDPOINT_NODEPORTS),
      ],
    }),
    chain("service-endpoints-check", {
      statements: [lookUp(ADDRESS, NO_ENDPOINT_SERVICES)],
    }),
    chain("firewall-check", { statements: [lookUp(ADDRESS, FIREWALL_IPS)] }),
    chain(
      "services",
      ...clusterIpMasquerade(input),
      { statements: [lookUp(ADDRESS, SERVICE_IPS)] },
      {
        statements: [
          ...nodePortMatches(input),
          lookUp(PORT, SERVICE_NODEPORTS),
        ],
      },
    ),
    chain("masquerading", ...masqueradeRules(input)),
    chain("cluster-ips-check", ...clusterIpRules(input)),
    {
      name: REJECT_CHAIN,
      comment: "helper for @no-endpoint-services / @no-endpoint-nodeports",
      rules: [{
        statements: [{ kind: "verdict", verdict: { verdict: "reject" } }],
      }],
    },
  ];
}

/** Which packets may be for a NodePort: never loopback's (facts 6.12, 10.39c). */
function nodePortMatches({ family, nodePortIps }: BaseInput): NftMatch[] {
  if (nodePortIps !== "all") {
    return [{ kind: "match", fields: ["daddr"], of: { set: NODEPORT_IPS } }];
  }
  const loopback = family === "IPv4" ? "127.0.0.0/8" : "::1";
  return [
    { kind: "match", fields: ["daddr type"], of: { values: ["local"] } },
    {
      kind: "match",
      fields: ["daddr"],
      isNot: true,
      of: { values: [loopback] },
    },
  ];
}

/** Pods reach cluster IPs with their own address; others do not (fact 5.55). */
function clusterIpMasquerade(input: BaseInput): NftRule[] {
  const toClusterIp: NftMatch = {
    kind: "match",
    fields: ["daddr"],
    of: { set: CLUSTER_IPS },
  };
  const mark = setMark(input);
  if (input.masqueradeAll) {
    return [{
      statements: [toClusterIp, mark],
      comment: "masquerade all traffic to clusterIPs",
    }];
  }
  const fromPod = podMatch(input.localDetector);
  return fromPod === undefined ? [] : [{
    statements: [toClusterIp, { ...fromPod, isNot: true }, mark],
    comment: "masquerade clusterIP traffic from outside cluster",
  }];
}

/** By mark, or because an endpoint would see itself (fact 10.39b). */
function masqueradeRules({ masqueradeBit }: BaseInput): NftRule[] {
  const bits = bitOf(masqueradeBit);
  return [
    {
      statements: [
        {
          kind: "match",
          fields: ["mark"],
          mask: bits,
          isNot: true,
          of: { bits: 0 },
        },
        { kind: "set-mark", operation: "xor", bits },
        { kind: "masquerade" },
      ],
    },
    {
      statements: [
        { kind: "match", fields: ["ct status"], of: { values: ["dnat"] } },
        {
          kind: "match",
          fields: ["saddr", "daddr", "l4proto", "dport"],
          of: { set: HAIRPINS },
        },
        { kind: "masquerade" },
      ],
    },
  ];
}

/** Fact 10.39a: what the iptables mode does not do. */
function clusterIpRules({ serviceCidrs }: BaseInput): NftRule[] {
  const rules: NftRule[] = [{
    statements: [
      { kind: "match", fields: ["daddr"], of: { set: CLUSTER_IPS } },
      { kind: "verdict", verdict: { verdict: "reject" } },
    ],
    comment: "Reject traffic to invalid ports of ClusterIPs",
  }];
  if (serviceCidrs.length > 0) {
    rules.push({
      statements: [
        { kind: "match", fields: ["daddr"], of: { values: serviceCidrs } },
        { kind: "verdict", verdict: { verdict: "drop" } },
      ],
      comment: "Drop traffic to unallocated ClusterIPs",
    });
  }
  return rules;
}

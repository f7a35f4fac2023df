/**
 * What iptables mode has whatever the Services are: its chains in each table,
 * the rules that are always there, and the jumps from the kernel's chains
 * (facts 10.2–10.10, 10.24–10.27). Pure.
 *
 * @module
 */
import { singleAddressCidr } from "../../../ip.ts";
import type { ModeInput } from "../mode_input.ts";
import {
  KUBE_EXTERNAL_SERVICES,
  KUBE_FIREWALL,
  KUBE_FORWARD,
  KUBE_NODEPORTS,
  KUBE_POSTROUTING,
  KUBE_PROXY_FIREWALL,
  KUBE_SERVICES,
} from "./names.ts";
import {
  type BaseChain,
  type BaseRule,
  type IptablesRule,
  jump,
  type Match,
  rule,
} from "./program.ts";

type BaseInput = Pick<
  ModeInput,
  "family" | "masqueradeBit" | "localhostNodePorts" | "nodePortIps"
>;

const NEW: Match = { type: "connection-state", states: ["NEW"] };

function baseRule(
  chain: BaseChain,
  to: string,
  { comment, isNew = false }: { comment?: string; isNew?: boolean } = {},
): BaseRule {
  // Upstream has the condition before the comment here, and nowhere else.
  const matches: readonly Match[] = [
    ...(isNew ? [NEW] : []),
    ...(comment === undefined
      ? []
      : [{ type: "comment", text: comment } as const]),
  ];
  return { chain, matches, target: jump(to) };
}

const EXTERNAL = {
  comment: "kubernetes externally-visible service portals",
  isNew: true,
};
const PORTALS = { comment: "kubernetes service portals", isNew: true };
const FIREWALL = { comment: "kubernetes load balancer firewall", isNew: true };

/** As they stand: upstream puts each new one before those that are there. */
export const FILTER_JUMPS: readonly BaseRule[] = [
  baseRule("INPUT", KUBE_FIREWALL),
  baseRule("INPUT", KUBE_PROXY_FIREWALL, FIREWALL),
  baseRule("INPUT", KUBE_NODEPORTS, {
    comment: "kubernetes health check service ports",
  }),
  baseRule("INPUT", KUBE_EXTERNAL_SERVICES, EXTERNAL),
  baseRule("FORWARD", KUBE_PROXY_FIREWALL, FIREWALL),
  baseRule("FORWARD", KUBE_FORWARD, {
    comment: "kubernetes forwarding rules",
  }),
  baseRule("FORWARD", KUBE_SERVICES, PORTALS),
  baseRule("FORWARD", KUBE_EXTERNAL_SERVICES, EXTERNAL),
  baseRule("OUTPUT", KUBE_FIREWALL),
  baseRule("OUTPUT", KUBE_PROXY_FIREWALL, FIREWALL),
  baseRule("OUTPUT", KUBE_SERVICES, PORTALS),
];

export const NAT_JUMPS: readonly BaseRule[] = [
  baseRule("PREROUTING", KUBE_SERVICES, { comment: PORTALS.comment }),
  baseRule("OUTPUT", KUBE_SERVICES, { comment: PORTALS.comment }),
  baseRule("POSTROUTING", KUBE_POSTROUTING, {
    comment: "kubernetes postrouting rules",
  }),
];

/** The bit of the packet mark that asks for masquerading (fact 10.24). */
function masqueradeMark({ masqueradeBit }: BaseInput): number {
  return (1 << masqueradeBit) >>> 0;
}

/** What is in `KUBE-MARK-MASQ`. */
export function markMasqRules(input: BaseInput): IptablesRule[] {
  return [rule("", [], { type: "set-mark", mark: masqueradeMark(input) })];
}

/**
 * Masquerades what is marked, and takes the mark off first: a packet may come
 * by here again, as one of a tunnel.
 */
export function postroutingRules(input: BaseInput): IptablesRule[] {
  const mark = masqueradeMark(input);
  return [
    rule("", [{ type: "mark", mark, not: true }], { type: "return" }),
    rule("", [], { type: "flip-mark", mark }),
    rule("kubernetes service traffic requiring SNAT", [], {
      type: "masquerade",
    }),
  ];
}

/** Fact 10.25: an invalid packet would be forwarded without its NAT. */
export function forwardRules(
  input: BaseInput,
  { nfacct }: { nfacct: boolean },
): IptablesRule[] {
  const mark = masqueradeMark(input);
  return [
    rule("", [
      { type: "connection-state", states: ["INVALID"] },
      ...(nfacct
        ? [{ type: "count", counter: "ct_state_invalid_dropped_pkts" } as const]
        : []),
    ], { type: "drop" }),
    rule("kubernetes forwarding rules", [{ type: "mark", mark }], {
      type: "accept",
    }),
    rule("kubernetes forwarding conntrack rule", [
      { type: "connection-state", states: ["RELATED", "ESTABLISHED"] },
    ], { type: "accept" }),
  ];
}

/**
 * Fact 10.26. `route_localnet`, which NodePorts on 127.0.0.1 need, would let
 * neighbours reach whatever listens on loopback.
 */
export function firewallRules(
  { localhostNodePorts }: BaseInput,
): IptablesRule[] {
  if (!localhostNodePorts) return [];
  return [
    rule("block incoming localnet connections", [
      { type: "destination", cidr: "127.0.0.0/8" },
      { type: "source", cidr: "127.0.0.0/8", not: true },
      {
        type: "connection-state",
        states: ["RELATED", "ESTABLISHED", "DNAT"],
        not: true,
      },
    ], { type: "drop" }),
  ];
}

/** Facts 6.9, 6.11, 10.27: where NodePorts are served, as the last rules. */
export function nodePortRules(input: BaseInput): IptablesRule[] {
  const comment =
    "kubernetes service nodeports; NOTE: this must be the last rule in this chain";
  const to = jump(KUBE_NODEPORTS);
  if (input.nodePortIps !== "all") {
    return input.nodePortIps.map((ip) => {
      const cidr = singleAddressCidr(ip);
      return rule(comment, [{ type: "destination", cidr }], to);
    });
  }
  const loopback = input.family === "IPv6"
    ? "::1/128"
    : input.localhostNodePorts
    ? undefined
    : "127.0.0.0/8";
  return [
    rule(comment, [
      { type: "local-address", of: "destination" },
      ...(loopback === undefined
        ? []
        : [{ type: "destination", cidr: loopback, not: true } as const]),
    ], to),
  ];
}

/**
 * Explaining: what happens to one connection to a Service, in one mode or in
 * all, and what is wrong with it. In: the snapshot, and who connects to what.
 * Out: explanations, as data; `picture.ts` and `mermaid.ts` draw them. A mode is
 * explained by walking the very program that it would load, so that there is no
 * second description that could be wrong. Pure.
 *
 * @module
 */
import type { EndpointSlice } from "../../watch/types.ts";
import { cidrContains, formatHostPort, isLoopback } from "../ip.ts";
import {
  type KernelMode,
  type ModeFacts,
  type ModeInput,
  modeInput,
} from "../rules/modes/mode_input.ts";
import { compileIptables } from "../rules/modes/iptables/compile.ts";
import { compileIpvs } from "../rules/modes/ipvs/compile.ts";
import { compileNftables } from "../rules/modes/nftables/compile.ts";
import { nodeAddresses } from "../node_addresses.ts";
import type { AddressKind } from "../steering.ts";
import { iptablesMode } from "./iptables_walk.ts";
import { ipvsMode } from "./ipvs_walk.ts";
import { nftablesMode } from "./nftables_walk.ts";
import {
  type Branch,
  type Connection,
  type Origin,
  ORIGINS,
  type WalkedMachine,
} from "./packet.ts";
import { problemsOf } from "./problems.ts";
import { type Target, targetsOf } from "./target.ts";
import { traverse, type WalkedMode } from "./traverse.ts";
import { userspaceMode } from "./userspace_walk.ts";

/** In the order in which they are told. */
export const EXPLAINED_MODES = [
  "userspace",
  "iptables",
  "ipvs",
  "nftables",
] as const;

export type ExplainedMode = typeof EXPLAINED_MODES[number];

/** Everything that is known, and who asks. */
export interface Question extends Omit<ModeFacts, "mode"> {
  readonly slices: readonly EndpointSlice[];
  readonly target: string;
  /** A kind of client, or the address of one. */
  readonly from: string;
  readonly modes: readonly ExplainedMode[];
}

/** One connection in one mode. */
export interface Explanation {
  readonly mode: ExplainedMode;
  /** The ServicePort as people write it: `default/web:http`. */
  readonly servicePort: string;
  readonly kind: AddressKind;
  readonly connection: Connection;
  /** What keeps it from its endpoints, or surprises; the same in all modes. */
  readonly problems: readonly string[];
  /** Every way it may take; their probabilities add up to 1. */
  readonly branches: readonly Branch[];
}

/**
 * For each port that is meant, each mode that is asked for.
 *
 * @throws {TargetError} where nothing serves the target
 */
export function explain(question: Question): Explanation[] {
  const input = modeInput({ ...question, mode: "iptables" });
  const machine = machineOf(input);
  const targets = targetsOf(question.target, {
    state: question.state,
    family: question.family,
    nodeIp: machine.nodeIp,
    nodeIps: machine.addresses,
  });
  return targets.flatMap((target) => {
    const connection = connectionTo(target, { question, input, machine });
    const problems = problemsOf(target, { connection, objects: question });
    return question.modes.map((mode): Explanation => ({
      mode,
      servicePort: target.state.servicePort.text,
      kind: target.kind,
      connection,
      problems,
      branches: traverse(connection, modeOf(mode, { target, question })),
    }));
  });
}

function modeOf(
  mode: ExplainedMode,
  { target, question }: { target: Target; question: Question },
): WalkedMode {
  if (mode === "userspace") return ours(target, question);
  const input = modeInput({ ...question, mode: mode satisfies KernelMode });
  const machine = machineOf(input);
  switch (mode) {
    case "iptables":
      return iptablesMode(compileIptables(input, { nfacct: false }), machine);
    case "nftables":
      return nftablesMode(compileNftables(input), machine);
    case "ipvs": {
      const program = compileIpvs(input);
      const addresses = new Set([...machine.addresses, ...program.addresses]);
      return ipvsMode(program, { ...machine, addresses });
    }
  }
}

function ours({ state }: Target, question: Question): WalkedMode {
  const input = modeInput({ ...question, mode: "iptables" });
  const { settings, node } = question;
  const podCidrs = [...settings.clusterCidrs, ...node?.spec.podCIDRs ?? []];
  const machine = machineOf(input);
  const addresses = nodeAddresses({
    selection: settings.nodePorts ?? { cidrs: [], primary: false },
    clusterCidrs: podCidrs,
    bindAddress: settings.bindAddress,
    node,
    interfaceIps: [...machine.addresses],
  });
  return userspaceMode(state, {
    node: { addresses, clusterSources: podCidrs },
    machine,
  });
}

function machineOf({ node, family, localDetector }: ModeInput): WalkedMachine {
  const nodeIp = node.ip ?? node.interfaceIps.find((ip) => !isLoopback(ip)) ??
    (family === "IPv4" ? "192.0.2.1" : "2001:db8::1");
  const pod = localDetector.kind === "interface"
    ? localDetector.name
    : localDetector.kind === "interface-prefix"
    ? `${localDetector.prefix}0`
    : "cbr0";
  return {
    nodeIp,
    addresses: new Set([...node.interfaceIps, nodeIp]),
    interfaces: { pod, outside: "eth0" },
  };
}

/** Addresses for examples (RFC 5737, RFC 3849), where no better is known. */
const OUTSIDERS = { IPv4: "203.0.113.99", IPv6: "2001:db8::99" };
const PODS = { IPv4: "10.244.0.99", IPv6: "fd00:244::99" };

function connectionTo(
  { state, ip, port }: Target,
  { question, input, machine }: {
    question: Question;
    input: ModeInput;
    machine: WalkedMachine;
  },
): Connection {
  const { from } = question;
  const origin = isOrigin(from) ? from : originOf(from, { question, machine });
  const source = isOrigin(from)
    ? exampleSource(origin, { question, input, machine })
    : from;
  const { protocol } = state.servicePort;
  return { origin, protocol, source, destination: ip, port };
}

function isOrigin(text: string): text is Origin {
  return (ORIGINS as readonly string[]).includes(text);
}

/** Of this node's pods: by the Node's CIDRs, or because an endpoint is there. */
function originOf(
  ip: string,
  { question, machine }: { question: Question; machine: WalkedMachine },
): Origin {
  if (machine.addresses.has(ip) || isLoopback(ip)) return "node";
  const { state, node, settings } = question;
  const cidrs = node?.spec.podCIDRs ?? settings.clusterCidrs;
  const isEndpoint = [...state.values()].some(({ ports }) =>
    ports.some(({ endpoints }) =>
      endpoints.some((endpoint) => endpoint.ip === ip && endpoint.isLocal)
    )
  );
  return isEndpoint || cidrs.some((cidr) => cidrContains(cidr, ip))
    ? "pod"
    : "outside";
}

function exampleSource(
  origin: Origin,
  { question, input, machine }: {
    question: Question;
    input: ModeInput;
    machine: WalkedMachine;
  },
): string {
  if (origin === "node") return machine.nodeIp;
  const { family } = input;
  if (origin === "outside") return OUTSIDERS[family];
  const cidrs = [
    ...question.node?.spec.podCIDRs ?? [],
    ...question.settings.clusterCidrs,
  ];
  for (const cidr of cidrs) {
    const ip = exampleIn(cidr);
    if (ip !== undefined && cidr.includes(":") === ip.includes(":")) {
      if ((family === "IPv6") === ip.includes(":")) return ip;
    }
  }
  return PODS[family];
}

/** An address of a CIDR that looks like one: `10.244.1.99` of `10.244.1.0/24`. */
function exampleIn(cidr: string): string | undefined {
  const [base = ""] = cidr.split("/");
  const ip = base.includes(":")
    ? base.replace(/::?0?$/, "::99")
    : base.replace(/\d+$/, "99");
  return cidrContains(cidr, ip) ? ip : undefined;
}

/** `10.244.0.99 → 10.96.0.10:80/TCP`. */
export function connectionText(
  { source, destination, port, protocol }: Connection,
): string {
  return `${source} → ${formatHostPort(destination, port)}/${protocol}`;
}

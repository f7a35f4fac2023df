/**
 * iptables mode, compiled: one family of the snapshot becomes the program that
 * upstream's mode would load for it. The same input gives the same program, and
 * a change of one Service changes its own chains and its lines in the shared
 * ones. Pure.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import type { ServicePort } from "../../../service_port.ts";
import type { ModeInput, ModePort } from "../mode_input.ts";
import {
  FILTER_JUMPS,
  firewallRules,
  forwardRules,
  markMasqRules,
  NAT_JUMPS,
  nodePortRules,
  postroutingRules,
} from "./base_chains.ts";
import {
  KUBE_EXTERNAL_SERVICES,
  KUBE_FIREWALL,
  KUBE_FORWARD,
  KUBE_MARK_MASQ,
  KUBE_NODEPORTS,
  KUBE_POSTROUTING,
  KUBE_PROXY_CANARY,
  KUBE_PROXY_FIREWALL,
  KUBE_SERVICES,
} from "./names.ts";
import type { IptablesProgram, IptablesTable } from "./program.ts";
import {
  type ServiceContext,
  type ServiceRules,
  serviceRules,
} from "./service_rules.ts";

export interface CompileOptions {
  /** The kernel counts by nfacct, and upstream's counters are there. */
  readonly nfacct?: boolean;
  /** Of earlier compilations; without it nothing is remembered. */
  readonly memory?: CompileMemory;
}

/**
 * What was made of ServicePorts that are still the same objects, as those of
 * Services without a change are: a change costs the work of what changed.
 */
export class CompileMemory {
  #context: ServiceContext | undefined;
  #rules = new WeakMap<ServicePort, ServiceRules>();

  /** What else the rules follow from; another context forgets them all. */
  about(context: ServiceContext): void {
    if (isDeepStrictEqual(context, this.#context)) return;
    this.#context = context;
    this.#rules = new WeakMap();
  }

  rulesOf(port: ModePort): ServiceRules {
    if (this.#context === undefined) throw new TypeError("No context yet");
    const known = this.#rules.get(port.servicePort);
    if (known !== undefined) return known;
    const rules = serviceRules(port, this.#context);
    this.#rules.set(port.servicePort, rules);
    return rules;
  }
}

/** Upstream calls a cluster large with more endpoints than this (fact 10.31). */
const LARGE_CLUSTER_ENDPOINTS = 1000;

/**
 * @param options.memory of earlier compilations: what has not changed since is
 *   not compiled again
 */
export function compileIptables(
  input: ModeInput,
  { nfacct = false, memory = new CompileMemory() }: CompileOptions = {},
): IptablesProgram {
  const { ports, healthChecks: _, ...rest } = input;
  const isLargeCluster = isLarge(ports);
  memory.about({ input: rest, nfacct, isLargeCluster });
  const services = ports.map((port) => memory.rulesOf(port));
  const { family } = input;
  return {
    family,
    tables: [
      {
        name: "mangle",
        jumps: [],
        chains: [{ name: KUBE_PROXY_CANARY, rules: [] }],
      },
      filterTable(services, { input, nfacct }),
      natTable(services, input),
    ],
  };
}

/** Whether comments of endpoints are left out, to keep the program small. */
function isLarge(ports: readonly ModePort[]): boolean {
  const count = ports.reduce((sum, port) => sum + port.endpoints.length, 0);
  return count > LARGE_CLUSTER_ENDPOINTS;
}

function filterTable(
  services: readonly ServiceRules[],
  { input, nfacct }: { input: ModeInput; nfacct: boolean },
): IptablesTable {
  const all = <K extends keyof ServiceRules["filter"]>(kind: K) =>
    services.flatMap(({ filter }) => filter[kind]);
  return {
    name: "filter",
    jumps: FILTER_JUMPS,
    chains: [
      { name: KUBE_NODEPORTS, rules: all("nodePorts") },
      { name: KUBE_SERVICES, rules: all("services") },
      { name: KUBE_EXTERNAL_SERVICES, rules: all("externalServices") },
      { name: KUBE_FIREWALL, rules: firewallRules(input) },
      { name: KUBE_FORWARD, rules: forwardRules(input, { nfacct }) },
      { name: KUBE_PROXY_FIREWALL, rules: all("proxyFirewall") },
      { name: KUBE_PROXY_CANARY, rules: [] },
    ],
  };
}

function natTable(
  services: readonly ServiceRules[],
  input: ModeInput,
): IptablesTable {
  return {
    name: "nat",
    jumps: NAT_JUMPS,
    chains: [
      { name: KUBE_NODEPORTS, rules: services.flatMap((s) => s.nat.nodePorts) },
      {
        name: KUBE_SERVICES,
        rules: [
          ...services.flatMap(({ nat }) => nat.services),
          ...nodePortRules(input),
        ],
      },
      { name: KUBE_POSTROUTING, rules: postroutingRules(input) },
      { name: KUBE_MARK_MASQ, rules: markMasqRules(input) },
      { name: KUBE_PROXY_CANARY, rules: [] },
      ...services.flatMap(({ nat }) => nat.chains),
    ],
  };
}

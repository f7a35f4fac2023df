/**
 * Walks one packet through a ruleset and says where it ends: what the rules
 * mean, whatever they look like. Knows the matches and targets that our rules
 * use, and nothing else.
 *
 * @module
 */
import { cidrContains, singleAddressCidr } from "../../proxy/ip.ts";
import {
  type RuleLine,
  ruleParts,
  type Ruleset,
  type Table,
} from "../../proxy/rules/iptables_text.ts";

export interface Packet {
  readonly from: "pod" | "node" | "outside";
  readonly to: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP";
}

/** What the packet's machine is: its own addresses, those on `lo` too. */
export interface TracedMachine {
  readonly addresses: readonly string[];
  /** Where REDIRECT leads packets that come from elsewhere. */
  readonly primary: string;
}

/**
 * `local 169.254.107.1:20000`: a listener there gets it, or nobody.
 * `routed 10.96.0.10:80`: it leaves the machine. `dropped`.
 */
export type Verdict = `local ${string}` | `routed ${string}` | "dropped";

interface State {
  to: string;
  port: number;
  isNatted: boolean;
}

type Step = "next" | "dropped" | "done";

/** Where a packet ends. */
export function tracePacket(
  packet: Packet,
  ruleset: Ruleset,
  machine: TracedMachine,
): Verdict {
  const { from, protocol } = packet;
  const state: State = { to: packet.to, port: packet.port, isNatted: false };
  const chains = new Map<string, RuleLine[]>();
  for (const rule of ruleset.rules) {
    const { table, chain } = ruleParts(rule);
    const name = `${table} ${chain}`;
    chains.set(name, [...chains.get(name) ?? [], rule]);
  }
  const isLocal = () => machine.addresses.includes(state.to);

  const matches = (rest: readonly string[], device: string): boolean => {
    for (let at = 0; at < rest.length; at++) {
      const isNegated = rest[at] === "!";
      if (isNegated) at++;
      const option = rest[at] ?? "";
      let value = rest[++at] ?? "";
      // `-m conntrack ! --ctstate DNAT`
      let isTrue: boolean;
      switch (option) {
        case "-j":
          return true;
        case "-m":
        case "--comment":
          continue;
        case "-d":
          value = value.includes("/") ? value : singleAddressCidr(value);
          isTrue = cidrContains(value, state.to);
          break;
        case "-p":
          isTrue = value === protocol.toLowerCase();
          break;
        case "--dport":
          isTrue = Number(value) === state.port;
          break;
        case "-i":
          isTrue = value === device;
          break;
        case "--dst-type":
          isTrue = isLocal();
          break;
        case "--ctstate":
          isTrue = state.isNatted;
          break;
        default:
          throw new Error(`Not a traced match: ${rest.join(" ")}`);
      }
      if (isTrue === isNegated) return false;
    }
    throw new Error(`No target: ${rest.join(" ")}`);
  };

  const walk = (table: Table, chain: string, device: string): Step => {
    for (const rule of chains.get(`${table} ${chain}`) ?? []) {
      const { rest } = ruleParts(rule);
      if (!matches(rest, device)) continue;
      const at = rest.indexOf("-j");
      const [target = "", , where = ""] = rest.slice(at + 1);
      switch (target) {
        case "RETURN":
          return "next";
        case "ACCEPT":
          return "done";
        case "DROP":
          return "dropped";
        case "MARK":
          continue;
        case "DNAT":
          state.to = where.replace(/:\d+$/, "").replaceAll(/[[\]]/g, "");
          state.port = Number(/\d+$/.exec(where)?.[0]);
          state.isNatted = true;
          return "done";
        case "REDIRECT":
          state.to = from === "node" ? loopbackOf(state.to) : machine.primary;
          state.port = Number(where);
          state.isNatted = true;
          return "done";
      }
      const step = walk(table, target, device);
      if (step !== "next") return step;
    }
    return "next";
  };

  if (from === "node") {
    for (const table of ["raw", "mangle", "nat", "filter"] as const) {
      if (walk(table, "OUTPUT", "") === "dropped") return "dropped";
    }
  }
  const where = () =>
    `${state.to.includes(":") ? `[${state.to}]` : state.to}:${state.port}`;
  if (from === "node" && !isLocal()) return `routed ${where()}`;
  const device = from === "node" ? "lo" : "eth0";
  for (const table of ["raw", "mangle", "nat"] as const) {
    // What was rewritten on its way out is not rewritten again.
    if (table === "nat" && from === "node") continue;
    if (walk(table, "PREROUTING", device) === "dropped") return "dropped";
  }
  if (!isLocal()) return `routed ${where()}`;
  if (walk("filter", "INPUT", device) === "dropped") return "dropped";
  return `local ${where()}`;
}

function loopbackOf(ip: string): string {
  return ip.includes(":") ? "::1" : "127.0.0.1";
}

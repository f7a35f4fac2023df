/**
 * Walks a program of iptables mode with one packet in hand: rule by rule, as
 * the kernel does. In: the program that would be loaded. Out: what happens at a
 * hook. Pure.
 *
 * @module
 */
import {
  chainOf,
  type IptablesProgram,
  type IptablesRule,
  type Match,
  type TableName,
  type Target,
} from "../rules/modes/iptables/program.ts";
import { ruleArgs } from "../rules/modes/iptables/text.ts";
import {
  type ChainRules,
  type Effect,
  throughRules,
  throughTables,
} from "./chain_walk.ts";
import {
  type Hook,
  isIn,
  isLocalAddress,
  matchesInterface,
  type Packet,
  protocolWord,
  type WalkedMachine,
} from "./packet.ts";
import type { WalkedMode } from "./traverse.ts";

/** The kernel's tables at a hook, in its order; those that the mode writes to. */
const TABLES: Readonly<Record<Hook, readonly TableName[]>> = {
  prerouting: ["mangle", "nat"],
  input: ["mangle", "filter"],
  forward: ["mangle", "filter"],
  output: ["mangle", "nat", "filter"],
  postrouting: ["mangle", "nat"],
};

/** Iptables mode, as a packet meets it. */
export function iptablesMode(
  program: IptablesProgram,
  machine: WalkedMachine,
): WalkedMode {
  const mode: ChainRules<IptablesRule> = {
    rulesOf: (table, chain) =>
      chainOf(program, table as TableName, chain)?.rules,
    chanceOf: ({ matches }, packet) => {
      let chance = 1;
      for (const match of matches) {
        chance *= chanceOf(match, packet, machine);
        if (chance === 0) return 0;
      }
      return chance;
    },
    effectOf: ({ target }, packet) => effectOf(target, packet, machine),
    textOf: (rule) =>
      ruleArgs(rule, program.family)
        .filter((arg) => !arg.startsWith("-m comment")).join(" "),
    commentOf: ({ matches }) =>
      matches.find((match) => match.type === "comment")?.text ?? "",
  };
  return {
    machine,
    atHook: (hook, course) =>
      throughTables(course, TABLES[hook], (course, table) => {
        if (table === "nat" && course.packet.isConfirmed) {
          return [{ course, verdict: "continue" }];
        }
        const chain = hook.toUpperCase();
        const jumps = program.tables.find(({ name }) => name === table)?.jumps;
        const rules = jumps?.filter((jump) => jump.chain === chain) ?? [];
        return throughRules(course, rules, {
          place: { hook, table, chain },
          mode,
        });
      }),
  };
}

function effectOf(
  target: Target | undefined,
  packet: Packet,
  machine: WalkedMachine,
): Effect {
  switch (target?.type) {
    case undefined:
      return {};
    case "jump":
      return { jump: target.chain };
    case "accept":
    case "drop":
    case "reject":
    case "return":
      return { verdict: target.type };
    case "set-mark":
      return { changes: { mark: (packet.mark | target.mark) >>> 0 } };
    case "flip-mark":
      return { changes: { mark: (packet.mark ^ target.mark) >>> 0 } };
    // These two end the packet's way through the table.
    case "masquerade":
      return { changes: { source: machine.nodeIp }, verdict: "accept" };
    case "dnat": {
      const { ip, port } = target;
      const changes = { destination: ip, port, isTranslated: true };
      return { changes, verdict: "accept" };
    }
  }
}

function chanceOf(
  match: Match,
  packet: Packet,
  machine: WalkedMachine,
): number {
  if (match.type === "random") return match.probability;
  const isNot = "not" in match && match.not === true;
  return isMet(match, packet, machine) === isNot ? 0 : 1;
}

function isMet(
  match: Exclude<Match, { type: "random" }>,
  packet: Packet,
  machine: WalkedMachine,
): boolean {
  switch (match.type) {
    case "comment":
    case "count":
    case "remember":
      return true;
    case "protocol":
      return match.protocol === protocolWord(packet);
    case "source":
      return isIn(match.cidr, packet.source);
    case "destination":
      return isIn(match.cidr, packet.destination);
    case "destination-port":
      return match.port === packet.port;
    case "in-interface":
      return matchesInterface(match.name, packet);
    case "local-address":
      return isLocalAddress(
        match.of === "source" ? packet.source : packet.destination,
        machine,
      );
    case "mark":
      return (packet.mark & match.mark) >>> 0 === match.mark;
    case "connection-state":
      return match.states.some((state) =>
        state === "NEW" || (state === "DNAT" && packet.isTranslated)
      );
    case "recently-seen":
      // It is the first connection of this client.
      return false;
  }
}

/**
 * Walks a program of ipvs mode with one packet in hand: rules that ask sets,
 * and IPVS, which finds the endpoint between them. In: the program that would
 * be loaded. Out: what happens at a hook. Pure.
 *
 * @module
 */
import type {
  IpSet,
  IpvsProgram,
  Rule,
  RuleMatch,
  RuleTarget,
  SetParts,
  VirtualServer,
} from "../rules/modes/ipvs/program.ts";
import {
  realServerLine,
  ruleText,
  virtualServerLine,
} from "../rules/modes/ipvs/text.ts";
import {
  type ChainRules,
  type Effect,
  throughRules,
  throughTables,
} from "./chain_walk.ts";
import { type Course, type Left, take } from "./course.ts";
import {
  destinationText,
  type Hook,
  isIn,
  isLocalAddress,
  matchesInterface,
  type Packet,
  protocolWord,
  type WalkedMachine,
} from "./packet.ts";
import type { WalkedMode } from "./traverse.ts";

/**
 * What the kernel asks at a hook, in its order. IPVS is asked about packets for
 * the machine after the filter; about the machine's own right after nat.
 */
const TABLES: Readonly<Record<Hook, readonly string[]>> = {
  prerouting: ["nat"],
  input: ["filter", "ipvs"],
  forward: ["filter"],
  output: ["nat", "ipvs", "filter"],
  postrouting: ["nat"],
};

/** Ipvs mode, as a packet meets it. */
export function ipvsMode(
  program: IpvsProgram,
  machine: WalkedMachine,
): WalkedMode {
  const sets = new Map(program.sets.map((set) => [set.name, asked(set)]));
  const mode: ChainRules<Rule> = {
    rulesOf: (table, chain) =>
      program.tables.find(({ name }) => name === table)?.chains
        .find(({ name }) => name === chain)?.rules,
    chanceOf: ({ matches }, packet) =>
      matches.every((match) => isMet(match, packet, { machine, sets })) ? 1 : 0,
    effectOf: ({ target }, packet) => effectOf(target, packet, machine),
    textOf: (rule) => ruleText({ ...rule, comment: "" }),
    commentOf: ({ comment }) => comment,
  };
  return {
    machine,
    atHook: (hook, course) =>
      throughTables(course, TABLES[hook], (course, table) => {
        if (table === "ipvs") return throughIpvs(course, { hook, program });
        if (table === "nat" && course.packet.isConfirmed) {
          return [{ course, verdict: "continue" }];
        }
        const chain = hook.toUpperCase();
        const jumps = program.jumps.filter((jump) =>
          jump.table === table && jump.chain === chain
        ).map(({ rule }) => rule);
        return throughRules(course, jumps, {
          place: { hook, table, chain },
          mode,
        });
      }),
  };
}

/** The scheduler's choice. `rr` takes its turn, which is no chance. */
function throughIpvs(
  course: Course,
  { hook, program }: { hook: Hook; program: IpvsProgram },
): Left[] {
  const { packet } = course;
  const server = program.virtualServers.find((each) =>
    each.ip === packet.destination && each.port === packet.port &&
    each.protocol === packet.protocol
  );
  if (server === undefined) return [{ course, verdict: "continue" }];
  const place = {
    hook,
    table: "ipvs",
    chain: destinationText(packet),
    comment: server.service,
  };
  const usable = server.realServers.filter(({ weight }) => weight > 0);
  if (usable.length === 0) {
    const after = take(course, { ...place, rule: virtualServerLine(server) });
    return [{ course: after, verdict: "reject" }];
  }
  return usable.map((real) => ({
    course: take(course, {
      ...place,
      rule: realServerLine(server, real),
      comment: howChosen(server),
      probability: 1 / usable.length,
      changes: {
        destination: real.ip,
        port: real.port,
        isTranslated: true,
      },
    }),
    verdict: "continue",
  }));
}

function howChosen(
  { service, scheduler, persistentSeconds }: VirtualServer,
): string {
  const stays = persistentSeconds > 0
    ? `, and a client stays for ${persistentSeconds} s`
    : "";
  return `${service}, chosen by ${scheduler}${stays}`;
}

function effectOf(
  target: RuleTarget,
  packet: Packet,
  machine: WalkedMachine,
): Effect {
  switch (target.kind) {
    case "verdict":
      switch (target.name) {
        case "ACCEPT":
          return { verdict: "accept" };
        case "DROP":
          return { verdict: "drop" };
        case "RETURN":
          return { verdict: "return" };
      }
      break;
    case "reject":
      return { verdict: "reject" };
    case "chain":
      return { jump: target.name };
    case "mark": {
      const mark = target.how === "or"
        ? packet.mark | target.bits
        : packet.mark ^ target.bits;
      return { changes: { mark: mark >>> 0 } };
    }
    case "masquerade":
      return { changes: { source: machine.nodeIp }, verdict: "accept" };
  }
}

/** A set as rules ask it. */
interface AskedSet {
  readonly type: IpSet["type"];
  readonly entries: ReadonlySet<string>;
}

function asked({ type, entries }: IpSet): AskedSet {
  return { type, entries: new Set(entries) };
}

function isMet(
  match: RuleMatch,
  packet: Packet,
  { machine, sets }: {
    machine: WalkedMachine;
    sets: ReadonlyMap<string, AskedSet>;
  },
): boolean {
  switch (match.kind) {
    case "set": {
      const set = sets.get(match.set);
      return set !== undefined && isInSet(set, match.parts, packet);
    }
    case "protocol":
      return match.protocol === protocolWord(packet);
    case "source":
      return isIn(match.cidr, packet.source) !== match.not;
    case "interface":
      return matchesInterface(match.name, packet) !== match.not;
    case "mark":
      return ((packet.mark & match.bits) !== 0) !== match.not;
    case "local": {
      const ip = match.side === "src" ? packet.source : packet.destination;
      return isLocalAddress(ip, machine) !== match.not;
    }
    case "connection":
      // It is the first packet.
      return match.states.split(",").includes("NEW");
    case "not bridged":
      // Pods are behind a bridge on most nodes.
      return packet.origin !== "pod";
    case "ipvs":
      return packet.dialled === `${match.ip} ${match.port}` &&
        match.protocol === protocolWord(packet) && packet.isTranslated;
  }
}

function isInSet(
  { type, entries }: AskedSet,
  parts: SetParts,
  packet: Packet,
): boolean {
  const { source, destination, port } = packet;
  if (type === "bitmap:port") return entries.has(String(port));
  if (type === "hash:ip") return entries.has(destination);
  const first = parts === "src,dst" ? source : destination;
  const entry = `${first},${protocolWord(packet)}:${port}`;
  switch (type) {
    case "hash:ip,port":
      return entries.has(entry);
    case "hash:ip,port,ip":
      return entries.has(`${entry},${source}`);
    case "hash:ip,port,net":
      return [...entries].some((each) =>
        each.startsWith(`${entry},`) &&
        isIn(each.slice(entry.length + 1), source)
      );
  }
}

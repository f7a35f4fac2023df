/**
 * Walks a table of nftables mode with one packet in hand: rule by rule, maps
 * and sets looked up as the kernel does. In: the table that would be loaded.
 * Out: what happens at a hook. Pure.
 *
 * @module
 */
import type {
  NftChain,
  NftElement,
  NftField,
  NftMatch,
  NftRule,
  NftStatement,
  NftTable,
  NftVerdict,
} from "../rules/modes/nftables/program.ts";
import { elementText, ruleText } from "../rules/modes/nftables/text.ts";
import { throughTables } from "./chain_walk.ts";
import { type Course, type Left, take } from "./course.ts";
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

/** `return`: out of this chain, and a `goto` there is nobody to come back to. */
interface LeftRule {
  readonly course: Course;
  readonly verdict: Left["verdict"] | "return";
}

/** Nftables mode, as a packet meets it. */
export function nftablesMode(
  table: NftTable,
  machine: WalkedMachine,
): WalkedMode {
  const chains = new Map(table.chains.map((chain) => [chain.name, chain]));
  const maps = new Map(table.maps.map((map) => [map.name, indexed(map)]));
  const sets = new Map(table.sets.map((set) => [set.name, indexed(set)]));
  const tableName = `${table.family} ${table.name}`;

  return {
    machine,
    atHook: (hook, course) =>
      throughTables(
        course,
        baseChains(table, hook),
        (course, chain) =>
          chain.hook?.type === "nat" && course.packet.isConfirmed
            ? [{ course, verdict: "continue" }]
            : inChain(course, chain, hook),
      ),
  };

  function inChain(start: Course, chain: NftChain, hook: Hook): Left[] {
    const done: LeftRule[] = [];
    let here = [start];
    for (const rule of chain.rules) {
      here = here.flatMap((course) => {
        const after = byRule(course, rule, { chain, hook });
        done.push(...after.filter(({ verdict }) => verdict !== "continue"));
        return after.filter(({ verdict }) => verdict === "continue")
          .map((each) => each.course);
      });
    }
    return [
      ...done.map(({ course, verdict }): Left => ({
        course,
        verdict: verdict === "return" ? "continue" : verdict,
      })),
      ...here.map((course) => ({ course, verdict: "continue" as const })),
    ];
  }

  /** Statement by statement; a match that fails leaves the course as it was. */
  function byRule(
    course: Course,
    rule: NftRule,
    place: { chain: NftChain; hook: Hook },
  ): LeftRule[] {
    const changes: Partial<Packet>[] = [];
    for (const statement of rule.statements) {
      const packet = Object.assign({}, course.packet, ...changes) as Packet;
      switch (statement.kind) {
        case "match":
          if (!isMet(statement, packet)) {
            return [{ course, verdict: "continue" }];
          }
          break;
        case "set-mark":
          changes.push({ mark: newMark(statement, packet) });
          break;
        case "remember-source":
          break;
        default: {
          const ways = waysOf(statement, packet);
          if (ways.length === 0) return [{ course, verdict: "continue" }];
          return ways.flatMap(({ said, verdict, ...way }) => {
            const after = take(course, {
              ...stepOf(rule, place, said),
              probability: 1 / ways.length,
              changes: Object.assign({}, ...changes, way.changes),
            });
            return follow(after, verdict, place.hook);
          });
        }
      }
    }
    const after = take(course, {
      ...stepOf(rule, place),
      changes: Object.assign({}, ...changes),
    });
    return [{ course: after, verdict: "continue" }];
  }

  function stepOf(
    rule: NftRule,
    { chain, hook }: { chain: NftChain; hook: Hook },
    said?: string,
  ) {
    const { statements, comment } = rule;
    return {
      hook,
      table: tableName,
      chain: chain.name,
      rule: ruleText({ statements }, table.family),
      comment: said ?? comment ?? "",
    };
  }

  function follow(
    course: Course,
    verdict: NftVerdict | "done",
    hook: Hook,
  ): LeftRule[] {
    // A translation is the last word of the nat chains of its hook.
    if (verdict === "done") return [{ course, verdict: "accept" }];
    if (!("chain" in verdict)) return [{ course, verdict: verdict.verdict }];
    const chain = chains.get(verdict.chain);
    const left: readonly LeftRule[] = chain === undefined
      ? [{ course, verdict: "continue" }]
      : inChain(course, chain, hook);
    return verdict.verdict === "jump" ? [...left] : left.map((each) => ({
      ...each,
      verdict: each.verdict === "continue" ? "return" : each.verdict,
    }));
  }

  /** What a statement that decides may do, each as likely as the others. */
  function waysOf(
    statement: Exclude<
      NftStatement,
      { kind: "match" | "set-mark" | "remember-source" }
    >,
    packet: Packet,
  ): Way[] {
    switch (statement.kind) {
      case "look-up": {
        const { fields, map } = statement;
        const element = maps.get(map)?.get(keyOf(fields, packet));
        return element?.verdict === undefined ? [] : [{
          verdict: element.verdict,
          said: `element ${elementText(element)}`,
        }];
      }
      case "choose":
        return statement.verdicts.map((verdict) => ({ verdict }));
      case "dnat":
        return statement.to.map((to) => translated(to));
      case "dnat-to":
        return [translated(statement.to)];
      case "masquerade":
        return [{ verdict: "done", changes: { source: machine.nodeIp } }];
      case "verdict":
        return [{ verdict: statement.verdict }];
    }
  }

  function isMet(match: NftMatch, packet: Packet): boolean {
    return isOneOf(match, packet) !== (match.isNot ?? false);
  }

  function isOneOf({ fields, mask, of }: NftMatch, packet: Packet): boolean {
    if ("set" in of) {
      return sets.get(of.set)?.has(keyOf(fields, packet)) ?? false;
    }
    if ("bits" in of) {
      const bits = mask === undefined ? packet.mark : packet.mark & mask;
      return bits >>> 0 === of.bits;
    }
    const [field] = fields;
    return field !== undefined &&
      of.values.some((value) => holds(field, value, packet));
  }

  function holds(field: NftField, value: string, packet: Packet): boolean {
    switch (field) {
      case "saddr":
        return isIn(value, packet.source);
      case "daddr":
        return isIn(value, packet.destination);
      case "saddr type":
        return isLocalAddress(packet.source, machine);
      case "daddr type":
        return isLocalAddress(packet.destination, machine);
      case "iifname":
        return matchesInterface(value, packet);
      case "ct state":
        return value === "new";
      case "ct status":
        return value === "dnat" && packet.isTranslated;
      case "l4proto":
      case "dport":
      case "mark":
        return keyOf([field], packet) === value;
    }
  }
}

interface Way {
  readonly verdict: NftVerdict | "done";
  readonly changes?: Partial<Packet>;
  /** What was found. */
  readonly said?: string;
}

function translated({ ip, port }: { ip: string; port: number }): Way {
  return {
    verdict: "done",
    changes: { destination: ip, port, isTranslated: true },
  };
}

function newMark(
  { operation, bits }: Extract<NftStatement, { kind: "set-mark" }>,
  { mark }: Packet,
): number {
  return (operation === "or" ? mark | bits : mark ^ bits) >>> 0;
}

/** The base chains of a hook, in the order in which the kernel asks them. */
function baseChains(table: NftTable, hook: Hook): NftChain[] {
  return table.chains.filter((chain) => chain.hook?.hook === hook)
    .sort((a, b) => (a.hook?.priority ?? 0) - (b.hook?.priority ?? 0));
}

function indexed(
  { elements }: { elements: readonly NftElement[] },
): Map<string, NftElement> {
  return new Map(elements.map((each) => [each.key.join(" . "), each]));
}

function keyOf(fields: readonly NftField[], packet: Packet): string {
  return fields.map((field) => {
    switch (field) {
      case "saddr":
        return packet.source;
      case "daddr":
        return packet.destination;
      case "l4proto":
        return protocolWord(packet);
      case "dport":
        return String(packet.port);
      case "mark":
        return String(packet.mark);
      default:
        return "";
    }
  }).join(" . ");
}

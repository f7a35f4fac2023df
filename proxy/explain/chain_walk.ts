/**
 * Walks chains of rules as iptables has them: from the top, until a rule says
 * what becomes of the packet; a jump comes back when its chain has nothing to
 * say. What a rule asks and does, the mode tells (`ChainRules`). Pure.
 *
 * @module
 */
import { type Course, type Left, passBy, take } from "./course.ts";
import type { Hook, Packet } from "./packet.ts";

export interface Place {
  readonly hook: Hook;
  readonly table: string;
  readonly chain: string;
}

/** What a rule does with a packet that it holds for. */
export interface Effect {
  readonly changes?: Partial<Packet>;
  /** `return`: out of this chain, to the one that jumped here. */
  readonly verdict?: Left["verdict"] | "return";
  /** Instead of a verdict: to the chain of this name. */
  readonly jump?: string;
}

export interface ChainRules<Rule> {
  /** Undefined: there is no such chain, and a jump there comes back at once. */
  rulesOf(table: string, chain: string): readonly Rule[] | undefined;
  /** How likely it holds: 0, 1, or something between where chance decides. */
  chanceOf(rule: Rule, packet: Packet): number;
  effectOf(rule: Rule, packet: Packet): Effect;
  /** As its tool writes it, without its comment. */
  textOf(rule: Rule): string;
  commentOf(rule: Rule): string;
}

interface LeftRule {
  readonly course: Course;
  readonly verdict: Left["verdict"] | "return";
}

/** Every way through a list of rules. */
export function throughRules<Rule>(
  start: Course,
  rules: readonly Rule[],
  { place, mode }: { place: Place; mode: ChainRules<Rule> },
): Left[] {
  const done: LeftRule[] = [];
  let here = [start];
  for (const rule of rules) {
    here = here.flatMap((course) => {
      const chance = mode.chanceOf(rule, course.packet);
      if (chance === 0) return [course];
      const after = apply(rule, course, { place, mode, chance });
      done.push(...after.filter(({ verdict }) => verdict !== "continue"));
      const stay = after.filter(({ verdict }) => verdict === "continue")
        .map((each) => each.course);
      return chance === 1 ? stay : [...stay, passBy(course, 1 - chance)];
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

function apply<Rule>(
  rule: Rule,
  course: Course,
  { place, mode, chance }: {
    place: Place;
    mode: ChainRules<Rule>;
    chance: number;
  },
): LeftRule[] {
  const { changes, verdict = "continue", jump } = mode.effectOf(
    rule,
    course.packet,
  );
  const after = take(course, {
    ...place,
    rule: mode.textOf(rule),
    comment: mode.commentOf(rule),
    probability: chance,
    ...(changes === undefined ? {} : { changes }),
  });
  if (jump === undefined) return [{ course: after, verdict }];
  const rules = mode.rulesOf(place.table, jump) ?? [];
  return throughRules(after, rules, { place: { ...place, chain: jump }, mode });
}

/** Every course through what a hook asks, one after the other. */
export function throughTables<Table>(
  start: Course,
  tables: readonly Table[],
  ask: (course: Course, table: Table) => readonly Left[],
): Left[] {
  let left: Left[] = [{ course: start, verdict: "continue" }];
  for (const table of tables) {
    left = left.flatMap((each) =>
      each.verdict === "drop" || each.verdict === "reject"
        ? [each]
        : ask(each.course, table)
    );
  }
  return left;
}

/**
 * The rules of ipvs mode in what `iptables-save` printed: whether they are
 * there, which jumps are missing, which chains are ours. Pure.
 *
 * @module
 */
import {
  type RuleLine,
  ruleParts,
  type Ruleset,
  ruleTarget,
  type Table,
} from "../../iptables_text.ts";
import type { IpvsProgram, TableRule } from "./program.ts";
import { FILTER_CHAINS, NAT_CHAINS } from "./set_rules.ts";

const CHAINS: Readonly<Partial<Record<Table, readonly string[]>>> = {
  nat: NAT_CHAINS,
  filter: FILTER_CHAINS,
};

/** Whether a chain is one of ipvs mode. */
export function isOwnChain(table: Table, chain: string): boolean {
  return CHAINS[table]?.includes(chain) ?? false;
}

/** Rules in the kernel's own chains that are not there. */
export function missingJumps(
  { rules }: Ruleset,
  jumps: readonly TableRule[],
): TableRule[] {
  const there = new Set(rules.map(jumpKey));
  return jumps.filter(({ table, chain, rule }) => {
    const name = rule.target.kind === "chain" ? rule.target.name : "";
    return !there.has(`${table} ${chain} ${name}`);
  });
}

function jumpKey(line: RuleLine): string {
  const { table, chain } = ruleParts(line);
  return `${table} ${chain} ${ruleTarget(line)}`;
}

/**
 * Whether each chain has as many rules as it should, and is led to. Versions of
 * iptables differ in their words for a rule, so those are not compared.
 */
export function areRulesThere(
  loaded: Ruleset,
  { tables, jumps }: IpvsProgram,
): boolean {
  const counts = new Map<string, number>();
  for (const line of loaded.rules) {
    const { table, chain } = ruleParts(line);
    const key = `${table} ${chain}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return missingJumps(loaded, jumps).length === 0 &&
    tables.every(({ name, chains }) =>
      chains.every((chain) =>
        loaded.chains.has(`${name} ${chain.name}`) &&
        (counts.get(`${name} ${chain.name}`) ?? 0) === chain.rules.length
      )
    );
}

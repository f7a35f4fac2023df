/**
 * A program, or the part of it that changed, as one restore on top of what the
 * kernel has: chains of our own are declared, which empties them, and written;
 * chains of what is gone are emptied and deleted in the same transaction (fact
 * 10.30); nothing else is touched. Pure.
 *
 * @module
 */
import type { IpFamily } from "../../../ip.ts";
import { KUBE_FIREWALL } from "./names.ts";
import type {
  BaseRule,
  IptablesChain,
  IptablesProgram,
  IptablesRule,
  TableName,
} from "./program.ts";
import { declaration, ruleText } from "./text.ts";

/** What a restore is to do. */
export interface RestoreParts {
  /** Keys of Services whose chains are written; `all`: of every Service. */
  readonly services: "all" | ReadonlySet<string>;
  /** Chains of the nat table that nobody has any more. */
  readonly stale: Iterable<string>;
  /** Of each table, the jumps that the kernel does not have. */
  readonly missingJumps: Readonly<Partial<Record<TableName, BaseRule[]>>>;
  /** `KUBE-FIREWALL` is there, and perhaps has a rule of the kubelet's. */
  readonly hasFirewall: boolean;
  /** Without a full restore they are there. */
  readonly isFull: boolean;
}

export interface RestoreText {
  readonly text: string;
  /** How many rules of each table are in it. */
  readonly written: Readonly<Record<string, number>>;
}

/** Input of `iptables-restore --noflush`, for one family. */
export function restoreText(
  program: IptablesProgram,
  parts: RestoreParts,
): RestoreText {
  const written: Record<string, number> = {};
  const lines: string[] = [];
  for (const table of program.tables) {
    // What never changes is written once.
    if (table.name === "mangle" && !parts.isFull) continue;
    const chains = table.chains.filter((chain) => isWritten(chain, parts));
    const stale = table.name === "nat" ? [...parts.stale] : [];
    const jumps = parts.missingJumps[table.name] ?? [];
    const rules = chains.flatMap(({ name, rules, service }) =>
      rules.map((rule) =>
        service === undefined
          ? sharedText(name, rule, program.family)
          : ruleText(name, rule, program.family)
      )
    );
    // In mangle there is nothing but the canary.
    if (table.name !== "mangle") written[table.name] = rules.length;
    lines.push(
      `*${table.name}`,
      ...[...chains.map(({ name }) => name), ...stale].map(declaration),
      ...insertions(jumps, program.family),
      ...rules,
      ...stale.map((name) => `-X ${name}`),
      "COMMIT",
    );
  }
  return { text: `${lines.join("\n")}\n`, written };
}

/** Of rules in shared chains: every write has all of them (fact 10.32). */
const SHARED_TEXTS = new WeakMap<IptablesRule, string>();

/** A rule is in one chain of one family, so that its text is always the same. */
function sharedText(
  chain: string,
  rule: IptablesRule,
  family: IpFamily,
): string {
  const known = SHARED_TEXTS.get(rule);
  if (known !== undefined) return known;
  const text = ruleText(chain, rule, family);
  SHARED_TEXTS.set(rule, text);
  return text;
}

/** Upstream puts its jumps before whatever is there (fact 10.10). */
function insertions(jumps: readonly BaseRule[], family: IpFamily): string[] {
  return jumps.toReversed().map((jump) =>
    ruleText(jump.chain, jump, family).replace(/^-A (\S+)/, "-I $1 1")
  );
}

function isWritten(
  { name, rules, service }: IptablesChain,
  { services, hasFirewall }: RestoreParts,
): boolean {
  if (service !== undefined) return services === "all" || services.has(service);
  // To declare it would take the kubelet's rule out of it.
  return name !== KUBE_FIREWALL || rules.length > 0 || !hasFirewall;
}

/** How many rules the program has, by table, without jumps. */
export function ruleCounts(
  { tables }: IptablesProgram,
): Readonly<Record<string, number>> {
  return Object.fromEntries(
    tables.filter(({ name }) => name !== "mangle").map(({ name, chains }) => [
      name,
      chains.reduce((sum, { rules }) => sum + rules.length, 0),
    ]),
  );
}

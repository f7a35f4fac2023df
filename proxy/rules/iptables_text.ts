/**
 * The language of `iptables-save` and `iptables-restore`: text becomes rules in
 * one normal spelling, and a change becomes text. Pure; knows no chain of ours.
 *
 * @module
 */

export type Table = "raw" | "mangle" | "filter" | "nat";

/**
 * A rule in its normal spelling, after the name of its table:
 * `nat -A OUTPUT -p tcp -j KUBE-PORTALS-HOST`. Equal rules are equal strings.
 */
export type RuleLine = `${Table} -A ${string}`;

/** A chain, after the name of its table: `nat OUTPUT`. */
export type ChainName = `${Table} ${string}`;

export interface Ruleset {
  readonly chains: ReadonlySet<ChainName>;
  /** In order; two equal rules are two. */
  readonly rules: readonly RuleLine[];
}

/** A change of any number of tables. */
export interface Transaction {
  readonly newChains?: readonly ChainName[];
  readonly remove?: readonly RuleLine[];
  /** Put before all other rules of their chains. */
  readonly insert?: readonly RuleLine[];
  readonly append?: readonly RuleLine[];
  /** Emptied and removed. */
  readonly oldChains?: readonly ChainName[];
}

/** The words of a line, without the quotes that may be around them. */
export function words(line: string): string[] {
  const found = line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g);
  return [...found].map(([, quoted, plain]) =>
    plain ?? (quoted ?? "").replaceAll(/\\(.)/g, "$1")
  );
}

/** A line of these words, with quotes only where they are needed. */
export function lineOf(parts: readonly string[]): string {
  return parts.map((part) =>
    /^[\w./:[\]!,-]+$/.test(part)
      ? part
      : `"${part.replaceAll(/(["\\])/g, "\\$1")}"`
  ).join(" ");
}

/** The table, the chain and the other words of a rule. */
export function ruleParts(
  line: RuleLine,
): { table: Table; chain: string; rest: string[] } {
  const [table, , chain = "", ...rest] = words(line);
  return { table: table as Table, chain, rest };
}

/** Where a rule sends packets (`-j`, `-g`); empty: nowhere. */
export function ruleTarget(line: RuleLine): string {
  const parts = words(line);
  const at = parts.findIndex((part, index) =>
    (part === "-j" || part === "-g") && parts[index - 1] !== "--comment"
  );
  return at === -1 ? "" : parts[at + 1] ?? "";
}

/** What `iptables-save` printed. Lines that it does not print are ignored. */
export function parseSave(text: string): Ruleset {
  const chains = new Set<ChainName>();
  const rules: RuleLine[] = [];
  let table = "" as Table;
  for (const line of text.split("\n")) {
    if (line.startsWith("*")) table = line.slice(1).trim() as Table;
    else if (line.startsWith(":")) {
      chains.add(`${table} ${line.slice(1).split(" ", 1)[0]}`);
    } else {
      // With -c, counters come first.
      const rule = line.replace(/^\[\d+:\d+\] /, "");
      if (!rule.startsWith("-A ")) continue;
      rules.push(`${table} ${lineOf(words(rule))}` as RuleLine);
    }
  }
  return { chains, rules };
}

/**
 * The order of tables in a transaction, each of which the kernel takes as a
 * whole: what closes a way comes before what opens one.
 */
const TABLES: readonly Table[] = ["raw", "mangle", "filter", "nat"];

/**
 * A transaction as `iptables-restore --noflush` reads it; empty if it changes
 * nothing. Every rule in `remove` has to be there.
 */
export function renderTransaction(transaction: Transaction): string {
  const {
    newChains = [],
    remove = [],
    insert = [],
    append = [],
    oldChains = [],
  } = transaction;
  const removing = oldChains.length > 0;
  const lines = new Map<Table, string[]>();
  const write = (
    items: readonly (ChainName | RuleLine)[],
    spell: (item: string) => string,
  ) => {
    for (const item of items) {
      const space = item.indexOf(" ");
      const table = item.slice(0, space) as Table;
      let list = lines.get(table);
      if (list === undefined) lines.set(table, list = [`*${table}`]);
      list.push(spell(item.slice(space + 1)));
    }
  };
  // A line for a chain that exists would empty it: only new ones have one.
  write(newChains, (chain) => `:${chain} - [0:0]`);
  write(remove, (rule) => rule.replace(/^-A/, "-D"));
  write(insert, (rule) => rule.replace(/^-A (\S+)/, "-I $1 1"));
  write(append, (rule) => rule);
  // Chains may refer to each other: all are emptied before one is removed.
  write(oldChains, (chain) => `-F ${chain}`);
  write(oldChains, (chain) => `-X ${chain}`);
  const tables = TABLES.filter((table) => lines.has(table));
  return (removing ? tables.reverse() : tables)
    .map((table) => [...lines.get(table) ?? [], "COMMIT", ""].join("\n"))
    .join("");
}

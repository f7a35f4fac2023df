/**
 * What `iptables-save` printed, and what goes into `iptables-restore`, as
 * something that can be compared: our chains and every rule, by table, without
 * counters.
 *
 * @module
 */

/** Table → chain → its rules in order; base chains only where they have some. */
export type IptablesListing = Readonly<
  Record<string, Readonly<Record<string, readonly string[]>>>
>;

export function iptablesListing(text: string): IptablesListing {
  const tables: Record<string, Record<string, string[]>> = {};
  let table: Record<string, string[]> = {};
  for (const line of text.split("\n")) {
    if (line.startsWith("*")) {
      table = tables[line.slice(1)] ??= {};
      continue;
    }
    const declared = /^:(KUBE-\S+) /.exec(line)?.[1];
    if (declared !== undefined) table[declared] ??= [];
    const [, chain, rest = ""] =
      /^(?:\[\d+:\d+\] )?-A (\S+) ?(.*)$/.exec(line) ??
        [];
    if (chain !== undefined) (table[chain] ??= []).push(rest);
  }
  return tables;
}

/** The same, without the order of rules: for what has none. */
export function sortedListing(listing: IptablesListing): IptablesListing {
  return Object.fromEntries(
    Object.entries(listing).map(([table, chains]) => [
      table,
      Object.fromEntries(
        Object.entries(chains).map(([chain, rules]) => [
          chain,
          // In chains of Services the order decides, and upstream has ours.
          /^KUBE-(SVC|SVL|EXT|FW|SEP|FORWARD|POSTROUTING)/.test(chain)
            ? rules
            : [...rules].sort(),
        ]),
      ),
    ]),
  );
}

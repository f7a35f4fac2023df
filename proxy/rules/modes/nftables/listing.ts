/**
 * What is in a table that somebody loaded earlier, read from what `nft -t list`
 * prints: names, and how many rules; how nft spells the rest differs between its
 * versions. Pure.
 *
 * @module
 */

export interface ExistingTable {
  readonly sets: ReadonlySet<string>;
  readonly maps: ReadonlySet<string>;
  /** Name → how many rules it has, if they were listed. */
  readonly chains: ReadonlyMap<string, number>;
  /** Of these, those that the kernel sends packets to. */
  readonly baseChains: ReadonlySet<string>;
}

export const NO_TABLE: ExistingTable = {
  sets: new Set(),
  maps: new Set(),
  chains: new Map(),
  baseChains: new Set(),
};

/**
 * One table of a listing; empty if there is none.
 *
 * @param spec `ip kube-proxy`
 */
export function parseExisting(text: string, spec: string): ExistingTable {
  const sets = new Set<string>();
  const maps = new Set<string>();
  const chains = new Map<string, number>();
  const baseChains = new Set<string>();
  let isOurs = false;
  let chain: string | undefined;
  for (const line of text.split("\n")) {
    if (line.startsWith("table ")) isOurs = line === `table ${spec} {`;
    if (!isOurs) continue;
    const block = /^\t(set|map|chain) (\S+) \{/.exec(line);
    if (block !== null) {
      const [, kind, name = ""] = block;
      chain = kind === "chain" ? name : undefined;
      if (kind === "set") sets.add(name);
      else if (kind === "map") maps.add(name);
      else chains.set(name, 0);
    } else if (line === "\t}") chain = undefined;
    else if (chain !== undefined) {
      if (line.startsWith("\t\ttype ")) baseChains.add(chain);
      else if (line.startsWith("\t\t") && !line.startsWith("\t\tcomment ")) {
        chains.set(chain, (chains.get(chain) ?? 0) + 1);
      }
    }
  }
  return { sets, maps, chains, baseChains };
}

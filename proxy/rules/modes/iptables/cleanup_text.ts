/**
 * What takes an iptables program away again: from what is loaded to one restore
 * that removes the jumps, then the chains. Whatever somebody else's rules still
 * lead to stays, and so does what the kubelet shares. Pure.
 *
 * @module
 */
import {
  type ChainName,
  lineOf,
  type RuleLine,
  ruleParts,
  type Ruleset,
  ruleTarget,
  type Table,
} from "../../iptables_text.ts";
import {
  isServiceChain,
  KUBE_EXTERNAL_SERVICES,
  KUBE_FIREWALL,
  KUBE_FORWARD,
  KUBE_MARK_MASQ,
  KUBE_NODEPORTS,
  KUBE_POSTROUTING,
  KUBE_PROXY_CANARY,
  KUBE_PROXY_FIREWALL,
  KUBE_SERVICES,
} from "./names.ts";

const SHARED: ReadonlySet<string> = new Set([
  KUBE_SERVICES,
  KUBE_EXTERNAL_SERVICES,
  KUBE_NODEPORTS,
  KUBE_POSTROUTING,
  KUBE_MARK_MASQ,
  KUBE_FORWARD,
  KUBE_PROXY_FIREWALL,
  KUBE_PROXY_CANARY,
]);

/** The chains by which a kubelet says that it is there (KEP-3178). */
const KUBELET_CHAINS = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

const TABLES: readonly Table[] = ["mangle", "filter", "nat"];

/** Input for `iptables-restore --noflush`; empty where nothing is there. */
export function cleanupText(loaded: Ruleset): string {
  const hasKubelet = [...loaded.chains].some((name) =>
    KUBELET_CHAINS.includes(name.split(" ")[1] ?? "")
  );
  return removalText(
    loaded,
    (_table, chain) =>
      SHARED.has(chain) || isServiceChain(chain) ||
      (chain === KUBE_FIREWALL && !hasKubelet),
  );
}

/** Whether a chain belongs to what is to be removed. */
export type IsOurs = (table: Table, chain: string) => boolean;

/**
 * The restore that removes chains and what leads to them from the kernel's own;
 * empty where there are none.
 */
export function removalText(loaded: Ruleset, isOurs: IsOurs): string {
  return TABLES.map((table) => tableText(loaded, table, isOurs)).join("");
}

function tableText(loaded: Ruleset, table: Table, isOurs: IsOurs): string {
  const chains = chainsOf(loaded.chains, table)
    .filter((chain) => isOurs(table, chain));
  if (chains.length === 0) return "";
  const ours = new Set(chains);
  const removed: string[] = [];
  const kept = new Set<string>();
  for (const line of loaded.rules) {
    if (!line.startsWith(`${table} `)) continue;
    const { chain } = ruleParts(line);
    const target = ruleTarget(line);
    if (ours.has(chain) || !ours.has(target)) continue;
    // A jump from a base chain is ours; a rule of somebody's chain is not.
    if (isBaseChain(chain)) removed.push(deletion(line));
    else kept.add(target);
  }
  return [
    `*${table}`,
    ...removed,
    ...chains.filter((name) => !kept.has(name)).map((name) => `-F ${name}`),
    ...chains.filter((name) => !kept.has(name)).map((name) => `-X ${name}`),
    "COMMIT",
    "",
  ].join("\n");
}

/** Names in one table. */
export function chainsOf(
  chains: ReadonlySet<ChainName>,
  table: Table,
): string[] {
  return [...chains].filter((name) => name.startsWith(`${table} `))
    .map((name) => name.slice(table.length + 1));
}

function deletion(line: RuleLine): string {
  const { chain, rest } = ruleParts(line);
  return `-D ${chain} ${lineOf(rest)}`;
}

function isBaseChain(chain: string): boolean {
  return /^(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)$/.test(chain);
}

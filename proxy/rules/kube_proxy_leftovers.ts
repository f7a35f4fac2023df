/**
 * What kube-proxy left on this machine, or is keeping there: its rules would
 * win over ours, and lead clients to endpoints of yesterday. It is named, with
 * what to do about it, and not touched. `leftoversIn` is pure; `readLeftovers`
 * asks the programs.
 *
 * @module
 */
import { CommandError, type CommandRunner } from "./command.ts";
import { parseSave } from "./iptables_text.ts";
import { parseTables } from "./nft_text.ts";

/** What programs print; empty where there is no such program. */
export interface MachineDump {
  /** Of `iptables-save`, `ip6tables-save` and their kinds. */
  readonly iptables: readonly string[];
  /** `nft list tables`. */
  readonly nftTables: string;
  /** `ip -j link show`. */
  readonly links: string;
}

/** Of one of kube-proxy's modes. */
export interface Leftover {
  readonly mode: "iptables" | "ipvs" | "nftables";
  /** What it is, as the rest of a sentence. */
  readonly what: string;
}

/** What to do, whatever it is. */
export const LEFTOVERS_ADVICE =
  'stop kube-proxy, if it runs, and remove its rules: "kube-proxy --cleanup"';

/**
 * One for each mode.
 *
 * kubelet has chains of its own (`KUBE-KUBELET-CANARY`, `KUBE-FIREWALL`), and
 * the first kube-proxy had those that are ours now: neither counts.
 */
export function leftoversIn(dump: MachineDump): Leftover[] {
  const leftovers: Leftover[] = [];
  const ips = new Set(dump.iptables.flatMap(serviceIps));
  if (ips.size > 0) {
    leftovers.push({
      mode: "iptables",
      what: `rules for ${ips.size} Service addresses in chains KUBE-SERVICES`,
    });
  }
  if (hasLink(dump.links, "kube-ipvs0")) {
    leftovers.push({
      mode: "ipvs",
      what: "the device kube-ipvs0, which has the addresses of Services",
    });
  }
  const tables = [...parseTables(dump.nftTables)]
    .filter((spec) => spec === "ip kube-proxy" || spec === "ip6 kube-proxy");
  if (tables.length > 0) {
    const names = tables.map((spec) => `"${spec}"`).join(" and ");
    leftovers.push({
      mode: "nftables",
      what: `the ${tables.length > 1 ? "tables" : "table"} ${names}`,
    });
  }
  return leftovers;
}

/** The addresses that chains KUBE-SERVICES lead to endpoints, or reject. */
function serviceIps(text: string): string[] {
  // A node may have 100,000 rules: most machines have none of these.
  if (!text.includes("-A KUBE-SERVICES -d ")) return [];
  return parseSave(text).rules.flatMap((rule) =>
    /^\w+ -A KUBE-SERVICES -d (\S+)/.exec(rule)?.[1] ?? []
  );
}

function hasLink(json: string, name: string): boolean {
  try {
    const links: unknown = JSON.parse(json);
    return Array.isArray(links) &&
      links.some((link: { ifname?: unknown } | null) => link?.ifname === name);
  } catch {
    // Not there, or not iproute2's.
    return false;
  }
}

/** Everything `leftoversIn` wants to know. What cannot be read is not there. */
export async function readLeftovers(
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<Leftover[]> {
  const read = async (...[program, ...args]: [string, ...string[]]) => {
    try {
      return await runner.run([program, ...args], { signal });
    } catch (error) {
      if (error instanceof CommandError) return "";
      throw error;
    }
  };
  const kinds = ["iptables-nft", "iptables-legacy"];
  const [nft = "", legacy = ""] = [
    await read(`${kinds[0]}-save`),
    await read(`${kinds[1]}-save`),
  ];
  // One that has no kind in its name is asked where there is no other.
  const plain = nft + legacy === "" ? await read("iptables-save") : "";
  return leftoversIn({
    iptables: [
      nft,
      legacy,
      plain,
      await read("ip6tables-nft-save"),
      await read("ip6tables-legacy-save"),
    ],
    nftTables: await read("nft", "list", "tables"),
    links: await read("ip", "-j", "link", "show"),
  });
}

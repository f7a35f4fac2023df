/**
 * What `nft` prints, read: JSON elements of our maps become redirections, and
 * the text of a table, which has no elements then, one that can be compared.
 * Pure.
 *
 * How nft spells rules differs between its versions, so they are not understood
 * here: a table is as we want it if it prints like one that the same nft has
 * just loaded for us.
 *
 * @module
 */
import { canonicalIp } from "../ip.ts";
import {
  CLUSTER_IPS,
  NFT_TABLE,
  NODE_PORTS,
  PROXY_PORTS,
  SERVICE_IPS,
} from "./nft_rules.ts";
import { type Redirection, redirectionKey } from "./redirection.ts";

/** A table of ours, as it is in the kernel. */
export interface NftTable {
  /** Everything but the elements. Equal texts are equal tables. */
  readonly frame: string;
  /** By `redirectionKey`. */
  readonly redirections: ReadonlyMap<string, Redirection>;
  /** Of the set of proxy ports: `tcp . 20001`. */
  readonly proxyPorts: ReadonlySet<string>;
  /** Of the set of cluster IPs. */
  readonly clusterIps: ReadonlySet<string>;
  /**
   * There are elements that no redirection is written as: the table is to be
   * made anew.
   */
  readonly hasStrangers: boolean;
}

/** The tables in `nft list tables`: `ip kube-portal`. */
export function parseTables(text: string): Set<string> {
  const found = text.matchAll(/^table (\S+ \S+)$/gm);
  return new Set([...found].map(([, spec = ""]) => spec));
}

/**
 * The text of `nft -t list table` in a form that can be compared: under the
 * name that the real one has, and awake. Elements are cut out, since versions
 * differ in what `-t` leaves out.
 */
export function frameOf(
  text: string,
  { table, isAsleep = false }: { table: string; isAsleep?: boolean },
): string {
  const lines = text.replaceAll(/^\s*elements = \{[^}]*\}\n/gm, "")
    .split("\n").map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("# "));
  const [first = "", ...rest] = lines;
  const name = first.replace(` ${table} {`, ` ${NFT_TABLE} {`);
  return [name, ...isAsleep ? rest.filter(isNotSleep) : rest].join("\n");
}

function isNotSleep(line: string): boolean {
  return line !== "flags dormant";
}

/** The maps and sets of ours that a table with this text has. */
export function ownSetsIn(frame: string): { kind: string; name: string }[] {
  const found = frame.matchAll(/^(map|set) (\S+) \{$/gm);
  return [...found].map(([, kind = "", name = ""]) => ({ kind, name }))
    .filter(({ name }) => OWN_SETS.includes(name));
}

const OWN_SETS: readonly string[] = [
  SERVICE_IPS,
  NODE_PORTS,
  PROXY_PORTS,
  CLUSTER_IPS,
];

/**
 * A table from its text and `nft -j list map …` of each of its maps and sets.
 *
 * @throws {SyntaxError} if that is no JSON
 */
export function parseTable(
  frame: string,
  sets: readonly { readonly name: string; readonly json: string }[],
): NftTable {
  const redirections = new Map<string, Redirection>();
  const proxyPorts = new Set<string>();
  const clusterIps = new Set<string>();
  let hasStrangers = false;
  for (const { name, json } of sets) {
    for (const element of elementsIn(json)) {
      if (name === PROXY_PORTS) {
        const port = parsePort(element);
        if (port === undefined) hasStrangers = true;
        else proxyPorts.add(port);
        continue;
      }
      if (name === CLUSTER_IPS) {
        const ip = canonicalIp(String(unwrap(element).val));
        if (ip === undefined) hasStrangers = true;
        else clusterIps.add(ip);
        continue;
      }
      const isNodePort = name === NODE_PORTS;
      const redirection = parseElement(element, { isNodePort });
      const key = redirection && redirectionKey(redirection);
      if (key === undefined || redirections.has(key)) hasStrangers = true;
      // The same address in both maps: the kernel asks the first one first.
      else redirections.set(key, redirection as Redirection);
    }
  }
  return { frame, redirections, proxyPorts, clusterIps, hasStrangers };
}

type Item = Readonly<Record<string, unknown>>;

function elementsIn(json: string): unknown[] {
  const { nftables } = JSON.parse(json) as { nftables?: unknown };
  if (!Array.isArray(nftables)) {
    throw new SyntaxError('Cannot read elements: no "nftables" in them');
  }
  return (nftables as { map?: Item; set?: Item }[]).flatMap(({ map, set }) =>
    asArray((map ?? set)?.elem)
  );
}

/** `[key, value]`, where the key may have a comment around it. */
function parseElement(
  element: unknown,
  { isNodePort }: { isNodePort: boolean },
): Redirection | undefined {
  const [left, right] = asArray(element);
  const { val, comment } = unwrap(left);
  const [address, proto, dport] = asArray((val as Item | undefined)?.concat);
  const ip = canonicalIp(String(address));
  const protocol = PROTOCOLS[String(proto)];
  const [port, proxyPort] = [Number(dport), Number(right)];
  if (ip === undefined || protocol === undefined) return undefined;
  if (!isPort(port) || !isPort(proxyPort)) return undefined;
  const name = typeof comment === "string" ? comment : "";
  return { ip, port, protocol, isNodePort, name, proxyPort };
}

function parsePort(element: unknown): string | undefined {
  const { val } = unwrap(element);
  const [proto, port] = asArray((val as Item | undefined)?.concat);
  const protocol = PROTOCOLS[String(proto)];
  if (protocol === undefined || !isPort(Number(port))) return undefined;
  return `${protocol.toLowerCase()} . ${port}`;
}

function unwrap(element: unknown): { val?: unknown; comment?: unknown } {
  const { elem } = (element ?? {}) as { elem?: Item };
  return elem ?? { val: element };
}

/** By number too: a machine need not have /etc/protocols. */
const PROTOCOLS: Readonly<Record<string, "TCP" | "UDP">> = {
  tcp: "TCP",
  6: "TCP",
  udp: "UDP",
  17: "UDP",
};

function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port <= 65_535;
}

function asArray(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

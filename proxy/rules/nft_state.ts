/**
 * What is in our nftables table, as far as we know, and which commands make a
 * change of it: elements of maps where the table is as we would make it, the
 * whole table anew where somebody changed it. Pure.
 *
 * @module
 */
import type { NftTable } from "./nft_text.ts";
import {
  CLUSTER_IPS,
  elementKey,
  elementText,
  frameLines,
  hasProxyPorts,
  isInClusterIps,
  mapOf,
  NFT_TABLE,
  type NftForm,
  PROXY_PORTS,
  proxyPortText,
  tableSpec,
} from "./nft_rules.ts";
import { type Redirection, redirectionKey } from "./redirection.ts";
import type { RulesChange } from "./rules_writer.ts";

/** A command of a transaction. */
export interface NftLine {
  readonly text: string;
  /** The `redirectionKey` that it is about. */
  readonly key?: string;
}

/** One table, before and after each transaction. */
export class NftState {
  readonly form: NftForm;
  /** How such a table prints, without its elements. */
  readonly #frame: string;
  readonly #installed = new Map<string, Redirection>();
  /** Proxy port → how many redirections lead there. */
  readonly #proxyPorts = new Map<string, number>();
  /** Cluster IP → how many redirections it has. */
  readonly #clusterIps = new Map<string, number>();
  #table: "missing" | "right" | "wrong" = "missing";

  constructor(form: NftForm, frame: string) {
    this.form = form;
    this.#frame = frame;
  }

  /** By `redirectionKey`. */
  get installed(): ReadonlyMap<string, Redirection> {
    return this.#installed;
  }

  /** Takes what was read; `undefined`: there is no table. */
  take(table: NftTable | undefined): void {
    this.#installed.clear();
    this.#proxyPorts.clear();
    this.#clusterIps.clear();
    this.#table = "missing";
    if (table === undefined) return;
    for (const [key, each] of table.redirections) {
      const isClusterIp = table.clusterIps.has(each.ip);
      const { closedPort } = this.form;
      this.#add(
        key,
        closedPort === undefined ? each : { ...each, isClusterIp },
      );
    }
    const isRight = table.frame === this.#frame && !table.hasStrangers &&
      table.proxyPorts.symmetricDifference(this.#proxyPorts).size === 0 &&
      table.clusterIps.symmetricDifference(this.#clusterIps).size === 0;
    this.#table = isRight ? "right" : "wrong";
  }

  /** The commands for a change, to be run as one transaction; none, if it is none. */
  plan({ add, remove }: RulesChange): NftLine[] {
    if (this.#table !== "right") return this.#tableAnew({ add, remove });
    const added = new Map(add.map((each) => [redirectionKey(each), each]));
    const removed = new Map<string, Redirection>();
    const keys = new Set([...remove.map(redirectionKey), ...added.keys()]);
    for (const key of keys) {
      const installed = this.#installed.get(key);
      if (installed === undefined) continue;
      const next = added.get(key);
      if (next !== undefined && isSameElement(installed, next)) {
        added.delete(key);
      } else removed.set(key, installed);
    }
    const spec = tableSpec(this.form.family);
    const next = [...added.values()];
    return [
      ...[...removed].map(([key, each]) => ({
        text: `delete element ${spec} ${mapOf(each)} { ${elementKey(each)} }`,
        key,
      })),
      ...this.#unusedPorts([...removed.values()], next),
      ...this.#unusedIps([...removed.values()], next),
      ...elementLines(this.form, next),
    ];
  }

  /** Packets see the old table, or the new one. */
  #tableAnew({ add, remove }: RulesChange): NftLine[] {
    const all = new Map(this.#installed);
    for (const each of remove) all.delete(redirectionKey(each));
    for (const each of add) all.set(redirectionKey(each), each);
    if (all.size === 0 && this.#table === "missing") return [];
    const removal = tableRemoval(this.form, NFT_TABLE).map((text) => ({
      text,
    }));
    return all.size === 0 ? removal : [
      ...removal,
      ...frameLines(this.form).map((text) => ({ text })),
      ...elementLines(this.form, [...all.values()]),
    ];
  }

  /** Ports that nothing leads to once this has happened. */
  #unusedPorts(
    removed: readonly Redirection[],
    added: readonly Redirection[],
  ): NftLine[] {
    if (!hasProxyPorts(this.form)) return [];
    const left = new Map<string, number>();
    const count = (each: Redirection, by: 1 | -1) => {
      const port = proxyPortText(each);
      left.set(port, (left.get(port) ?? this.#proxyPorts.get(port) ?? 0) + by);
    };
    for (const each of removed) count(each, -1);
    for (const each of added) count(each, 1);
    const spec = tableSpec(this.form.family);
    return [...left].filter(([, count]) => count === 0).map(([port]) => ({
      text: `delete element ${spec} ${PROXY_PORTS} { ${port} }`,
    }));
  }

  /** Cluster IPs that have no redirection once this has happened. */
  #unusedIps(
    removed: readonly Redirection[],
    added: readonly Redirection[],
  ): NftLine[] {
    const left = new Map<string, number>();
    const count = (each: Redirection, by: 1 | -1) => {
      if (!isInClusterIps(this.form, each)) return;
      const { ip } = each;
      left.set(ip, (left.get(ip) ?? this.#clusterIps.get(ip) ?? 0) + by);
    };
    for (const each of removed) count(each, -1);
    for (const each of added) count(each, 1);
    const spec = tableSpec(this.form.family);
    return [...left].filter(([, count]) => count === 0).map(([ip]) => ({
      text: `delete element ${spec} ${CLUSTER_IPS} { ${ip} }`,
    }));
  }

  /** The kernel has taken a change, without what it refused. */
  note(
    { add, remove }: RulesChange,
    refused: ReadonlyMap<string, unknown>,
  ): void {
    for (const each of remove) this.#remove(redirectionKey(each));
    for (const each of add) this.#add(redirectionKey(each), each);
    for (const key of refused.keys()) this.#remove(key);
    if (this.#table === "right") return;
    this.#table = this.#installed.size > 0 ? "right" : "missing";
  }

  #add(key: string, redirection: Redirection): void {
    this.#remove(key);
    this.#installed.set(key, redirection);
    this.#count(redirection, 1);
  }

  #remove(key: string): void {
    const redirection = this.#installed.get(key);
    if (redirection === undefined) return;
    this.#installed.delete(key);
    this.#count(redirection, -1);
  }

  #count(redirection: Redirection, by: 1 | -1): void {
    if (hasProxyPorts(this.form)) {
      addTo(this.#proxyPorts, { key: proxyPortText(redirection), by });
    }
    if (isInClusterIps(this.form, redirection)) {
      addTo(this.#clusterIps, { key: redirection.ip, by });
    }
  }
}

function addTo(
  counts: Map<string, number>,
  { key, by }: { key: string; by: 1 | -1 },
): void {
  const count = (counts.get(key) ?? 0) + by;
  if (count === 0) counts.delete(key);
  else counts.set(key, count);
}

/** Removes a table, whether it is there or not: adding one that is changes nothing. */
export function tableRemoval(
  { family }: Pick<NftForm, "family">,
  table: string,
): string[] {
  const spec = tableSpec(family, table);
  return [`add table ${spec}`, `delete table ${spec}`];
}

/** Ports are closed before packets are led to them. */
export function elementLines(
  form: NftForm,
  redirections: readonly Redirection[],
  table = NFT_TABLE,
): NftLine[] {
  const spec = tableSpec(form.family, table);
  const ports = hasProxyPorts(form) ? redirections.map(proxyPortText) : [];
  const ips = new Set(
    redirections.filter((each) => isInClusterIps(form, each))
      .map(({ ip }) => ip),
  );
  return [
    ...[...new Set(ports)].map((port) => ({
      text: `add element ${spec} ${PROXY_PORTS} { ${port} }`,
    })),
    ...[...ips].map((ip) => ({
      text: `add element ${spec} ${CLUSTER_IPS} { ${ip} }`,
    })),
    ...redirections.map((each) => ({
      text: `add element ${spec} ${mapOf(each)} { ${elementText(each)} }`,
      key: redirectionKey(each),
    })),
  ];
}

function isSameElement(a: Redirection, b: Redirection): boolean {
  return mapOf(a) === mapOf(b) && elementText(a) === elementText(b) &&
    Boolean(a.isClusterIp) === Boolean(b.isClusterIp);
}

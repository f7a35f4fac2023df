/**
 * What the fields of a configuration mean here: which cannot mean anything in
 * the mode that runs, and which of those that do can change while it runs. Paths
 * in, paths out. Pure.
 *
 * @module
 */
import { FIELDS, type KubeProxyConfiguration } from "./configuration.ts";
import { type Field, isField, isZero, type Section } from "./fields.ts";

/**
 * Fields, and sections, that are accepted and do nothing: they are about
 * kernel rules, conntrack, Windows, protobuf and Go's profiler. With
 * `detectLocal`: a socket does not tell which interface a client came from.
 */
const WITHOUT_MEANING: readonly string[] = [
  "featureGates",
  "clientConnection.acceptContentTypes",
  "clientConnection.contentType",
  "clientConnection.qps",
  "clientConnection.burst",
  "logging.flushFrequency",
  "logging.vmodule",
  "logging.options",
  "enableProfiling",
  "showHiddenMetricsForVersion",
  "iptables.masqueradeBit",
  "iptables.masqueradeAll",
  "ipvs",
  "nftables",
  "winkernel",
  "detectLocal",
  "oomScoreAdj",
  "conntrack",
  "configSyncPeriod",
  "windowsRunAsService",
];

/** What does mean something, in modes of the kernel. */
const MEANT_BY_MODE: Readonly<Record<string, readonly string[]>> = {
  iptables: [
    "iptables.masqueradeBit",
    "iptables.masqueradeAll",
    "iptables.minSyncPeriod",
    "detectLocal",
  ],
  ipvs: [
    "iptables.masqueradeBit",
    "iptables.masqueradeAll",
    "ipvs",
    "detectLocal",
  ],
  nftables: ["nftables", "detectLocal"],
};

/**
 * Fields that are applied while the proxy runs: they change who may come in, or
 * what is logged, and end no connection by themselves. The others are about
 * what is opened once at the start.
 */
const APPLIED_LIVE: readonly string[] = [
  "logging.format",
  "logging.verbosity",
  "nodePortAddresses",
  "clusterCIDR",
  "detectLocalMode",
  "iptables.localhostNodePorts",
];

/** Whether a field, by its path, is accepted and does nothing in a mode. */
export function isWithoutMeaning(path: string, mode: string): boolean {
  const covers = (each: string) => path === each || path.startsWith(`${each}.`);
  return WITHOUT_MEANING.some(covers) && !MEANT_BY_MODE[mode]?.some(covers);
}

/**
 * Paths of fields that say something else than their default, and do nothing
 * here: somebody may be waiting for what they ask for.
 */
export function fieldsWithoutMeaning(config: KubeProxyConfiguration): string[] {
  return leaves(FIELDS).filter(({ path, field }) => {
    const value = valueAt(config, path);
    return isWithoutMeaning(path, config.mode) && !isZero(value) &&
      !isSame(value, field.default);
  }).map(({ path }) => path);
}

export interface ConfigurationChange {
  /** Paths of changed fields that can be made so at once. */
  readonly applied: readonly string[];
  /** Paths of changed fields that wait for a restart. */
  readonly pending: readonly string[];
}

/** What is different between two configurations; without what does nothing. */
export function configurationChange(
  before: KubeProxyConfiguration,
  after: KubeProxyConfiguration,
): ConfigurationChange {
  const changed = leaves(FIELDS).map(({ path }) => path).filter((path) =>
    !isWithoutMeaning(path, before.mode) &&
    !isSame(valueAt(before, path), valueAt(after, path))
  );
  return {
    applied: changed.filter((path) => APPLIED_LIVE.includes(path)),
    pending: changed.filter((path) => !APPLIED_LIVE.includes(path)),
  };
}

/** `before` with those fields of `after` that can be applied at once. */
export function withAppliedChanges(
  before: KubeProxyConfiguration,
  after: KubeProxyConfiguration,
): KubeProxyConfiguration {
  const { applied } = configurationChange(before, after);
  return applied.reduce(
    (config, path) => withValue(config, path, valueAt(after, path)),
    before,
  );
}

/**
 * The field at a path.
 *
 * @throws {RangeError} if there is none
 */
export function fieldAt(path: string): Field {
  const found = leaves(FIELDS).find((leaf) => leaf.path === path);
  if (found === undefined) throw new RangeError(`No field "${path}"`);
  return found.field;
}

/** A copy in which the field at the path has another value. */
export function withValue(
  config: KubeProxyConfiguration,
  path: string,
  value: unknown,
): KubeProxyConfiguration {
  const set = (from: unknown, [name = "", ...rest]: string[]): unknown => {
    const values = from as Readonly<Record<string, unknown>>;
    return {
      ...values,
      [name]: rest.length === 0 ? value : set(values[name], rest),
    };
  };
  return set(config, path.split(".")) as KubeProxyConfiguration;
}

function valueAt(config: KubeProxyConfiguration, path: string): unknown {
  return path.split(".").reduce<unknown>(
    (from, name) => (from as Readonly<Record<string, unknown>>)[name],
    config,
  );
}

function leaves(
  section: Section,
  prefix = "",
): { path: string; field: Field }[] {
  return Object.entries(section).flatMap(([name, entry]) => {
    const path = `${prefix}${name}`;
    return isField(entry)
      ? [{ path, field: entry }]
      : leaves(entry, `${path}.`);
  });
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

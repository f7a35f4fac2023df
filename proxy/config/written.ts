/**
 * A configuration as it is shown: the YAML of `--write-config-to`, and the
 * answer of `/configz`. Field for field what kube-proxy 1.36 writes. Pure.
 *
 * @module
 */
import { stringify } from "@std/yaml";
import {
  API_VERSION,
  FIELDS,
  KIND,
  type KubeProxyConfiguration,
} from "./configuration.ts";
import { isField, isZero, type Section, writtenValue } from "./fields.ts";

/** YAML, defaults included (fact 8.92). */
export function configurationYaml(config: KubeProxyConfiguration): string {
  return stringify(configurationObject(config));
}

/** What `/configz` answers, to be made JSON. */
export function configz(
  config: KubeProxyConfiguration,
): Readonly<Record<string, unknown>> {
  return { "kubeproxy.config.k8s.io": configurationObject(config) };
}

/** The object in its versioned form. */
export function configurationObject(
  config: KubeProxyConfiguration,
): Readonly<Record<string, unknown>> {
  return {
    kind: KIND,
    apiVersion: API_VERSION,
    ...written(FIELDS, withoutOtherModes(config)),
  };
}

/**
 * Upstream keeps one sync period, the chosen mode's, and writes the others as
 * nothing (fact 8.44). Ours is that of `iptables`, as the flags have it.
 */
function withoutOtherModes(
  config: KubeProxyConfiguration,
): KubeProxyConfiguration {
  const none = { syncPeriod: 0, minSyncPeriod: 0 };
  return {
    ...config,
    ipvs: { ...config.ipvs, ...none },
    nftables: { ...config.nftables, ...none },
  };
}

function written(section: Section, values: unknown): Record<string, unknown> {
  const from = values as Readonly<Record<string, unknown>>;
  const result: Record<string, unknown> = {};
  for (const [name, entry] of Object.entries(section)) {
    const value = from[name];
    if (!isField(entry)) result[name] = written(entry, value);
    else if (entry.omitZero && isZero(value)) continue;
    // Go writes a list that was never made as null.
    else if (entry.kind === "texts" && isZero(value)) result[name] = null;
    else result[name] = writtenValue(entry, value);
  }
  return result;
}

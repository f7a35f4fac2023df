/**
 * The text of a `--config` file → a configuration with every default, or all
 * that is wrong with it. Strict where kube-proxy is, lenient where it is: what a
 * newer kubeadm writes must not stop an older proxy. Pure.
 *
 * @module
 */
import { parse as parseYaml } from "@std/yaml";
import {
  appendPortIfNeeded,
  defaultBindAddresses,
  HEALTHZ_PORT,
  METRICS_PORT,
} from "./bind_addresses.ts";
import {
  API_VERSION,
  FIELDS,
  KIND,
  type KubeProxyConfiguration,
} from "./configuration.ts";
import { ConfigurationError } from "./errors.ts";
import { type FieldReading, isMapping, readFields } from "./fields.ts";

export interface ParsedConfiguration {
  readonly config: KubeProxyConfiguration;
  /** Paths of the fields that the file sets: `iptables.syncPeriod`. */
  readonly given: ReadonlySet<string>;
  /**
   * What a strict reader would refuse, and was passed over: fields that are not
   * known, and keys that are there twice. One phrase each.
   */
  readonly lenient: readonly string[];
  /** Values of the wrong kind; each has its default in `config`. */
  readonly problems: FieldReading<typeof FIELDS>["problems"];
}

/**
 * Reads one document, YAML or JSON. The values are not yet validated: flags may
 * change them first.
 *
 * @throws {ConfigurationError} it is no KubeProxyConfiguration at all
 */
export function parseConfiguration(text: string): ParsedConfiguration {
  const { raw, duplicates } = document(text);
  if (!isMapping(raw)) {
    throw new ConfigurationError("it is not a mapping");
  }
  const { apiVersion, kind, ...rest } = raw;
  checkKind(apiVersion, kind);
  const { values, given, unknown, problems } = readFields(FIELDS, rest);
  return {
    config: withBindAddresses(values),
    given,
    lenient: [
      ...duplicates,
      ...unknown.map((path) => `unknown field "${path}"`),
    ],
    problems,
  };
}

/** All defaults: what an empty file means. */
export function defaultConfiguration(): KubeProxyConfiguration {
  return withBindAddresses(readFields(FIELDS, {}).values);
}

function document(text: string): { raw: unknown; duplicates: string[] } {
  // YAML forbids some tabs that JSON has.
  if (text.trimStart().startsWith("{")) {
    try {
      return { raw: JSON.parse(text), duplicates: [] };
    } catch {
      // YAML may also begin so.
    }
  }
  try {
    return { raw: parseYaml(text), duplicates: [] };
  } catch (error) {
    return { raw: withoutDuplicates(text, error), duplicates: [reason(error)] };
  }
}

/** Keys that are there twice are all that is forgiven: the last one counts. */
function withoutDuplicates(text: string, strict: unknown): unknown {
  try {
    return parseYaml(text, { allowDuplicateKeys: true });
  } catch {
    throw new ConfigurationError(reason(strict));
  }
}

/** The first line of what a YAML library says; the others repeat the file. */
function reason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split("\n")[0]?.trim() ?? "";
}

function checkKind(apiVersion: unknown, kind: unknown): void {
  if (apiVersion === API_VERSION && kind === KIND) return;
  const missing = [
    ...apiVersion === undefined || apiVersion === "" ? ["apiVersion"] : [],
    ...kind === undefined || kind === "" ? ["kind"] : [],
  ];
  throw new ConfigurationError(
    (missing.length > 0
      ? `it has no ${missing.join(" and no ")}`
      : `it is a ${JSON.stringify(kind)} of ${JSON.stringify(apiVersion)}`) +
      `, want ${KIND} of ${API_VERSION}`,
  );
}

/** Facts 8.10, 8.11, 8.46. */
function withBindAddresses(
  config: KubeProxyConfiguration,
): KubeProxyConfiguration {
  const { bindAddress, healthzBindAddress, metricsBindAddress } = config;
  const defaults = defaultBindAddresses(bindAddress);
  return {
    ...config,
    healthzBindAddress: appendPortIfNeeded(
      healthzBindAddress || defaults.healthz,
      HEALTHZ_PORT,
    ),
    metricsBindAddress: appendPortIfNeeded(
      metricsBindAddress || defaults.metrics,
      METRICS_PORT,
    ),
  };
}

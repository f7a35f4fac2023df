/**
 * How a configuration that cannot be used is told: every problem with its path,
 * its value and what is allowed, in one line, as kube-proxy does it.
 *
 * @module
 */
import type { Problem } from "./fields.ts";
import { DurationValue } from "./duration_value.ts";

/** The configuration cannot be used; its message names every reason. */
export class ConfigurationError extends Error {
  override readonly name = "ConfigurationError";
}

/**
 * @param source where it came from: the path of the file
 * @param nameOf what people have to change; default: the field, as in the file
 */
export function invalidConfiguration(
  problems: readonly Problem[],
  { source, nameOf = (field) => field }: {
    source: string;
    nameOf?: (field: string) => string;
  },
): ConfigurationError {
  const list = problems.map((problem) => problemText(problem, nameOf));
  return new ConfigurationError(
    `Invalid configuration in ${source}: ${bracketed(list)}`,
  );
}

/** One alone stands for itself, several stand in brackets, as in Kubernetes. */
function bracketed(list: readonly string[]): string {
  return list.length === 1 ? list[0] ?? "" : `[${list.join(", ")}]`;
}

/**
 * `KubeProxyConfiguration.SyncPeriod: Invalid value: 0s: must be greater than 0
 * (iptables.syncPeriod)`: upstream's form and path, then the name that the
 * value has where it was written, which is what has to be changed.
 */
export function problemText(
  { field, path, value, text, kind = "Invalid value" }: Problem,
  nameOf: (field: string) => string = (field) => field,
): string {
  const name = nameOf(field);
  return path === undefined
    ? `${name}: ${kind}: ${shown(value)}: ${text}`
    : `KubeProxyConfiguration.${path}: ${kind}: ${
      shown(value)
    }: ${text} (${name})`;
}

function shown(value: unknown): string {
  return value instanceof DurationValue
    ? value.toString()
    : JSON.stringify(value);
}

/**
 * kubeconfig files, as text, to one merged view of them: named clusters, users
 * and contexts, each still knowing its file. Only names are read here; what an
 * entry says is read by `kubeconfig_entry.ts` once a context is chosen, so that
 * a mistake in an unused entry does no harm.
 *
 * No message repeats text of the file beyond names: the rest may be secret.
 *
 * @module
 */
import { ConfigError } from "./api_config.ts";

/** A JSON object out of a YAML file. */
export type Fields = Readonly<Record<string, unknown>>;

/** One entry of `clusters`, `users` or `contexts`. */
export interface KubeconfigEntry {
  /** For messages: `user "kind" of "/root/.kube/config"`. */
  readonly where: string;
  /** Path of the file; relative paths in the entry start at its folder. */
  readonly file: string;
  readonly fields: Fields;
}

export interface Kubeconfig {
  readonly files: readonly string[];
  /** Empty: none is set. */
  readonly currentContext: string;
  readonly clusters: ReadonlyMap<string, KubeconfigEntry>;
  readonly users: ReadonlyMap<string, KubeconfigEntry>;
  readonly contexts: ReadonlyMap<string, KubeconfigEntry>;
}

/**
 * Reads one kubeconfig. An empty file is an empty kubeconfig.
 *
 * @param file its path, for messages and for relative paths inside
 * @throws {ConfigError} not YAML, or not a kubeconfig
 */
export async function parseKubeconfig(
  text: string,
  file: string,
): Promise<Kubeconfig> {
  const config = await parseYaml(text, file) ?? {};
  if (!isFields(config)) throw unusable(file, "it is not a YAML mapping");
  const kind = config["kind"] ?? "Config";
  if (kind !== "Config") {
    throw unusable(file, `"kind" is ${shown(kind)}, want "Config"`);
  }
  const apiVersion = config["apiVersion"] ?? "v1";
  if (apiVersion !== "v1") {
    throw unusable(file, `"apiVersion" is ${shown(apiVersion)}, want "v1"`);
  }
  const currentContext = config["current-context"] ?? "";
  if (typeof currentContext !== "string") {
    throw unusable(file, `"current-context" must be a string`);
  }
  return {
    files: [file],
    currentContext,
    clusters: named(config["clusters"], "cluster", file),
    users: named(config["users"], "user", file),
    contexts: named(config["contexts"], "context", file),
  };
}

/**
 * Several files as one: of entries with the same name, and of
 * `current-context`, the first file's holds (as kubectl reads a KUBECONFIG of
 * several paths).
 */
export function mergeKubeconfigs(configs: readonly Kubeconfig[]): Kubeconfig {
  const merge = (part: "clusters" | "users" | "contexts") =>
    new Map(configs.toReversed().flatMap((config) => [...config[part]]));
  return {
    files: configs.flatMap((config) => config.files),
    currentContext: configs.find((config) => config.currentContext !== "")
      ?.currentContext ?? "",
    clusters: merge("clusters"),
    users: merge("users"),
    contexts: merge("contexts"),
  };
}

/** Whether a YAML value is a mapping. */
export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

async function parseYaml(text: string, file: string): Promise<unknown> {
  // Loaded here: in a cluster, and behind `kubectl proxy`, no YAML is read, and
  // start-up should not pay for its parser.
  const { parse } = await import("@std/yaml");
  try {
    return parse(text);
  } catch (error) {
    // The parser's message quotes the lines around the mistake, which may hold
    // a token; so does `cause`. Only the place is told.
    throw unusable(file, `it is not valid YAML${placeOf(error)}`);
  }
}

function placeOf(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const place = /\((\d+):(\d+)\)|line (\d+), column (\d+)/.exec(error.message);
  if (place === null) return "";
  const [, line = place[3], column = place[4]] = place;
  return ` (line ${line}, column ${column})`;
}

function named(
  list: unknown,
  kind: "cluster" | "user" | "context",
  file: string,
): Map<string, KubeconfigEntry> {
  const entries = new Map<string, KubeconfigEntry>();
  if (list === undefined || list === null) return entries;
  if (!Array.isArray(list)) throw unusable(file, `"${kind}s" must be a list`);
  for (const [index, item] of list.entries()) {
    const at = `${kind}s[${index}]`;
    if (!isFields(item)) throw unusable(file, `${at} must be a mapping`);
    const name = item["name"];
    if (typeof name !== "string" || name === "") {
      throw unusable(file, `${at}.name must be a string that is not empty`);
    }
    if (entries.has(name)) {
      throw unusable(file, `${kind} "${name}" is there twice`);
    }
    const fields = item[kind] ?? {};
    if (!isFields(fields)) {
      throw unusable(file, `${at}.${kind} must be a mapping`);
    }
    entries.set(name, {
      where: `${kind} "${name}" of "${file}"`,
      file,
      fields,
    });
  }
  return entries;
}

function unusable(file: string, why: string): ConfigError {
  return new ConfigError(`Cannot use kubeconfig "${file}": ${why}`);
}

function shown(value: unknown): string {
  return typeof value === "string" ? `"${value.slice(0, 60)}"` : typeof value;
}

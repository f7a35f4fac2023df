/**
 * One field of a kubeconfig entry, with its type checked. Errors name entry and
 * field and what is wanted, never the value.
 *
 * @module
 */
import { dirname, resolve } from "node:path";
import { ConfigError } from "./api_config.ts";
import { isFields, type KubeconfigEntry } from "./kubeconfig.ts";

/** `Cannot use user "kind" of "/root/.kube/config": WHY`. */
export function fieldError(entry: KubeconfigEntry, why: string): ConfigError {
  return new ConfigError(`Cannot use ${entry.where}: ${why}`);
}

/**
 * @returns undefined if it is missing, null or empty
 * @throws {ConfigError} not a string
 */
export function stringField(
  entry: KubeconfigEntry,
  name: string,
): string | undefined {
  const value = entry.fields[name];
  if (value === undefined || value === null || value === "") return undefined;
  if (typeof value !== "string") {
    throw fieldError(
      entry,
      `"${name}" must be a string, but is a ${kindOf(value)}` +
        (typeof value === "object" ? "" : " (put quotes around it)"),
    );
  }
  return value;
}

/** @throws {ConfigError} not a boolean */
export function booleanField(
  entry: KubeconfigEntry,
  name: string,
): boolean | undefined {
  const value = entry.fields[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "boolean") {
    throw fieldError(entry, `"${name}" must be true or false`);
  }
  return value;
}

/** @throws {ConfigError} not a list of strings */
export function stringListField(
  entry: KubeconfigEntry,
  name: string,
): string[] {
  const value = entry.fields[name];
  if (value === undefined || value === null) return [];
  if (
    !Array.isArray(value) || !value.every((item) => typeof item === "string")
  ) {
    throw fieldError(entry, `"${name}" must be a list of strings`);
  }
  return value;
}

/**
 * A mapping inside an entry, as an entry of its own.
 *
 * @throws {ConfigError} not a mapping
 */
export function objectField(
  entry: KubeconfigEntry,
  name: string,
): KubeconfigEntry | undefined {
  const fields = entry.fields[name];
  if (fields === undefined || fields === null) return undefined;
  if (!isFields(fields)) {
    throw fieldError(entry, `"${name}" must be a mapping`);
  }
  return { where: `"${name}" of ${entry.where}`, file: entry.file, fields };
}

/** A path, from the folder of the kubeconfig it stands in. */
export function filePath(entry: KubeconfigEntry, path: string): string {
  return resolve(dirname(entry.file), path);
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return "list";
  return typeof value === "object" ? "mapping" : typeof value;
}

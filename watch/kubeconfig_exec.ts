/**
 * The `exec` field of a kubeconfig user to an `ExecConfig`: which program prints
 * the credentials, and what it is told. Runs nothing.
 *
 * @module
 */
import type {
  ExecApiVersion,
  ExecConfig,
  InteractiveMode,
} from "./api_config.ts";
import {
  booleanField,
  fieldError,
  filePath,
  stringField,
  stringListField,
} from "./kubeconfig_field.ts";
import { isFields, type KubeconfigEntry } from "./kubeconfig.ts";
import { Secret } from "./secret.ts";

const API_VERSIONS: readonly ExecApiVersion[] = [
  "client.authentication.k8s.io/v1",
  "client.authentication.k8s.io/v1beta1",
];

const INTERACTIVE_MODES: readonly InteractiveMode[] = [
  "Never",
  "IfAvailable",
  "Always",
];

/** Where a cluster's entry keeps what is meant for exec plugins. */
const CLUSTER_EXTENSION = "client.authentication.k8s.io/exec";

/**
 * @param exec the mapping under `exec`
 * @throws {ConfigError} names the field
 */
export function readExecConfig(
  exec: KubeconfigEntry,
  context: {
    user: KubeconfigEntry;
    cluster: KubeconfigEntry | undefined;
    server: string;
  },
): ExecConfig {
  const command = stringField(exec, "command");
  if (command === undefined) throw fieldError(exec, `"command" is not set`);
  const apiVersion = oneOf(exec, "apiVersion", API_VERSIONS);
  if (apiVersion === undefined) {
    throw fieldError(
      exec,
      `"apiVersion" is not set, want "${API_VERSIONS.join('" or "')}"`,
    );
  }
  const mode = oneOf(exec, "interactiveMode", INTERACTIVE_MODES);
  if (mode === undefined && apiVersion === API_VERSIONS[0]) {
    throw fieldError(
      exec,
      `"interactiveMode" is not set, which ${apiVersion} requires; want ` +
        `"${INTERACTIVE_MODES.join('", "')}"`,
    );
  }
  const withCluster = booleanField(exec, "provideClusterInfo") ?? false;
  return {
    apiVersion,
    command: command.includes("/") ? filePath(exec, command) : command,
    args: stringListField(exec, "args"),
    env: readEnv(exec),
    interactiveMode: mode ?? "IfAvailable",
    installHint: stringField(exec, "installHint") ?? "",
    ...(withCluster &&
      {
        cluster: new Secret(
          JSON.stringify(clusterInfo(context.cluster, context.server)),
        ),
      }),
  };
}

function oneOf<T extends string>(
  entry: KubeconfigEntry,
  name: string,
  allowed: readonly T[],
): T | undefined {
  const value = stringField(entry, name);
  if (value === undefined) return undefined;
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) {
    throw fieldError(
      entry,
      `"${name}" is "${value}", want "${allowed.join('" or "')}"`,
    );
  }
  return found;
}

function readEnv(exec: KubeconfigEntry): Record<string, Secret> {
  const env: Record<string, Secret> = {};
  const list = exec.fields["env"] ?? [];
  if (!Array.isArray(list)) throw fieldError(exec, `"env" must be a list`);
  for (const [index, item] of list.entries()) {
    const name = isFields(item) ? item["name"] : undefined;
    const value = isFields(item) ? item["value"] ?? "" : undefined;
    if (typeof name !== "string" || name === "" || typeof value !== "string") {
      throw fieldError(
        exec,
        `env[${index}] must have "name" and "value", both strings`,
      );
    }
    env[name] = new Secret(value);
  }
  return env;
}

/**
 * `spec.cluster` of an ExecCredential (client.authentication.k8s.io): what the
 * plugin may want to know of the cluster it is asked for.
 */
function clusterInfo(
  cluster: KubeconfigEntry | undefined,
  server: string,
): Record<string, unknown> {
  const info: Record<string, unknown> = { server };
  if (cluster === undefined) return { ...info, config: null };
  for (
    const name of [
      "tls-server-name",
      "insecure-skip-tls-verify",
      "certificate-authority-data",
      "proxy-url",
    ]
  ) {
    if (cluster.fields[name] !== undefined) info[name] = cluster.fields[name];
  }
  const list = cluster.fields["extensions"];
  const own = Array.isArray(list)
    ? list.find((item) => isFields(item) && item["name"] === CLUSTER_EXTENSION)
    : undefined;
  return { ...info, config: isFields(own) ? own["extension"] ?? null : null };
}

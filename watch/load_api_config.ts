/**
 * Flags, environment and files to the one `ApiConfig` the program uses, or to
 * a sentence that says what is missing. The order is in `loadApiConfig`.
 *
 * @module
 */
import { fileReason } from "./file_reason.ts";
import {
  type ApiConfig,
  checkPem,
  ConfigError,
  type PemSource,
  serverUrl,
} from "./api_config.ts";
import { type Environment, inClusterConfig } from "./in_cluster.ts";
import {
  type Kubeconfig,
  mergeKubeconfigs,
  parseKubeconfig,
} from "./kubeconfig.ts";
import { resolveKubeconfig } from "./kubeconfig_entry.ts";

export interface LoadApiConfigOptions {
  /** `--kubeconfig`: one file, which must exist. */
  readonly kubeconfig?: string | undefined;
  /** Who names that file, for errors: `--kubeconfig` if not told. */
  readonly kubeconfigBy?: string;
  /** `--context`: instead of the file's `current-context`. */
  readonly context?: string | undefined;
  /** `--master`: instead of the server found. */
  readonly master?: string | undefined;
  /** `Deno.env`, or a Map. A variable it may not read counts as not set. */
  readonly env: Environment;
  /** Where the service account's files are; for tests. */
  readonly serviceAccountDir?: string;
}

/**
 * Finds the API server and the credentials for it. The first that is there:
 *
 * 1. `--kubeconfig`, else the files of the variable KUBECONFIG (several are
 *    merged; missing ones are passed over)
 * 2. in a pod, unless `--context` asks for a kubeconfig: the service account
 * 3. `--master` alone: no credentials (as kube-proxy; `~/.kube/config` may
 *    belong to another cluster)
 * 4. `~/.kube/config`
 *
 * `--master` replaces the server's address in 1, 2 and 4. Empty strings count
 * as not given. Every file named is opened once, so that a missing one is told
 * at the start.
 *
 * @throws {ConfigError} nothing found, or what is found cannot be used
 */
export async function loadApiConfig(
  options: LoadApiConfigOptions,
): Promise<ApiConfig> {
  const config = await findConfig({
    kubeconfig: options.kubeconfig || undefined,
    context: options.context || undefined,
    master: options.master || undefined,
    env: readableEnv(options.env),
    kubeconfigBy: options.kubeconfigBy ?? "--kubeconfig",
    ...(options.serviceAccountDir !== undefined &&
      { serviceAccountDir: options.serviceAccountDir }),
  });
  await checkFiles(config);
  return config;
}

async function findConfig(
  options: LoadApiConfigOptions & { readonly kubeconfigBy: string },
): Promise<ApiConfig> {
  const { kubeconfig, kubeconfigBy, context, master, env } = options;
  if (kubeconfig !== undefined) {
    const file = await readKubeconfig(kubeconfig, kubeconfigBy);
    return resolveKubeconfig(file, { context, master });
  }
  const paths = (env.get("KUBECONFIG") ?? "").split(":").filter(Boolean);
  if (paths.length > 0) {
    return resolveKubeconfig(await readMerged(paths), { context, master });
  }
  if (context === undefined) {
    const config = await inClusterConfig(env, options);
    if (config !== undefined) return config;
    if (master !== undefined) return masterOnly(master);
  }
  const home = env.get("HOME") ?? "";
  const path = home === "" ? "~/.kube/config" : `${home}/.kube/config`;
  const config = home === "" ? undefined : await tryKubeconfig(path);
  if (config !== undefined) {
    return resolveKubeconfig(config, { context, master });
  }
  throw new ConfigError(
    `Cannot find an API server: give --kubeconfig FILE or --master URL ` +
      `(KUBECONFIG is not set, "${path}" does not exist, and this is no ` +
      `pod with a service account)`,
  );
}

function masterOnly(master: string): ApiConfig {
  return {
    source: "--master",
    server: serverUrl(master, { where: "--master", secure: false }),
    insecureSkipTlsVerify: false,
    credential: { type: "none" },
  };
}

async function readMerged(paths: readonly string[]): Promise<Kubeconfig> {
  const found: Kubeconfig[] = [];
  for (const path of paths) {
    const config = await tryKubeconfig(path);
    if (config !== undefined) found.push(config);
  }
  if (found.length === 0) {
    throw new ConfigError(
      `Cannot read KUBECONFIG: none of its files exists: "${
        paths.join('", "')
      }"`,
    );
  }
  return mergeKubeconfigs(found);
}

async function tryKubeconfig(path: string): Promise<Kubeconfig | undefined> {
  const text = await readText(path, "kubeconfig", { optional: true });
  return text === undefined ? undefined : await parseKubeconfig(text, path);
}

async function readKubeconfig(path: string, by: string): Promise<Kubeconfig> {
  const text = await readText(path, `kubeconfig of ${by}`);
  return await parseKubeconfig(text ?? "", path);
}

async function checkFiles(config: ApiConfig): Promise<void> {
  const { ca, clientCertificate: client, credential } = config;
  const of = `named by ${config.source}`;
  await checkPemFile(ca, "CERTIFICATE", `certificate authority ${of}`);
  await checkPemFile(
    client?.certificate,
    "CERTIFICATE",
    `client certificate ${of}`,
  );
  await checkPemFile(client?.key, "PRIVATE KEY", `client key ${of}`);
  if (credential.type === "token-file" && credential.fallback === undefined) {
    const token = await readText(credential.path, `token ${of}`);
    if (token?.trim() === "") {
      throw new ConfigError(`Cannot use token "${credential.path}": empty`);
    }
  }
}

async function checkPemFile(
  source: PemSource | undefined,
  kind: "CERTIFICATE" | "PRIVATE KEY",
  what: string,
): Promise<void> {
  if (source === undefined || !("path" in source)) return;
  const text = await readText(source.path, what);
  checkPem(text ?? "", kind, `"${source.path}", the ${what}`);
}

async function readText(
  path: string,
  what: string,
  options: { optional?: boolean } = {},
): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    const missing = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.NotADirectory;
    if (missing && options.optional) return undefined;
    throw new ConfigError(
      `Cannot read "${path}", the ${what}: ${fileReason(error)}`,
    );
  }
}

/** Under `--allow-env=NAME`, asking for another variable throws. */
function readableEnv(env: Environment): Environment {
  return {
    get(name) {
      try {
        return env.get(name);
      } catch (error) {
        if (error instanceof Deno.errors.NotCapable) return undefined;
        throw error;
      }
    },
  };
}

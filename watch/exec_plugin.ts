/**
 * Runs an exec credential plugin: what it is told, how long it may take, and
 * one sentence for every way it can fail. What it printed is read elsewhere.
 *
 * @module
 */
import { ConfigError, type ExecConfig, type PemSource } from "./api_config.ts";
import { hideSecrets } from "./secret.ts";

/**
 * A plugin that may not ask a person has this long, milliseconds; then it is
 * stopped. One that may ask has no limit.
 */
export const EXEC_TIMEOUT_MS = 60_000;

/**
 * A plugin that was told to stop is waited for so long, milliseconds. A child
 * of its own may live on and keep its output open.
 */
const STOP_GRACE_MS = 1_000;

/** Longest piece of a plugin's error output that goes into a message. */
const MAX_ERROR_TEXT_LENGTH = 300;

/**
 * Runs the plugin once.
 *
 * @param options.ca told to a plugin that asks for the cluster
 * @param options.signal stops it
 * @returns what it printed
 * @throws {ConfigError} it could not run, failed, or took too long
 */
export async function runPlugin(
  config: ExecConfig,
  options: {
    ca: PemSource | undefined;
    signal: AbortSignal;
    timeoutMs: number;
  },
): Promise<string> {
  const interactive = config.interactiveMode !== "Never" &&
    Deno.stdin.isTerminal();
  if (config.interactiveMode === "Always" && !interactive) {
    throw pluginError(config, `it wants to ask you, but there is no terminal`);
  }
  const env = await pluginEnv(config, options.ca, interactive);
  const limit = new AbortController();
  const timer = interactive
    ? undefined
    : setTimeout(() => limit.abort(), options.timeoutMs);
  const signal = AbortSignal.any([limit.signal, options.signal]);
  try {
    const output = await outputOf(config, { env, interactive, signal });
    if (output?.success) return new TextDecoder().decode(output.stdout);
    options.signal.throwIfAborted();
    if (output === undefined || limit.signal.aborted) {
      throw pluginError(
        config,
        `no answer within ${options.timeoutMs / 1000} s`,
      );
    }
    const said = interactive ? "" : lastLine(output.stderr, config);
    throw pluginError(
      config,
      `exit code ${output.code}` + (said === "" ? "" : `: ${said}`),
    );
  } catch (error) {
    throw spawnFailure(error, config);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Runs the program to its end; stops it when the signal is aborted.
 *
 * @returns undefined if it was stopped, but its output was not closed in time
 */
async function outputOf(
  config: ExecConfig,
  { env, interactive, signal }: {
    env: Record<string, string>;
    interactive: boolean;
    signal: AbortSignal;
  },
): Promise<Deno.CommandOutput | undefined> {
  const output = new Deno.Command(config.command, {
    args: [...config.args],
    env,
    stdin: interactive ? "inherit" : "null",
    stdout: "piped",
    // A login prompt ("open this page, enter that code") comes this way.
    stderr: interactive ? "inherit" : "piped",
    signal,
  }).output();
  const given = Promise.withResolvers<undefined>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stopped = () => {
    timer = setTimeout(() => given.resolve(undefined), STOP_GRACE_MS);
  };
  signal.addEventListener("abort", stopped, { once: true });
  try {
    return await Promise.race([output, given.promise]);
  } finally {
    signal.removeEventListener("abort", stopped);
    clearTimeout(timer);
  }
}

async function pluginEnv(
  config: ExecConfig,
  ca: PemSource | undefined,
  interactive: boolean,
): Promise<Record<string, string>> {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(config.env)) {
    env[name] = value.reveal();
  }
  let cluster: Record<string, unknown> | undefined = config.cluster &&
    JSON.parse(config.cluster.reveal());
  if (cluster !== undefined && ca !== undefined && "path" in ca) {
    const text = await Deno.readTextFile(ca.path);
    cluster = { ...cluster, "certificate-authority-data": btoa(text) };
  }
  env["KUBERNETES_EXEC_INFO"] = JSON.stringify({
    apiVersion: config.apiVersion,
    kind: "ExecCredential",
    spec: { interactive, ...(cluster !== undefined && { cluster }) },
  });
  return env;
}

function lastLine(stderr: Uint8Array, config: ExecConfig): string {
  const text = new TextDecoder().decode(stderr).trim();
  const line = text.slice(text.lastIndexOf("\n") + 1);
  const hidden = hideSecrets(line, Object.values(config.env));
  return hidden.slice(0, MAX_ERROR_TEXT_LENGTH);
}

function spawnFailure(error: unknown, config: ExecConfig): unknown {
  if (error instanceof Deno.errors.NotCapable) {
    return pluginError(
      config,
      `Deno denies to run it; add --allow-run=${config.command}`,
    );
  }
  if (error instanceof Deno.errors.NotFound) {
    const hint = config.installHint.trim();
    return pluginError(
      config,
      "there is no such program" + (hint === "" ? "" : `. ${hint}`),
    );
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return pluginError(config, "it is not executable");
  }
  return error;
}

/** `Cannot get credentials from "aws": WHY`. */
export function pluginError(config: ExecConfig, why: string): ConfigError {
  return new ConfigError(
    `Cannot get credentials from "${config.command}": ${why}`,
  );
}

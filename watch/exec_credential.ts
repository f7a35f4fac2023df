/**
 * Credentials printed by a program (client-go's exec plugins: cloud logins,
 * kubelogin and the like). Runs it when something is needed, keeps what it
 * printed until that expires or the server refuses it, and turns every way it
 * can fail into one sentence.
 *
 * @module
 */
import {
  checkHeaderValue,
  checkPem,
  ConfigError,
  type ExecConfig,
  type PemSource,
} from "./api_config.ts";
import type { Clock } from "./clock.ts";
import {
  bearer,
  type Credential,
  type CredentialSource,
} from "./credential.ts";
import { hideSecrets, Secret } from "./secret.ts";

/**
 * A plugin that may not ask a person has this long, milliseconds; then it is
 * stopped. One that may ask has no limit.
 */
export const EXEC_TIMEOUT_MS = 60_000;

/** Longest piece of a plugin's error output that goes into a message. */
const MAX_ERROR_TEXT_LENGTH = 300;

interface ExecResult {
  readonly credential: Credential;
  /** Milliseconds since 1970; Infinity where the plugin named no time. */
  readonly expiresAtMs: number;
}

/**
 * 1. The program runs at the first `current()`, and again after
 *    `expirationTimestamp`, or after a 401.
 * 2. Callers at the same time share one run.
 * 3. A caller that gives up leaves the run to the others.
 */
export class ExecCredentials implements CredentialSource {
  readonly #config: ExecConfig;
  readonly #clock: Clock;
  readonly #ca: PemSource | undefined;
  readonly #signal: AbortSignal;
  #result: ExecResult | undefined;
  #running: Promise<ExecResult> | undefined;

  /**
   * @param options.ca told to the plugin where it asks for the cluster
   * @param options.signal stops a run that is under way
   */
  constructor(
    config: ExecConfig,
    options: { clock: Clock; ca: PemSource | undefined; signal: AbortSignal },
  ) {
    this.#config = config;
    this.#clock = options.clock;
    this.#ca = options.ca;
    this.#signal = options.signal;
  }

  /** @throws {ConfigError} the program failed; says how, and what helps */
  async current(signal: AbortSignal): Promise<Credential> {
    const result = this.#result;
    if (result !== undefined && this.#clock.now() < result.expiresAtMs) {
      return result.credential;
    }
    return (await unlessAborted(this.#run(), signal)).credential;
  }

  async renew(rejected: Credential, signal: AbortSignal): Promise<boolean> {
    // Another request may have been refused first, and renewed already.
    if (this.#result?.credential === rejected) this.#result = undefined;
    const now = await this.current(signal);
    return now !== rejected;
  }

  #run(): Promise<ExecResult> {
    this.#running ??= runPlugin(this.#config, this.#ca, this.#signal).then(
      (stdout) => this.#result = decodeExecCredential(stdout, this.#config),
    ).finally(() => this.#running = undefined);
    return this.#running;
  }
}

async function runPlugin(
  config: ExecConfig,
  ca: PemSource | undefined,
  stop: AbortSignal,
): Promise<string> {
  const interactive = config.interactiveMode !== "Never" &&
    Deno.stdin.isTerminal();
  if (config.interactiveMode === "Always" && !interactive) {
    throw failure(config, `it wants to ask you, but there is no terminal`);
  }
  const limit = new AbortController();
  const timer = interactive
    ? undefined
    : setTimeout(() => limit.abort(), EXEC_TIMEOUT_MS);
  try {
    const output = await new Deno.Command(config.command, {
      args: [...config.args],
      env: await pluginEnv(config, ca, interactive),
      stdin: interactive ? "inherit" : "null",
      stdout: "piped",
      // A login prompt ("open this page, enter that code") comes this way.
      stderr: interactive ? "inherit" : "piped",
      signal: AbortSignal.any([limit.signal, stop]),
    }).output();
    if (output.success) return new TextDecoder().decode(output.stdout);
    stop.throwIfAborted();
    if (limit.signal.aborted) {
      throw failure(config, `no answer within ${EXEC_TIMEOUT_MS / 1000} s`);
    }
    const said = interactive ? "" : lastLine(output.stderr, config);
    throw failure(
      config,
      `exit code ${output.code}` + (said === "" ? "" : `: ${said}`),
    );
  } catch (error) {
    throw spawnFailure(error, config);
  } finally {
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

/**
 * Reads what a plugin printed (ExecCredential of client.authentication.k8s.io).
 * No message repeats any of it.
 *
 * @throws {ConfigError} not an ExecCredential of the wanted version, or one
 *   without credentials
 */
export function decodeExecCredential(
  stdout: string,
  config: ExecConfig,
): ExecResult {
  let answer: unknown;
  try {
    answer = JSON.parse(stdout);
  } catch {
    throw failure(config, "what it printed is not JSON");
  }
  const kind = textField(answer, "kind");
  const apiVersion = textField(answer, "apiVersion");
  if (kind !== "ExecCredential" || apiVersion !== config.apiVersion) {
    throw failure(
      config,
      `what it printed is not an ExecCredential of ${config.apiVersion}`,
    );
  }
  const status = (answer as { status?: unknown }).status;
  const token = textField(status, "token");
  const certificate = textField(status, "clientCertificateData");
  const key = textField(status, "clientKeyData");
  if ((certificate === "") !== (key === "")) {
    throw failure(
      config,
      "it printed one of clientCertificateData and clientKeyData, want both",
    );
  }
  if (token === "" && certificate === "") {
    throw failure(
      config,
      "it printed neither a token nor clientCertificateData",
    );
  }
  const what = `the answer of "${config.command}"`;
  checkHeaderValue(token, what);
  if (certificate !== "") {
    checkPem(certificate, "CERTIFICATE", what);
    checkPem(key, "PRIVATE KEY", what);
  }
  return {
    credential: {
      ...(token !== "" && { authorization: bearer(new Secret(token)) }),
      ...(certificate !== "" && {
        clientCertificate: {
          certificate: new Secret(certificate),
          key: new Secret(key),
        },
      }),
    },
    expiresAtMs: expiry(textField(status, "expirationTimestamp"), config),
  };
}

function expiry(timestamp: string, config: ExecConfig): number {
  if (timestamp === "") return Infinity;
  const ms = Date.parse(timestamp);
  if (!Number.isNaN(ms)) return ms;
  throw failure(config, "its expirationTimestamp is not an RFC 3339 time");
}

function textField(object: unknown, name: string): string {
  if (typeof object !== "object" || object === null) return "";
  const value = (object as Record<string, unknown>)[name];
  return typeof value === "string" ? value : "";
}

function lastLine(stderr: Uint8Array, config: ExecConfig): string {
  const text = new TextDecoder().decode(stderr).trim();
  const line = text.slice(text.lastIndexOf("\n") + 1);
  const hidden = hideSecrets(line, Object.values(config.env));
  return hidden.slice(0, MAX_ERROR_TEXT_LENGTH);
}

function spawnFailure(error: unknown, config: ExecConfig): unknown {
  if (error instanceof Deno.errors.NotCapable) {
    return failure(
      config,
      `Deno denies to run it; add --allow-run=${config.command}`,
    );
  }
  if (error instanceof Deno.errors.NotFound) {
    const hint = config.installHint.trim();
    return failure(
      config,
      "there is no such program" + (hint === "" ? "" : `. ${hint}`),
    );
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return failure(config, "it is not executable");
  }
  return error;
}

function failure(config: ExecConfig, why: string): ConfigError {
  return new ConfigError(
    `Cannot get credentials from "${config.command}": ${why}`,
  );
}

/** The promise's result, or the signal's reason if that comes first. */
function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() =>
      signal.removeEventListener("abort", abort)
    );
  });
}

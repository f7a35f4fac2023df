/**
 * Credentials printed by a program (client-go's exec plugins: cloud logins,
 * kubelogin and the like). Has it run when something is needed, and keeps what
 * it printed until that expires or the server refuses it.
 *
 * @module
 */
import {
  checkHeaderValue,
  checkPem,
  type ExecConfig,
  type PemSource,
} from "./api_config.ts";
import type { Clock } from "./clock.ts";
import {
  bearer,
  type Credential,
  type CredentialSource,
} from "./credential.ts";
import { EXEC_TIMEOUT_MS, pluginError, runPlugin } from "./exec_plugin.ts";
import { Secret } from "./secret.ts";

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
  readonly #timeoutMs: number;
  #result: ExecResult | undefined;
  #running: Promise<ExecResult> | undefined;

  /**
   * @param options.ca told to the plugin where it asks for the cluster
   * @param options.signal stops a run that is under way
   * @param options.timeoutMs instead of {@linkcode EXEC_TIMEOUT_MS}
   */
  constructor(
    config: ExecConfig,
    options: {
      clock: Clock;
      ca: PemSource | undefined;
      signal: AbortSignal;
      timeoutMs?: number;
    },
  ) {
    this.#config = config;
    this.#clock = options.clock;
    this.#ca = options.ca;
    this.#signal = options.signal;
    this.#timeoutMs = options.timeoutMs ?? EXEC_TIMEOUT_MS;
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
    this.#running ??= runPlugin(this.#config, {
      ca: this.#ca,
      signal: this.#signal,
      timeoutMs: this.#timeoutMs,
    }).then((stdout) =>
      this.#result = decodeExecCredential(stdout, this.#config)
    ).finally(() => this.#running = undefined);
    return this.#running;
  }
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
    throw pluginError(config, "what it printed is not JSON");
  }
  const kind = textField(answer, "kind");
  const apiVersion = textField(answer, "apiVersion");
  if (kind !== "ExecCredential" || apiVersion !== config.apiVersion) {
    throw pluginError(
      config,
      `what it printed is not an ExecCredential of ${config.apiVersion}`,
    );
  }
  const status = (answer as { status?: unknown }).status;
  const token = textField(status, "token");
  const certificate = textField(status, "clientCertificateData");
  const key = textField(status, "clientKeyData");
  if ((certificate === "") !== (key === "")) {
    throw pluginError(
      config,
      "it printed one of clientCertificateData and clientKeyData, want both",
    );
  }
  if (token === "" && certificate === "") {
    throw pluginError(
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
  throw pluginError(config, "its expirationTimestamp is not an RFC 3339 time");
}

function textField(object: unknown, name: string): string {
  if (typeof object !== "object" || object === null) return "";
  const value = (object as Record<string, unknown>)[name];
  return typeof value === "string" ? value : "";
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

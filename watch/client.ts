/**
 * The `ApiClient`: sends requests to one API server by Deno's `fetch`, with the
 * credentials of an `ApiConfig`, and tells three ends apart: an answer, a
 * refusal (`ApiError`), no answer (`UnreachableError`). It knows nothing of
 * lists and watches, and repeats a request only after a 401 for which newer
 * credentials were found.
 *
 * @module
 */
import type { ApiClient, ApiError, ApiRequest } from "./api.ts";
import { type ApiConfig, ConfigError } from "./api_config.ts";
import { apiErrorOf } from "./api_status.ts";
import { type Clock, systemClock } from "./clock.ts";
import { Connection } from "./connection.ts";
import type { Credential, CredentialSource } from "./credential.ts";
import { credentialSource, impersonationHeaders } from "./credentials.ts";
import {
  isCertificateProblem,
  UnreachableError,
  unreachableReason,
} from "./unreachable.ts";
import { Secret } from "./secret.ts";
import denoConfig from "../deno.json" with { type: "json" };

/**
 * The header of an answer must be there after this, milliseconds: client-go's
 * limit for a connection, and more than an API server keeps a request queued.
 */
export const ANSWER_TIMEOUT_MS = 30_000;

export interface ApiClientOptions {
  /** Milliseconds until the answer's header; {@linkcode ANSWER_TIMEOUT_MS}. */
  readonly answerTimeoutMs?: number;
  readonly userAgent?: string;
  /** For the age of files and credentials; the system's by default. */
  readonly clock?: Clock;
}

/**
 * Makes a client. Nothing is sent, read or run before the first request.
 *
 * Requests throw, beside what `ApiClient` says, {@linkcode ConfigError} for a
 * credential file or plugin that gives nothing to send. Disposing the client
 * aborts what is under way, bodies included.
 */
export function createApiClient(
  config: ApiConfig,
  options: ApiClientOptions = {},
): ApiClient {
  return new FetchClient(config, options);
}

/** `kube-portal/0.1.0 (linux/amd64)`, in the form of Kubernetes' components. */
export function defaultUserAgent(): string {
  const { os, arch } = Deno.build;
  const architecture = arch === "x86_64" ? "amd64" : "arm64";
  return `kube-portal/${denoConfig.version} (${os}/${architecture})`;
}

/** One request as it was sent, for the error that tells of it. */
interface Sent {
  readonly path: string;
  readonly options: ApiRequest;
  readonly credential: Credential;
}

class FetchClient implements ApiClient {
  readonly server: string;
  readonly #config: ApiConfig;
  readonly #answerTimeoutMs: number;
  readonly #clock: Clock;
  readonly #headers: readonly [string, string][];
  readonly #credentials: CredentialSource;
  readonly #connection: Connection;
  readonly #closed = new AbortController();

  constructor(config: ApiConfig, options: ApiClientOptions) {
    const clock = options.clock ?? systemClock;
    this.server = config.server;
    this.#config = config;
    this.#answerTimeoutMs = options.answerTimeoutMs ?? ANSWER_TIMEOUT_MS;
    this.#clock = clock;
    this.#headers = [
      ["Accept", "application/json"],
      ["User-Agent", options.userAgent ?? defaultUserAgent()],
      ...impersonationHeaders(config.impersonate),
    ];
    const { signal } = this.#closed;
    this.#credentials = credentialSource(config, { clock, signal });
    this.#connection = new Connection(config, { clock });
  }

  async request(path: string, options: ApiRequest = {}): Promise<Response> {
    const signal = options.signal === undefined
      ? this.#closed.signal
      : AbortSignal.any([options.signal, this.#closed.signal]);
    signal.throwIfAborted();
    const first = await this.#credentials.current(signal);
    const response = await this.#send(path, {
      options,
      credential: first,
      signal,
    });
    if (response.ok) return response;
    const refusal = await this.#refusal(response, {
      path,
      options,
      credential: first,
    });
    if (refusal.code !== 401) throw refusal;
    // A client certificate that has expired is answered with 401 too.
    this.#connection.checkFiles();
    if (!await this.#credentials.renew(first, signal)) throw refusal;
    const credential = await this.#credentials.current(signal);
    const second = await this.#send(path, { options, credential, signal });
    if (second.ok) return second;
    throw await this.#refusal(second, { path, options, credential });
  }

  [Symbol.dispose](): void {
    this.#closed.abort(new DOMException("API client closed", "AbortError"));
    this.#connection[Symbol.dispose]();
  }

  async #send(
    path: string,
    { options, credential, signal }: Omit<Sent, "path"> & {
      readonly signal: AbortSignal;
    },
  ): Promise<Response> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), this.#answerTimeoutMs);
    try {
      return await this.#connection.use(
        credential,
        { fresh: options.freshConnection ?? false },
        (client) => {
          signal.throwIfAborted();
          return fetch(requestUrl(this.server, path, options.query), {
            client,
            method: options.method ?? "GET",
            headers: this.#requestHeaders(credential, options),
            ...(options.body !== undefined &&
              { body: JSON.stringify(options.body) }),
            // A redirect leads to a login page, and must not get the token.
            redirect: "manual",
            signal: AbortSignal.any([signal, late.signal]),
          });
        },
      );
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ConfigError) throw error;
      this.#connection.checkFiles();
      throw this.#unreachable(error, late.signal.aborted);
    } finally {
      clearTimeout(timer);
    }
  }

  #refusal(
    response: Response,
    { path, options, credential }: Sent,
  ): Promise<ApiError> {
    return apiErrorOf(response, {
      step: `Cannot ${options.method ?? "GET"} ${path}`,
      secrets: secretsOf(credential),
      nowMs: this.#clock.now(),
    });
  }

  /**
   * Pairs, not a Headers object: that one joins values of the same name with a
   * comma, and the API server takes "Impersonate-Group: a, b" for one group.
   */
  #requestHeaders(
    credential: Credential,
    options: ApiRequest,
  ): [string, string][] {
    const headers = [...this.#headers];
    if (credential.authorization !== undefined) {
      headers.push(["Authorization", credential.authorization.reveal()]);
    }
    if (options.body !== undefined) {
      headers.push([
        "Content-Type",
        options.method === "PATCH"
          ? "application/merge-patch+json"
          : "application/json",
      ]);
    }
    return headers;
  }

  #unreachable(error: unknown, late: boolean): UnreachableError {
    const server = this.server;
    if (late) {
      const seconds = this.#answerTimeoutMs / 1000;
      return new UnreachableError(server, `no answer within ${seconds} s`, {
        answered: false,
      });
    }
    const { reason, answered } = unreachableReason(error);
    return new UnreachableError(server, reason + this.#certificateHint(error), {
      cause: error,
      answered,
    });
  }

  #certificateHint(error: unknown): string {
    if (!isCertificateProblem(error)) return "";
    if (this.#config.insecureSkipTlsVerify) {
      const host = new URL(this.server).hostname.replace(/^\[|\]$/g, "");
      return ` ("insecure-skip-tls-verify" is set, but Deno cannot do that ` +
        `for one connection: start it with ` +
        `--unsafely-ignore-certificate-errors=${host}, or better, give the ` +
        `cluster's "certificate-authority")`;
    }
    return this.#config.ca === undefined
      ? ` (${this.#config.source} names no certificate authority; ` +
        `DENO_TLS_CA_STORE=system adds those of this machine)`
      : "";
  }
}

function requestUrl(
  server: string,
  path: string,
  query: Readonly<Record<string, string>> = {},
): string {
  const search = new URLSearchParams(query).toString();
  return server + path + (search === "" ? "" : `?${search}`);
}

/** What follows `Bearer` or `Basic`, should an answer repeat it. */
function secretsOf(credential: Credential): Secret[] {
  const value = credential.authorization?.reveal() ?? "";
  return [new Secret(value.slice(value.indexOf(" ") + 1))];
}

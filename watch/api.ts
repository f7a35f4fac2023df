/**
 * How the watch stage talks to an API server: one method, so that credentials,
 * TLS and token rotation stay in `client.ts`, and the list+watch protocol can
 * be tested without either.
 *
 * @module
 */
import type { Status } from "./types.ts";

export interface ApiRequest {
  readonly method?: "GET" | "POST" | "PATCH";
  readonly query?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Aborts the request, and the reading of its answer's body. */
  readonly signal?: AbortSignal;
  /**
   * Uses no connection that was open before: the one to ask with when an old
   * one may be dead.
   */
  readonly freshConnection?: boolean;
}

export interface ApiClient extends Disposable {
  /** Where it talks to, for people: `https://10.0.0.1:6443`. No secret in it. */
  readonly server: string;
  /**
   * Sends a request and answers with the response once its header is there.
   * The caller reads the body to its end or cancels it.
   *
   * @param path absolute, without a query: `/api/v1/services`
   * @throws {ApiError} the server answered, but not with 2xx
   * @throws {TypeError} the server could not be reached (the message says why;
   *   `createApiClient` throws its `UnreachableError`)
   */
  request(path: string, options?: ApiRequest): Promise<Response>;
}

/** The API server's refusal: its Status, or what could be made of the answer. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  /** @param step what was tried, as "Cannot list services" */
  constructor(readonly status: Status, step: string) {
    super(
      `${step}: API server answered ${status.code}` +
        (status.reason === "" ? "" : ` ${status.reason}`) +
        (status.message === "" ? "" : `: ${status.message}`),
    );
  }

  get code(): number {
    return this.status.code;
  }
}

/** The resourceVersion asked for is no longer kept: list again. */
export function isGone(error: unknown): boolean {
  return error instanceof ApiError && error.code === 410;
}

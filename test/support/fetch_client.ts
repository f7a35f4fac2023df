/**
 * The least API client there can be: fetch, and refusals as `ApiError`. For
 * tests of what stands on a client; the real one is watch/client.ts.
 *
 * @module
 */
import { type ApiClient, ApiError, type ApiRequest } from "../../watch/api.ts";
import { decodeStatus } from "../../watch/decode.ts";

export class FetchClient implements ApiClient {
  readonly server: string;
  readonly #connections = Deno.createHttpClient({});

  /** @param server `http://127.0.0.1:1234` */
  constructor(server: string) {
    this.server = server;
  }

  async request(path: string, options: ApiRequest = {}): Promise<Response> {
    const url = new URL(path, this.server);
    for (const [name, value] of Object.entries(options.query ?? {})) {
      url.searchParams.set(name, value);
    }
    const response = await fetch(url, {
      method: options.method ?? "GET",
      client: this.#connections,
      headers: options.freshConnection ? { connection: "close" } : {},
      ...(options.signal ? { signal: options.signal } : {}),
    });
    if (response.ok) return response;
    const text = await response.text();
    const status = decodeStatus(parsed(text), response.status);
    const retryAfter = Number(response.headers.get("retry-after"));
    throw new ApiError(
      retryAfter > 0 ? { ...status, retryAfterSeconds: retryAfter } : status,
      `Cannot get ${path}`,
    );
  }

  [Symbol.dispose](): void {
    this.#connections.close();
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return { message: text };
  }
}

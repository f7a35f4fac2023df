/**
 * An API client whose requests are counted: each with its code, and how long
 * its answer took. Passes everything on unchanged.
 *
 * @module
 */
import { type ApiClient, ApiError, type ApiRequest } from "../../watch/mod.ts";
import type { ProxyCounters } from "../status/proxy_counters.ts";

/** What client-go writes as code where no answer came. */
const NO_ANSWER = "<error>";

/**
 * A request that its own caller aborted is counted as nothing: it says nothing
 * of the API server.
 */
export function measuredClient(
  client: ApiClient,
  counters: ProxyCounters,
): ApiClient {
  const { host } = new URL(client.server);
  return {
    server: client.server,
    async request(path: string, options: ApiRequest = {}): Promise<Response> {
      const startedAt = performance.now();
      const seen = (code: string) =>
        counters.requested({
          method: options.method ?? "GET",
          host,
          code,
          seconds: (performance.now() - startedAt) / 1_000,
        });
      try {
        const response = await client.request(path, options);
        seen(String(response.status));
        return response;
      } catch (error) {
        if (error instanceof ApiError) seen(String(error.code));
        else if (!options.signal?.aborted) seen(NO_ANSWER);
        throw error;
      }
    },
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

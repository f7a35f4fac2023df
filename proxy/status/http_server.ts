/**
 * An HTTP server that can always be ended: for the few addresses on which the
 * proxy answers for itself. In: a handler. Out: its address and its end. Knows
 * nothing of what is asked.
 *
 * @module
 */

type Handler = (request: Request) => Response | Promise<Response>;

export interface HttpServer {
  readonly addr: Deno.NetAddr;
  /**
   * Stops listening and cuts what is open. `Deno.HttpServer.shutdown()` would
   * wait for requests under way, and so for a client that never sends the rest
   * of its request or never reads its answer: anybody could keep the proxy from
   * ending.
   */
  shutdown(): Promise<void>;
}

export interface HttpServerOptions {
  /** Answers are never compressed, whatever the client would take. */
  readonly isPlain?: boolean;
}

/** @throws {Deno.errors.AddrInUse} and what else `Deno.serve` throws */
export function serve(
  { ip, port }: { readonly ip: string; readonly port: number },
  handler: Handler,
  { isPlain = false }: HttpServerOptions = {},
): HttpServer {
  const ending = new AbortController();
  const server = Deno.serve({
    hostname: ip,
    port,
    automaticCompression: !isPlain,
    onListen: () => {},
    signal: ending.signal,
  }, handler);
  return {
    addr: server.addr,
    async shutdown() {
      ending.abort();
      await server.finished;
    },
  };
}

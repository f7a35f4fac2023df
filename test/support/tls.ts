/**
 * HTTPS servers on 127.0.0.1 with the certificates of test/fixture/tls/.
 *
 * @module
 */
import { createServer } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const FOLDER = new URL("../fixture/tls/", import.meta.url);

/** Absolute path of a file in test/fixture/tls/. */
export function tlsPath(name: string): string {
  return new URL(name, FOLDER).pathname;
}

/** Text of a file in test/fixture/tls/. */
export function tlsText(name: string): string {
  return Deno.readTextFileSync(tlsPath(name));
}

export interface TestServer extends AsyncDisposable {
  /** `https://127.0.0.1:PORT` */
  readonly url: string;
  readonly port: number;
}

/** Serves `handler`; disposing it cuts what is open. */
export function serveTls(
  handler: (request: Request) => Response | Promise<Response>,
  options: {
    certificate?: "server" | "named-server";
    /** Where a server is to be again where it was; any free one if not given. */
    port?: number;
  } = {},
): TestServer {
  const name = options.certificate ?? "server";
  const stop = new AbortController();
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: options.port ?? 0,
    cert: tlsText(`${name}.crt`),
    key: tlsText(`${name}.key`),
    signal: stop.signal,
    onListen() {},
  }, handler);
  return {
    url: `https://127.0.0.1:${server.addr.port}`,
    port: server.addr.port,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await server.finished;
    },
  };
}

/** The same, plain http. */
export function servePlain(
  handler: (request: Request) => Response | Promise<Response>,
): TestServer {
  const stop = new AbortController();
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    signal: stop.signal,
    onListen() {},
  }, handler);
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    port: server.addr.port,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await server.finished;
    },
  };
}

/**
 * A server that asks for a client certificate of the test CA, which
 * `Deno.serve` cannot do.
 */
export async function serveMutualTls(
  handler: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<TestServer> {
  const server = createServer({
    cert: tlsText("server.crt"),
    key: tlsText("server.key"),
    ca: tlsText("ca.crt"),
    requestCert: true,
    rejectUnauthorized: true,
  }, handler);
  await new Promise<void>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve())
  );
  const { port } = server.address() as AddressInfo;
  return {
    url: `https://127.0.0.1:${port}`,
    port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) =>
        server.close(() => resolve())
      );
      server.closeAllConnections();
      await closed;
    },
  };
}

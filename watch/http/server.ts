/**
 * An HTTP server that no client can hold: for the few addresses on which a
 * program answers for itself. In: an address and a handler. Out: its address
 * and its end. Knows nothing of what is asked.
 *
 * It is `node:http`'s, and not `Deno.serve`, which waits for ever for the rest
 * of a request's head, has no limit of connections, and cannot be ended while
 * somebody sends half a request.
 *
 * @module
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { Connections } from "./connections.ts";
import { exchange, type Handler } from "./exchange.ts";
import { PacedSocket } from "./paced_socket.ts";

/** What a client may take of us. */
export interface HttpLimits {
  /** Until the head of a request is complete, milliseconds. */
  readonly headMs: number;
  /** Until all of a request is there, milliseconds. */
  readonly requestMs: number;
  /** Until a client has read some of what was sent, milliseconds. */
  readonly stallMs: number;
  /** How long a connection may be kept between two requests, milliseconds. */
  readonly idleMs: number;
  /** The longest head, bytes. */
  readonly headBytes: number;
  /**
   * At a time. One more takes the place of the oldest that asks nothing, or of
   * the one that has not read its answers for longest.
   */
  readonly connections: number;
  /** Of one connection, before the first of them is answered; one more ends it. */
  readonly requests: number;
}

export const HTTP_LIMITS: HttpLimits = {
  headMs: 10_000,
  requestMs: 60_000,
  stallMs: 30_000,
  idleMs: 60_000,
  headBytes: 16_384,
  connections: 256,
  // Browsers, kubectl and Prometheus wait for an answer before they ask again.
  requests: 8,
};

/** Makes sockets that listen, where that is not this module's to do. */
export interface SocketSource {
  /** The descriptor is the server's, which closes it. */
  open(address: { readonly ip: string; readonly port: number }): {
    readonly fd: number;
  };
  /** It is to listen no more. */
  close(socket: { readonly fd: number }): void;
}

export interface ServeOptions extends Partial<HttpLimits> {
  /** Without it, the server makes its socket itself. */
  readonly sockets?: SocketSource | undefined;
}

export interface HttpServer {
  readonly addr: { readonly hostname: string; readonly port: number };
  /**
   * Stops listening: whoever is connected is answered for so long, and then
   * cut. For an address that another process serves from now on.
   */
  leave(graceMs: number): Promise<void>;
  /**
   * Stops listening and cuts what is open: at once, or those that are still
   * being answered after a while.
   */
  shutdown(graceMs?: number): Promise<void>;
}

/**
 * Serves HTTP/1.1 until `shutdown`.
 *
 * @throws {Deno.errors.AddrInUse} and what else `Deno.listen` throws
 */
export async function serve(
  { ip, port }: { readonly ip: string; readonly port: number },
  handler: Handler,
  { sockets, ...limits }: ServeOptions = {},
): Promise<HttpServer> {
  const all = { ...HTTP_LIMITS, ...limits };
  const connections = new Connections<PacedSocket>(all);
  const server = createServer({
    headersTimeout: all.headMs,
    requestTimeout: all.requestMs,
    keepAliveTimeout: all.idleMs,
    maxHeaderSize: all.headBytes,
    connectionsCheckingInterval: Math.ceil(all.headMs / 4),
  }, async (incoming, outgoing) => {
    // What servePaced() made of it.
    const socket = incoming.socket as unknown as PacedSocket;
    const done = connections.busy(socket);
    if (done === undefined) return;
    await socket.inTurn(() =>
      exchange({ incoming, outgoing }, handler, {
        stallMs: all.stallMs,
        onUnread: () => connections.unread(socket),
      })
    );
    done();
  });
  servePaced(server, (socket) => connections.admit(socket));
  server.on("clientError", refuse);
  const socket = sockets?.open({ ip, port });
  await listen(server, socket ?? { host: ip, port });
  const { address, port: bound } = server.address() as AddressInfo;
  const close = () => {
    if (socket !== undefined) sockets?.close(socket);
    return new Promise<void>((resolve) => server.close(() => resolve()));
  };
  return {
    addr: { hostname: address, port: bound },
    async leave(graceMs) {
      const closed = close();
      const timer = setTimeout(() => connections.cut(), graceMs);
      await closed;
      clearTimeout(timer);
    },
    async shutdown(graceMs = 0) {
      const closed = close();
      const cut = () => connections.cut();
      connections.cutIdle();
      const timer = graceMs > 0 ? setTimeout(cut, graceMs) : cut();
      await closed;
      clearTimeout(timer as number | undefined);
    },
  };
}

/** Puts a paced socket between the server and each of its connections. */
function servePaced(
  server: Server,
  admit: (socket: PacedSocket) => void,
): void {
  const serveConnection = server.listeners("connection");
  server.removeAllListeners("connection");
  server.on("connection", (socket: Socket) => {
    const paced = new PacedSocket(socket);
    admit(paced);
    for (const serve of serveConnection) serve.call(server, paced);
  });
}

async function listen(
  server: Server,
  where: { readonly host: string; readonly port: number } | {
    readonly fd: number;
  },
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(where, resolve);
  try {
    await promise;
  } catch (error) {
    // Node's names for what went wrong are not ours, and not always right.
    if ("host" in where) {
      Deno.listen({ hostname: where.host, port: where.port }).close();
    }
    throw error;
  } finally {
    server.off("error", reject);
  }
  // From here on: of single connections that could not be accepted.
  server.on("error", () => {});
}

/** What a request that cannot be read gets. */
const REFUSALS: Readonly<Record<string, string>> = {
  ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout",
  HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
};

/** For the answer to arrive, before the connection is cut. */
const LAST_WORD_MS = 1_000;

/** Of a socket, for Node's own use: the answer that it is busy with. */
interface Answering {
  readonly _httpMessage?: { readonly headersSent: boolean };
}

function refuse(error: Error & { code?: string }, socket: Socket): void {
  const { _httpMessage: answering } = socket as Socket & Answering;
  // An answer that has begun cannot be followed by another.
  if (!socket.writable || answering?.headersSent) {
    socket.destroy();
    return;
  }
  const status = REFUSALS[error.code ?? ""] ?? "400 Bad Request";
  socket.end(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
  );
  socket.setTimeout(LAST_WORD_MS, () => socket.destroy());
}

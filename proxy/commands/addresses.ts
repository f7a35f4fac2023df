/**
 * `IP:PORT` as flags take it, and serving HTTP there.
 *
 * @module
 */
import type { ApiServer, Listening } from "../../watch/apiserver/mod.ts";
import { canonicalIp, formatHostPort } from "../ip.ts";
import type { Handler } from "../../watch/http/exchange.ts";
import {
  type HttpServer,
  serve,
  type SocketSource,
} from "../../watch/http/server.ts";
import { errorLine, UserError } from "./errors.ts";
import { wholeNumber } from "./flags.ts";

export interface BindAddress {
  /** Without brackets. */
  readonly ip: string;
  readonly port: number;
}

/**
 * Reads `IP:PORT`, `[IPv6]:PORT` or an IP alone, which then has the default
 * port, as kube-proxy reads its bind addresses.
 *
 * @returns undefined for an empty text: the server is not wanted
 * @throws {UserError} naming the flag
 */
export function bindAddress(
  text: string,
  { flag, defaultPort }: { flag: string; defaultPort: number },
): BindAddress | undefined {
  if (text === "") return undefined;
  const whole = canonicalIp(text);
  if (whole !== undefined) return { ip: whole, port: defaultPort };
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text);
  const ip = match === null
    ? undefined
    : canonicalIp(match[1] ?? match[2] ?? "");
  if (match === null || ip === undefined) {
    throw new UserError(
      `Invalid value "${text}" for --${flag}: want IP:PORT, such as 127.0.0.1:${defaultPort}`,
    );
  }
  return {
    ip,
    port: wholeNumber(match[3] ?? "", { flag, min: 0, max: 65535 }),
  };
}

/**
 * Serves an HTTP app; the server stops, connections included, with `shutdown`.
 *
 * @throws {UserError} if the address cannot be had
 */
export async function serveHttp(
  { address, flag, handler, sockets }: {
    address: BindAddress;
    flag: string;
    handler: Handler;
    sockets?: SocketSource | undefined;
  },
): Promise<HttpServer> {
  try {
    return await serve(address, handler, { sockets });
  } catch (error) {
    throw cannotListen(error, { address, advice: chooseAnother(flag) });
  }
}

/**
 * Opens the embedded API server on 127.0.0.1.
 *
 * @throws {UserError} if the port cannot be had
 */
export async function listenApiserver(
  server: ApiServer,
  { port, flag }: { port: number; flag: string },
): Promise<Listening> {
  try {
    return await server.listen({ port });
  } catch (error) {
    throw cannotListen(error, {
      address: { ip: "127.0.0.1", port },
      advice: chooseAnother(flag),
    });
  }
}

function chooseAnother(flag: string): string {
  return `choose another with --${flag}`;
}

/** Which address, why not, and what helps: one line. */
export function cannotListen(
  error: unknown,
  { address, advice }: { address: BindAddress; advice: string },
): UserError {
  const where = formatHostPort(address.ip, address.port);
  return error instanceof Deno.errors.AddrInUse
    ? new AddressTakenError(
      `Cannot listen on ${where}: it is in use by another process; ${advice}`,
    )
    : new UserError(
      `Cannot listen on ${where}: ${errorLine(error)}; ${advice}`,
    );
}

/** Another process listens there. */
export class AddressTakenError extends UserError {}

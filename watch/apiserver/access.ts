/**
 * Who may talk to the server: programs on this machine, and no web page. A
 * browser can be made to send requests here by any page (and, with DNS
 * rebinding, to read the answers), so the Host has to be one we were reached
 * by, and an Origin has to be our own.
 *
 * @module
 */
import { BlockList, isIP, isIPv6 } from "node:net";
import { StatusError, tooLarge } from "./status.ts";

/** What a request may at most send (the real server's limit), in bytes. */
export const MAX_BODY_BYTES = 3 * 1024 * 1024;

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** Is it `localhost`, or an address of this machine's loopback? */
export function isLoopback(host: string): boolean {
  if (host === "localhost") return true;
  const version = isIP(host);
  return version !== 0 &&
    LOOPBACK.check(host, version === 6 ? "ipv6" : "ipv4");
}

/**
 * @param hosts reached by these, too, beside loopback
 * @throws {StatusError} 403
 */
export function checkAccess(
  request: Request,
  hosts: ReadonlySet<string>,
): void {
  const header = request.headers.get("host") ?? new URL(request.url).host;
  const host = hostname(header);
  if (host === undefined || !(isLoopback(host) || hosts.has(host))) {
    throw refusal(`Host "${header}" is not this server`);
  }
  const origin = request.headers.get("origin");
  if (
    origin !== null && origin.toLowerCase() !== `http://${header}`.toLowerCase()
  ) {
    throw refusal(`Origin "${origin}" is a foreign page`);
  }
}

/** Without the port, an IPv6 address without its brackets. */
function hostname(header: string): string | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:\[\]]+))(?::\d+)?$/.exec(header);
  const host = (match?.[1] ?? match?.[2])?.toLowerCase();
  return match?.[1] !== undefined && !isIPv6(match[1]) ? undefined : host;
}

function refusal(why: string): StatusError {
  return new StatusError(403, `forbidden: ${why}`, { reason: "Forbidden" });
}

/**
 * Reads a request's body, no further than the limit.
 *
 * @throws {StatusError} 413
 */
export async function readBody(request: Request): Promise<Uint8Array> {
  const length = Number(request.headers.get("content-length") ?? 0);
  if (length > MAX_BODY_BYTES) throw tooLarge(MAX_BODY_BYTES);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw tooLarge(MAX_BODY_BYTES);
    chunks.push(chunk);
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes;
}

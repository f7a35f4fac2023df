/**
 * One try of a client: it sends a text, and tells what it gets. For programs
 * that tests start in namespaces.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";

export interface Dial {
  readonly protocol: "tcp" | "udp";
  readonly ip: string;
  readonly port: number;
  readonly text?: string;
  /** Default: 4 s. */
  readonly timeoutMs?: number;
}

/**
 * The whole reply, or `error: ConnectionRefused` (the name of the error, or
 * `Timeout`), or `error: reply from IP` for a datagram of a stranger.
 */
export async function dial(
  { protocol, ip, port, text = "", timeoutMs = 4_000 }: Dial,
): Promise<string> {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), timeoutMs);
  const { signal } = deadline;
  try {
    return await (protocol === "udp"
      ? dialUdp(ip, port, { text, signal })
      : dialTcp(ip, port, { text, signal }));
  } catch (error) {
    if (signal.aborted) return "error: Timeout";
    // The node compatibility layer names neither kind nor code of some.
    const { name, code } = error as { name: string; code?: string };
    return `error: ${code === "ECONNREFUSED" ? "ConnectionRefused" : name}`;
  } finally {
    clearTimeout(timer);
  }
}

interface Options {
  readonly text: string;
  readonly signal: AbortSignal;
}

async function dialTcp(
  hostname: string,
  port: number,
  { text, signal }: Options,
): Promise<string> {
  using conn = await Deno.connect({ hostname, port, signal });
  // A reader that waits for ever is ended by closing under it.
  signal.addEventListener("abort", () => conn.close());
  await conn.write(new TextEncoder().encode(text));
  await conn.closeWrite();
  let reply = "";
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(65_536);
  for (;;) {
    const length = await conn.read(buffer);
    if (length === null) return reply;
    reply += decoder.decode(buffer.subarray(0, length), { stream: true });
  }
}

async function dialUdp(
  ip: string,
  port: number,
  { text, signal }: Options,
): Promise<string> {
  const socket = createSocket(ip.includes(":") ? "udp6" : "udp4");
  try {
    socket.send(text, port, ip);
    const [message, from] = await once(socket, "message", { signal });
    // Not connected, so that a reply from the wrong address is seen, not lost.
    return from.address === ip && from.port === port
      ? String(message)
      : `error: reply from ${from.address}`;
  } finally {
    socket.close();
  }
}

/**
 * A program for tests: a client that sends a text, and prints what it gets.
 *
 *     deno run dial.ts tcp 10.96.0.10 80 hello 4000
 *
 * Prints the whole reply, or `error: ConnectionRefused` (the name of the error,
 * or `Timeout`), or `error: reply from IP` for a datagram of a stranger.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { print } from "../../proxy/commands/terminal.ts";

const [protocol, ip = "", port = "", text = "", timeoutMs] = Deno.args;

async function dialTcp(signal: AbortSignal): Promise<string> {
  using conn = await Deno.connect({
    hostname: ip,
    port: Number(port),
    signal,
  });
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

async function dialUdp(signal: AbortSignal): Promise<string> {
  const socket = createSocket(ip.includes(":") ? "udp6" : "udp4");
  socket.send(text, Number(port), ip);
  const [message, from] = await once(socket, "message", { signal });
  // Not connected, so that a reply from the wrong address is seen, not lost.
  return from.address === ip && from.port === Number(port)
    ? String(message)
    : `error: reply from ${from.address}`;
}

const signal = AbortSignal.timeout(Number(timeoutMs));
try {
  print(await (protocol === "udp" ? dialUdp(signal) : dialTcp(signal)));
} catch (error) {
  const name = error instanceof Error ? error.name : String(error);
  print(`error: ${signal.aborted ? "Timeout" : name}`);
}
Deno.exit();

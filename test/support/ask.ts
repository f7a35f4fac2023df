/**
 * A program for tests: a client that asks one address several times, each time
 * over a connection (or from a port) of its own.
 *
 *     deno run ask.ts tcp 10.96.0.10 80 4 2000
 *
 * Sends as many bytes as the last argument says, wants them back after the line
 * that endpoint.ts answers first, and prints the names of who answered, one
 * after the other: `pod1 pod2 pod1 pod2`. In place of a name: `refused`,
 * `reset`, `nothing` (the end without an answer), `garbled`, `silent` (2 s).
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { print } from "../../proxy/commands/terminal.ts";

const TIMEOUT_MS = 2_000;

const [protocol, ip = "", port = "", times = "1", bytes = "5"] = Deno.args;
const text = "0123456789".repeat(Math.ceil(Number(bytes) / 10))
  .slice(0, Number(bytes));

async function askTcp(signal: AbortSignal): Promise<string> {
  using conn = await Deno.connect({
    hostname: ip,
    port: Number(port),
    signal,
  });
  // A reader that waits for ever is ended by closing under it.
  signal.addEventListener("abort", () => conn.close());
  await conn.write(new TextEncoder().encode(text));
  await conn.closeWrite();
  return await new Response(conn.readable).text();
}

async function askUdp(signal: AbortSignal): Promise<string> {
  const socket = createSocket(ip.includes(":") ? "udp6" : "udp4");
  try {
    socket.send(text, Number(port), ip);
    const [message, from] = await once(socket, "message", { signal });
    return from.address === ip ? String(message) : "an answer of another";
  } finally {
    socket.close();
  }
}

async function ask(): Promise<string> {
  const silent = new AbortController();
  const timer = setTimeout(() => silent.abort(), TIMEOUT_MS);
  try {
    const ask = protocol === "udp" ? askUdp : askTcp;
    const answer = await ask(silent.signal);
    if (answer === "") return "nothing";
    const end = answer.indexOf("\n");
    return answer.slice(end + 1) === text
      ? answer.split(" ")[0] ?? ""
      : "garbled";
  } catch (error) {
    if (silent.signal.aborted) return "silent";
    if (error instanceof Deno.errors.ConnectionRefused) return "refused";
    if (error instanceof Deno.errors.ConnectionReset) return "reset";
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

const names: string[] = [];
for (let i = 0; i < Number(times); i++) names.push(await ask());
print(names.join(" "));
Deno.exit();

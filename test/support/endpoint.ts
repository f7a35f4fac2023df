/**
 * A program for tests: an endpoint that says who it is and who it sees.
 *
 *     deno run endpoint.ts NAME tcp/10.244.0.2/8080 udp/fd00:244::2/8080 …
 *
 * On TCP it answers `NAME client-ip:port`, then echoes until the client has
 * sent everything, then closes. On UDP it answers each datagram with that line
 * and the datagram. Prints `ready` once everything is open.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { print } from "../../proxy/commands/terminal.ts";
import { formatHostPort } from "../../proxy/ip.ts";

const [name = "", ...addresses] = Deno.args;

async function serveTcp(ip: string, port: number): Promise<never> {
  const listener = Deno.listen({ hostname: ip, port });
  for (;;) serveConnection(await listener.accept());
}

async function serveConnection(conn: Deno.TcpConn): Promise<void> {
  const { hostname, port } = conn.remoteAddr;
  try {
    await conn.write(hello(hostname, port));
    const buffer = new Uint8Array(65_536);
    for (;;) {
      const length = await conn.read(buffer);
      if (length === null) break;
      for (let at = 0; at < length;) {
        at += await conn.write(buffer.subarray(at, length));
      }
    }
  } catch {
    // The client went away, as clients do.
  } finally {
    conn.close();
  }
}

async function serveUdp(ip: string, port: number): Promise<void> {
  const socket = createSocket(ip.includes(":") ? "udp6" : "udp4");
  socket.on("message", (message, from) => {
    const line = hello(from.address, from.port);
    socket.send([line, message], from.port, from.address);
  });
  socket.bind(port, ip);
  await once(socket, "listening");
}

function hello(ip: string, port: number): Uint8Array {
  return new TextEncoder().encode(`${name} ${formatHostPort(ip, port)}\n`);
}

for (const address of addresses) {
  const [protocol, ip = "", port = ""] = address.split("/");
  if (protocol === "udp") await serveUdp(ip, Number(port));
  else serveTcp(ip, Number(port));
}
print("ready\n");

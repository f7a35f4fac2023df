/**
 * An endpoint on every address of its namespace: asked anything, it says
 * which of them a client has reached, and closes.
 *
 *     deno run -A test/bench/modes/whoami.ts PORT
 *
 * @module
 */
import { print } from "../../../proxy/commands/terminal.ts";

const encoder = new TextEncoder();

async function answer(connection: Deno.TcpConn): Promise<void> {
  using _ = connection;
  try {
    // What is not read when it is closed would reset the answer.
    await connection.read(new Uint8Array(512));
    await connection.write(encoder.encode(connection.localAddr.hostname));
  } catch {
    // The client has gone: it asks again.
  }
}

if (import.meta.main) {
  const port = Number(Deno.args[0]);
  const listener = Deno.listen({ hostname: "0.0.0.0", port });
  print("Ready\n");
  for await (const connection of listener) void answer(connection);
}

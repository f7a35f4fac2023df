/**
 * A program for tests: one connection, held until SIGTERM. It sends a byte now
 * and then and wants it back from endpoint.ts.
 *
 *     deno run held_client.ts 10.96.0.10 80
 *     deno run held_client.ts 10.96.0.10 80 5 again
 *
 * The third argument is how many milliseconds it pauses, 20 without. With
 * `again` it does what clients of HTTP do that keep connections: where one ends
 * before the byte has come back, it sends it once more, on a new one.
 *
 * Prints `held` when it is open, and at the end `N came back`, or why not.
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";

const TIMEOUT_MS = 20_000;

const [hostname = "", port = "", pauseMs = "20", again] = Deno.args;
const buffer = new Uint8Array(256);
let isEnding = false;
Deno.addSignalListener("SIGTERM", () => isEnding = true);

async function connect(): Promise<Deno.Conn> {
  const conn = await Deno.connect({ hostname, port: Number(port) });
  // Who it is.
  await conn.read(buffer);
  return conn;
}

/** @throws {Error} if the byte does not come back */
async function ask(conn: Deno.Conn, byte: number): Promise<void> {
  const late = setTimeout(() => conn.close(), TIMEOUT_MS);
  try {
    await conn.write(new Uint8Array([byte]));
    const length = await conn.read(buffer);
    if (length !== 1 || buffer[0] !== byte) throw new Error("cut");
  } finally {
    clearTimeout(late);
  }
}

async function hold(): Promise<string> {
  let conn = await connect();
  print("held\n");
  let count = 0;
  for (; !isEnding; count++) {
    const byte = count % 256;
    try {
      await ask(conn, byte);
    } catch (error) {
      if (again === undefined) return `${error} after ${count}`;
      conn.close();
      conn = await connect();
      await ask(conn, byte);
    }
    await new Promise((resolve) => setTimeout(resolve, Number(pauseMs)));
  }
  conn.close();
  return `${count} came back`;
}

print(`${await hold().catch(String)}\n`);
Deno.exit();

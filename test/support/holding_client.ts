/**
 * A program for tests: TCP connections that are made, say hello once, and then
 * only wait for their end.
 *
 *     deno run holding_client.ts 10.96.0.10 80 5
 *
 * The last argument is how many. Prints the name of who answered each, then
 * `holding`, and, when the last has ended, how: `ended: reset reset end`.
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";

const HELLO = "hello";

const [hostname = "", port = "", count = "1"] = Deno.args;

async function hold(connection: Deno.Conn): Promise<string> {
  const buffer = new Uint8Array(1_024);
  try {
    while (await connection.read(buffer) !== null);
    return "end";
  } catch (error) {
    return error instanceof Deno.errors.ConnectionReset ? "reset" : `${error}`;
  }
}

/** All that the endpoint says: who it is, and back what it was told. */
async function hear(connection: Deno.Conn): Promise<string> {
  const buffer = new Uint8Array(1_024);
  const decoder = new TextDecoder();
  let heard = "";
  while (!heard.endsWith(HELLO)) {
    const length = await connection.read(buffer);
    if (length === null) throw new Error(`It ended after "${heard}"`);
    heard += decoder.decode(buffer.subarray(0, length));
  }
  return heard;
}

const connections: Deno.Conn[] = [];
for (let n = 0; n < Number(count); n++) {
  const connection = await Deno.connect({ hostname, port: Number(port) });
  await connection.write(new TextEncoder().encode(HELLO));
  const answer = await hear(connection);
  print(`${answer.split(" ")[0]}\n`);
  connections.push(connection);
}
print("holding\n");
const endings = await Promise.all(connections.map(hold));
print(`ended: ${endings.join(" ")}\n`);
Deno.exit();

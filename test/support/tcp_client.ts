/**
 * A program for tests: a TCP client that makes a new connection fifty times a
 * second, for as long as it runs, and waits for each answer.
 *
 *     deno run tcp_client.ts 10.96.0.10 80
 *
 * Prints `answer`, or `error: ConnectionRefused` (the name of the error, or
 * `Timeout`, or `Cut` for a connection that ended without an answer), whenever
 * it is another than before.
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";

const PERIOD_MS = 20;
const TIMEOUT_MS = 3_000;

const [hostname = "", port = ""] = Deno.args;
let last = "";

async function ask(): Promise<string> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  try {
    using conn = await Deno.connect({ hostname, port: Number(port), signal });
    const abort = () => conn.close();
    signal.addEventListener("abort", abort);
    const length = await conn.read(new Uint8Array(1_024));
    signal.removeEventListener("abort", abort);
    return length === null ? "error: Cut" : "answer";
  } catch (error) {
    const name = error instanceof Error ? error.name : String(error);
    return `error: ${signal.aborted ? "Timeout" : name}`;
  }
}

setInterval(async () => {
  const result = await ask();
  if (result !== last) print(`${result}\n`);
  last = result;
}, PERIOD_MS);

/**
 * A program for tests: a client that makes a new connection every few
 * milliseconds, whatever becomes of the others, until it gets SIGTERM. Each
 * sends a word and wants it back after the line that endpoint.ts answers first.
 *
 *     deno run steady_client.ts 10.96.0.10 80 150
 *     deno run steady_client.ts 127.0.0.1 10256 50 /healthz
 *
 * The third argument is how many it makes in a second, also when it was busy
 * with something else for a moment, but never more than 100 at a time; with a path it asks an HTTP server for
 * that, and wants 200. Prints `started`, the
 * name of each endpoint that it hears for the first time (`heard pod1`), and at
 * the end `N answered, M failed` and why.
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";

/** A machine that is busy with something else is slow, and not broken. */
const TIMEOUT_MS = 20_000;

/** At a time: on a machine that cannot keep up, more would only wait. */
const OPEN_MAX = 100;

const [ip = "", port = "", rate = "100", path] = Deno.args;
const question = path === undefined
  ? "ping"
  : `GET ${path} HTTP/1.1\r\nHost: ${ip}\r\nConnection: close\r\n\r\n`;
const heard = new Set<string>();
const failures: string[] = [];
const open = new Set<Promise<void>>();
let answered = 0;

async function request(): Promise<string> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  using conn = await Deno.connect({
    hostname: ip,
    port: Number(port),
    signal,
  });
  signal.addEventListener("abort", () => {
    try {
      conn.close();
    } catch {
      // Answered and closed long ago: the signal fires all the same.
    }
  });
  await conn.write(new TextEncoder().encode(question));
  if (path === undefined) await conn.closeWrite();
  const answer = await new Response(conn.readable).text();
  if (path !== undefined) {
    if (/^HTTP\/1\.1 200 /.test(answer)) return path;
    throw new Error(`answer "${answer.split("\r\n")[0]}"`);
  }
  if (!answer.endsWith("\nping")) throw new Error(`answer "${answer}"`);
  return answer.split(" ")[0] ?? "";
}

function begin(): void {
  const done = request().then((name) => {
    answered++;
    if (heard.has(name)) return;
    heard.add(name);
    print(`heard ${name}\n`);
  }, (error) => void failures.push(String(error)));
  open.add(done);
  done.then(() => open.delete(done));
}

const startedAt = performance.now();
let begun = 0;
const timer = setInterval(() => {
  const due = (performance.now() - startedAt) / 1_000 * Number(rate);
  for (; begun < due; begun++) if (open.size < OPEN_MAX) begin();
}, Math.min(20, 1_000 / Number(rate)));
print("started\n");
Deno.addSignalListener("SIGTERM", async () => {
  clearInterval(timer);
  await Promise.all(open);
  print(`${answered} answered, ${failures.length} failed\n`);
  for (const failure of new Set(failures)) print(`${failure}\n`);
  Deno.exit();
});

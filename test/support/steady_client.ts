/**
 * A program for tests: a client that makes a new connection every few
 * milliseconds, whatever becomes of the others, until it gets SIGTERM. Each
 * sends a word and wants it back after the line that endpoint.ts answers first.
 *
 *     deno run steady_client.ts 10.96.0.10 80 150
 *
 * The last argument is how many it makes in a second. Prints `started`, the
 * name of each endpoint that it hears for the first time (`heard pod1`), and at
 * the end `N answered, M failed` and why.
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";

const TIMEOUT_MS = 5_000;

const [ip = "", port = "", rate = "100"] = Deno.args;
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
  await conn.write(new TextEncoder().encode("ping"));
  await conn.closeWrite();
  const answer = await new Response(conn.readable).text();
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

const timer = setInterval(begin, 1_000 / Number(rate));
print("started\n");
Deno.addSignalListener("SIGTERM", async () => {
  clearInterval(timer);
  await Promise.all(open);
  print(`${answered} answered, ${failures.length} failed\n`);
  for (const failure of new Set(failures)) print(`${failure}\n`);
  Deno.exit();
});

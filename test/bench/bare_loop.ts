/**
 * What new connections cost the portable engine beside the least that a proxy
 * on Deno's sockets can do (accept, dial, copy both ways, and neither counts,
 * time-outs, a second endpoint nor a clean end), and beside nginx if it is here.
 *
 *     deno run -A test/bench/bare_loop.ts [--rounds 9]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { print, table } from "../../proxy/commands/terminal.ts";
import { Endpoints, Generator } from "./load/client.ts";
import { processTree } from "./load/cpu.ts";
import type { Address } from "./load/sys.ts";
import { median } from "./samples.ts";
import {
  findSubjects,
  raiseDescriptorLimit,
  type Running,
  script,
  startTied,
} from "./subjects.ts";

const SUBJECTS = ["portable", "nginx"];

/** The loop itself, as a process: prints its port. */
async function beLoop(hostname: string, port: number): Promise<void> {
  const listener = Deno.listen({
    hostname: "127.0.0.1",
    port: 0,
    tcpBacklog: 4096,
  });
  print(`Ready on port ${listener.addr.port}\n`);
  for await (const client of listener) {
    forward(client, hostname, port).catch(() => {});
  }
}

async function forward(
  client: Deno.TcpConn,
  hostname: string,
  port: number,
): Promise<void> {
  using _ = client;
  const to = { hostname, port, autoSelectFamily: false };
  using endpoint = await Deno.connect(to);
  await Promise.all([copy(client, endpoint), copy(endpoint, client)]);
}

async function copy(from: Deno.TcpConn, to: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(4096);
  for (;;) {
    const count = await from.read(buffer);
    if (count === null) break;
    for (let at = 0; at < count;) {
      at += await to.write(buffer.subarray(at, count));
    }
  }
  await to.closeWrite();
}

async function startLoop({ ip, port }: Address): Promise<Running> {
  const child = startTied(script("bare_loop.ts", ip, String(port)));
  const [, own] = await child.waitFor(/Ready on port (\d+)/);
  return {
    to: [{ ip: "127.0.0.1", port: Number(own) }],
    pids: processTree(child.pid),
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

async function compare(rounds: number): Promise<void> {
  raiseDescriptorLimit();
  await using stack = new AsyncDisposableStack();
  const endpoints = stack.use(await Endpoints.start(["127.0.0.1"]));
  const generator = stack.use(new Generator());
  const [endpoint] = endpoints.addresses;
  const running = new Map([["bare loop", await startLoop(endpoint!)]]);
  for (const { name, start } of findSubjects().found) {
    if (SUBJECTS.includes(name)) running.set(name, await start([endpoint!]));
  }
  for (const each of running.values()) stack.use(each);
  const names = [...running.keys()];
  const rates = new Map(names.map((name) => [name, [] as number[]]));
  const cpuUs = new Map(names.map((name) => [name, [] as number[]]));
  for (let round = 0; round < rounds; round++) {
    const first = round % names.length;
    for (const name of [...names.slice(first), ...names.slice(0, first)]) {
      const { to, pids } = running.get(name)!;
      const { count, seconds, cpuSeconds } = await generator.ask({
        type: "connect",
        concurrency: 32,
        to,
        pids,
        helpers: [],
        warmUpMs: 250,
        windowMs: 1_000,
      });
      rates.get(name)!.push(count / seconds);
      cpuUs.get(name)!.push(cpuSeconds / count * 1e6);
    }
  }
  const peer = rates.get("nginx") ?? [];
  const rows = names.map((name) => {
    const rate = rates.get(name)!;
    const ratios = peer.map((each, round) => rate[round]! / each);
    return [
      name,
      median(rate).toFixed(0),
      median(cpuUs.get(name)!).toFixed(0),
      ratios.length === 0 ? "" : `${median(ratios).toFixed(2)} ×`,
    ];
  });
  print(table(["", "CONNECTIONS/S", "CPU µs", "RATE TO NGINX"], rows));
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: "string", default: "9" } },
  });
  const [ip, port] = positionals;
  if (ip !== undefined) await beLoop(ip, Number(port));
  else await compare(Number(values.rounds));
}

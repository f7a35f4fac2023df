/**
 * Ways to forward UDP: our engines, the peer that this machine has, the other
 * kind of socket that Deno has, and no proxy at all.
 *
 *     deno run -A test/bench/udp_relays.ts [ROUNDS]
 *
 * Endpoint, proxy and client are processes of their own. For each way: questions
 * and answers of 64 bytes of one client with 32 under way, of 60,000 bytes with
 * two, and of a new client each time (a resolver's), and what a flow costs in
 * memory. Medians of as many rounds, 3 if not given.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import { print } from "../../proxy/commands/terminal.ts";
import { median } from "./samples.ts";
import {
  findSubjects,
  type Running,
  script,
  startTied,
  type Subject,
} from "./subjects.ts";

const FLOWS = 4_000;
const LIMIT_MS = 2_000;
/** Linux's USER_HZ, which /proc counts CPU time in. */
const TICKS_PER_SECOND = 100;

const LOOPBACK = { transport: "udp", hostname: "127.0.0.1", port: 0 } as const;

function portOf(socket: Deno.DatagramConn): number {
  return (socket.addr as Deno.NetAddr).port;
}

/** Sends everything back, for ever. */
async function endpoint(): Promise<never> {
  const socket = Deno.listenDatagram(LOOPBACK);
  print(`${portOf(socket)}\n`);
  const buffer = new Uint8Array(65_536);
  for (;;) {
    const [data, from] = await socket.receive(buffer);
    await socket.send(data, from);
  }
}

/** The least that forwards: no limits, no time-out, no errors. */
function relayByNode(target: number): void {
  const flows = new Map<string, Socket>();
  const listener = createSocket("udp4");
  listener.on("message", (data, client) => {
    const key = `${client.address} ${client.port}`;
    let flow = flows.get(key);
    if (flow === undefined) {
      flow = createSocket("udp4");
      flow.on("message", (answer, from) => {
        if (from.port !== target) return;
        listener.send(answer, client.port, client.address);
      });
      flows.set(key, flow);
    }
    flow.send(data, target, "127.0.0.1");
  });
  listener.bind(0, "127.0.0.1", () => print(`${listener.address().port}\n`));
}

/** The other way that Deno has. */
const NODE: Subject = {
  name: "node:dgram",
  udp: true,
  async start([endpoint]) {
    const port = String(endpoint!.port);
    const child = startTied(script("udp_relays.ts", "relay", port));
    const [, own] = await child.waitFor(/^(\d+)\n/);
    return {
      to: [{ ip: "127.0.0.1", port: Number(own) }],
      pids: [child.pid],
      [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
    };
  },
};

function cpuSeconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0);
}

function cpuSecondsOf(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1]!
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function memoryKiB(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const status = Deno.readTextFileSync(`/proc/${pid}/status`);
    return sum + Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]);
  }, 0);
}

const buffer = new Uint8Array(65_536);

/** False: nothing came in time. */
async function heard(socket: Deno.DatagramConn): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), LIMIT_MS);
  });
  const received = socket.receive(buffer).then(() => true, () => false);
  const isHeard = await Promise.race([received, late]);
  clearTimeout(timer);
  return isHeard;
}

/** One client; `window` questions are under way. */
async function converse(
  port: number,
  options: { count: number; bytes: number; window: number },
): Promise<void> {
  const socket = Deno.listenDatagram(LOOPBACK);
  const question = new Uint8Array(options.bytes);
  const to = { ...LOOPBACK, port };
  for (let n = 0; n < options.window; n++) await socket.send(question, to);
  for (let n = 0; n < options.count; n++) {
    if (!await heard(socket)) throw new Error("A datagram was lost");
    await socket.send(question, to);
  }
  socket.close();
}

/** A new client for each question. */
async function queries(port: number, count: number): Promise<void> {
  const question = new Uint8Array(64);
  for (let n = 0; n < count; n++) {
    const socket = Deno.listenDatagram(LOOPBACK);
    await socket.send(question, { ...LOOPBACK, port });
    if (!await heard(socket)) throw new Error("A datagram was lost");
    socket.close();
  }
}

/** Seven numbers: three rates, each with CPU µs, and KiB for a flow. */
async function measure(subject: Subject, endpoint: Running): Promise<number[]> {
  await using running = await subject.start(endpoint.to);
  const isDirect = running.pids.length === 0;
  const pids = isDirect ? endpoint.pids : running.pids;
  const { port } = running.to[0]!;
  const timed = async (count: number, run: () => Promise<void>) => {
    const cpu = cpuSeconds(pids);
    const begin = performance.now();
    await run();
    const perSecond = count / (performance.now() - begin) * 1_000;
    return [perSecond, (cpuSeconds(pids) - cpu) / count * 1e6];
  };
  const small = { count: 40_000, bytes: 64, window: 32 };
  const large = { count: 4_000, bytes: 60_000, window: 2 };
  await converse(port, { ...small, count: 5_000 });
  const results = [
    ...await timed(small.count, () => converse(port, small)),
    ...await timed(large.count, () => converse(port, large)),
  ];
  const before = memoryKiB(pids);
  results.push(...await timed(FLOWS, () => queries(port, FLOWS)));
  results.push(isDirect ? 0 : (memoryKiB(pids) - before) / FLOWS);
  return results;
}

async function main(rounds: number): Promise<void> {
  const child = startTied(script("udp_relays.ts", "endpoint"));
  const [, port] = await child.waitFor(/^(\d+)\n/);
  await using endpoint: Running = {
    to: [{ ip: "127.0.0.1", port: Number(port) }],
    pids: [child.pid],
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
  const { found, missing } = findSubjects();
  for (const why of missing) print(`${why}\n`);
  const subjects = [...found.filter(({ udp }) => udp), NODE];
  const results = new Map<string, number[][]>();
  for (let round = 0; round < rounds; round++) {
    for (const subject of subjects) {
      const numbers = await measure(subject, endpoint);
      results.set(subject.name, [
        ...results.get(subject.name) ?? [],
        numbers,
      ]);
    }
  }
  print(
    `${"".padEnd(18)} 64 bytes, /s  CPU µs  60,000, /s  CPU µs` +
      "  new client, /s  CPU µs  KiB each\n",
  );
  const widths = [13, 8, 12, 8, 16, 8, 10];
  for (const [name, of] of results) {
    const row = widths.map((width, index) =>
      median(of.map((numbers) => numbers[index]!)).toFixed(0).padStart(width)
    );
    print(`${name.padEnd(18)} ${row.join("")}\n`);
  }
}

const [role = "3", port] = Deno.args;
if (role === "endpoint") await endpoint();
else if (role === "relay") relayByNode(Number(port));
else await main(Number(role));

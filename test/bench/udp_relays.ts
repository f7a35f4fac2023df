/**
 * Ways to forward UDP in Deno, measured against each other and against no proxy
 * at all.
 *
 *     deno run -A test/bench/udp_relays.ts [RELAY …]
 *
 * Endpoint, proxy and client are processes of their own. For each way: questions
 * and answers of 64 bytes of one client with 32 under way, of 60,000 bytes with
 * two, and of a new client each time (a resolver's), and what a flow costs in
 * memory.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import { print } from "../../proxy/commands/terminal.ts";
import { createPortableEngine } from "../../proxy/engine/portable/engine.ts";
import { systemClock } from "../../watch/mod.ts";
import { INTERNAL, policy } from "../conformance/engine.ts";

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

async function relayByEngine(target: number): Promise<void> {
  const forwarder = createPortableEngine({ clock: systemClock }).forwarder(
    policy([{ ip: "127.0.0.1", port: target }], { protocol: "UDP" }),
  );
  const { address } = await forwarder.listen(
    { ip: "127.0.0.1", port: 0 },
    INTERNAL,
  );
  print(`${address.port}\n`);
}

interface Child {
  readonly pid: number;
  readonly port: number;
  stop(): Promise<void>;
}

async function start(...args: string[]): Promise<Child> {
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", import.meta.filename!, ...args],
    stdout: "piped",
  }).spawn();
  const reader = process.stdout.getReader();
  const { value } = await reader.read();
  return {
    pid: process.pid,
    port: Number(new TextDecoder().decode(value)),
    async stop() {
      process.kill("SIGKILL");
      await reader.cancel();
      await process.status;
    },
  };
}

function cpuSeconds(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1]!
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function memoryKiB(pid: number): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]);
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

async function measure(relay: string, target: Child): Promise<void> {
  const child = relay === "direct"
    ? target
    : await start("relay", relay, String(target.port));
  const timed = async (count: number, run: () => Promise<void>) => {
    const cpu = cpuSeconds(child.pid);
    const begin = performance.now();
    await run();
    const perSecond = count / (performance.now() - begin) * 1_000;
    const cpuMicros = (cpuSeconds(child.pid) - cpu) / count * 1e6;
    return `${perSecond.toFixed(0).padStart(8)} ${
      cpuMicros.toFixed(0).padStart(6)
    }`;
  };
  const small = { count: 40_000, bytes: 64, window: 32 };
  const large = { count: 4_000, bytes: 60_000, window: 2 };
  await converse(child.port, { ...small, count: 5_000 });
  const results = [
    await timed(small.count, () => converse(child.port, small)),
    await timed(large.count, () => converse(child.port, large)),
  ];
  const before = memoryKiB(child.pid);
  results.push(await timed(FLOWS, () => queries(child.port, FLOWS)));
  const memory = (memoryKiB(child.pid) - before) / FLOWS;
  results.push(memory.toFixed(0).padStart(6));
  print(`${relay.padEnd(12)} ${results.join("   ")}\n`);
  if (child !== target) await child.stop();
}

async function main(): Promise<void> {
  const target = await start("endpoint");
  print(
    "             64 bytes: /s   CPU µs   60,000: /s CPU µs   new: /s CPU µs  KiB/flow\n",
  );
  const relays = Deno.args.length > 0
    ? Deno.args
    : ["direct", "engine", "node:dgram"];
  for (const relay of relays) await measure(relay, target);
  await target.stop();
}

const [role, relay, port] = Deno.args;
if (role === "endpoint") await endpoint();
else if (role !== "relay") await main();
else if (relay === "engine") await relayByEngine(Number(port));
else relayByNode(Number(port));

/**
 * Ways to copy between two sockets in Deno, measured against each other: which
 * buffer, and whether not to use the streams of Deno or Node instead.
 *
 *     deno run -A test/bench/copy_strategies.ts [MEGABYTES] [STRATEGY …]
 *
 * Endpoint, proxy and client are processes of their own. For each strategy: a
 * download through the proxy, its speed and the proxy's CPU time; request and
 * answer on one connection; and the proxy's memory for idle connections.
 *
 * @module
 */
import { connect, createServer } from "node:net";
import { print } from "../../proxy/commands/terminal.ts";
import { createPortableEngine } from "../../proxy/engine/portable/engine.ts";
import { systemClock } from "../../watch/mod.ts";
import { INTERNAL, policy } from "../conformance/engine.ts";

const ROUND_TRIPS = 20_000;
const IDLE_CONNECTIONS = 2_000;
/** Linux's USER_HZ, which /proc counts CPU time in. */
const TICKS_PER_SECOND = 100;

type Relay = (client: Deno.TcpConn, endpoint: Deno.TcpConn) => Promise<unknown>;

async function copy(
  from: Deno.Conn,
  to: Deno.Conn,
  size: number,
): Promise<void> {
  const buffer = new Uint8Array(size);
  for (
    let count = await from.read(buffer);
    count !== null;
    count = await from.read(buffer)
  ) {
    let bytes = buffer.subarray(0, count);
    while (bytes.length > 0) bytes = bytes.subarray(await to.write(bytes));
  }
  await to.closeWrite();
}

function fixed(size: number): Relay {
  return (client, endpoint) =>
    Promise.all([copy(client, endpoint, size), copy(endpoint, client, size)]);
}

const RELAYS: Readonly<Record<string, Relay>> = {
  "loop, 4 KiB": fixed(4 << 10),
  "loop, 16 KiB": fixed(16 << 10),
  "loop, 64 KiB": fixed(64 << 10),
  "loop, 256 KiB": fixed(256 << 10),
  "loop, 1 MiB": fixed(1 << 20),
  "pipeTo": (client, endpoint) =>
    Promise.all([
      client.readable.pipeTo(endpoint.writable),
      endpoint.readable.pipeTo(client.writable),
    ]),
};

const STRATEGIES = ["engine", ...Object.keys(RELAYS), "node:net pipe"];

/** The child that is measured. Prints its port. */
async function proxy(strategy: string, target: number): Promise<void> {
  const loopback = { hostname: "127.0.0.1", port: 0 };
  if (strategy === "engine") {
    const forwarder = createPortableEngine({ clock: systemClock }).forwarder(
      policy([{ ip: "127.0.0.1", port: target }]),
    );
    const { address } = await forwarder.listen(
      { ip: "127.0.0.1", port: 0 },
      INTERNAL,
    );
    print(`${address.port}\n`);
  } else if (strategy === "node:net pipe") {
    const server = createServer({ allowHalfOpen: true }, (client) => {
      const endpoint = connect({
        host: "127.0.0.1",
        port: target,
        allowHalfOpen: true,
      });
      client.on("error", () => endpoint.destroy());
      endpoint.on("error", () => client.destroy());
      client.setNoDelay(true);
      endpoint.setNoDelay(true);
      client.pipe(endpoint).pipe(client);
    });
    server.listen(0, "127.0.0.1", () => {
      print(`${(server.address() as { port: number }).port}\n`);
    });
  } else {
    const listener = Deno.listen(loopback);
    print(`${listener.addr.port}\n`);
    for await (const client of listener) {
      const endpoint = await Deno.connect({ ...loopback, port: target });
      client.setNoDelay(true);
      endpoint.setNoDelay(true);
      RELAYS[strategy]!(client, endpoint).catch(() => {}).finally(() => {
        for (const connection of [client, endpoint]) {
          try {
            connection.close();
          } catch { /* closed by pipeTo */ }
        }
      });
    }
  }
}

/** Gets a number of bytes as 8 bytes, sends that many; 0: echoes instead. */
async function endpoint(): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  print(`${listener.addr.port}\n`);
  const chunk = new Uint8Array(256 << 10);
  for await (const connection of listener) {
    (async () => {
      const head = new Uint8Array(8);
      if (await connection.read(head) === null) return;
      let rest = Number(new DataView(head.buffer).getBigUint64(0));
      if (rest === 0) return await copy(connection, connection, 4096);
      while (rest > 0) {
        rest -= await connection.write(
          chunk.subarray(0, Math.min(rest, chunk.length)),
        );
      }
    })().catch(() => {}).finally(() => connection.close());
  }
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

async function ask(port: number, bytes: number): Promise<Deno.TcpConn> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  connection.setNoDelay(true);
  const head = new Uint8Array(8);
  new DataView(head.buffer).setBigUint64(0, BigInt(bytes));
  await connection.write(head);
  return connection;
}

function cpuSeconds(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1]!
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function memoryMiB(pid: number): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

async function measure(strategy: string, target: number, bytes: number) {
  const child = await start("proxy", strategy, String(target));
  const buffer = new Uint8Array(256 << 10);

  const download = async (size: number) => {
    using connection = await ask(child.port, size);
    let rest = size;
    while (rest > 0) rest -= await connection.read(buffer) ?? rest;
  };
  await download(64 << 20);
  let [cpu, time] = [cpuSeconds(child.pid), performance.now()];
  await download(bytes);
  const seconds = (performance.now() - time) / 1000;
  const gigabytes = bytes / 1e9;
  const streamCpu = (cpuSeconds(child.pid) - cpu) / gigabytes;

  using talk = await ask(child.port, 0);
  const request = new Uint8Array(100);
  const roundTrip = async () => {
    await talk.write(request);
    for (let got = 0; got < 100;) got += await talk.read(buffer) ?? 100;
  };
  for (let n = 0; n < 2_000; n++) await roundTrip();
  [cpu, time] = [cpuSeconds(child.pid), performance.now()];
  for (let n = 0; n < ROUND_TRIPS; n++) await roundTrip();
  const trips = ROUND_TRIPS / (performance.now() - time) * 1000;
  const tripCpu = (cpuSeconds(child.pid) - cpu) / ROUND_TRIPS * 1e6;

  const before = memoryMiB(child.pid);
  const idle: Deno.TcpConn[] = [];
  for (let n = 0; n < IDLE_CONNECTIONS; n++) {
    const connection = await ask(child.port, 0);
    await connection.write(request);
    await connection.read(buffer);
    idle.push(connection);
  }
  const memory = (memoryMiB(child.pid) - before) / IDLE_CONNECTIONS * 1024;
  for (const connection of idle) connection.close();
  await child.stop();

  print(
    [
      strategy.padEnd(16),
      (gigabytes / seconds).toFixed(2).padStart(6),
      streamCpu.toFixed(2).padStart(8),
      trips.toFixed(0).padStart(8),
      tripCpu.toFixed(1).padStart(8),
      memory.toFixed(0).padStart(8),
    ].join(" ") + "\n",
  );
}

async function main(): Promise<void> {
  const [megabytes = "2000", ...chosen] = Deno.args;
  const target = await start("endpoint");
  print(
    "strategy           GB/s CPU s/GB  trips/s  CPU µs/trip  KiB/idle connection\n",
  );
  for (const strategy of chosen.length > 0 ? chosen : STRATEGIES) {
    await measure(strategy, target.port, Number(megabytes) * 1e6);
  }
  await target.stop();
}

const [role, first = "", second = ""] = Deno.args;
if (role === "proxy") await proxy(first, Number(second));
else if (role === "endpoint") await endpoint();
else await main();

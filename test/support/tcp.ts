/**
 * Real TCP peers on loopback for tests: servers that echo, refuse, swallow or
 * break off, and clients that reset. Everything is closed by `await using`.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { connect, createServer, type Socket } from "node:net";
import type { EndpointAddress } from "../../proxy/engine/engine.ts";

/** A server on a free port of `address.ip`. */
export interface TestServer extends AsyncDisposable {
  readonly address: EndpointAddress;
  /** Connections accepted so far. */
  readonly accepted: number;
}

/**
 * Calls `serve` for each connection, closes the connection when it is done,
 * and forgives what a broken connection throws.
 */
export function tcpServer(
  serve: (connection: Deno.TcpConn) => Promise<void>,
  ip = "127.0.0.1",
): TestServer {
  const listener = Deno.listen({ hostname: ip, port: 0, tcpBacklog: 4096 });
  const open = new Map<Deno.TcpConn, Promise<void>>();
  let accepted = 0;
  const loop = (async () => {
    while (true) {
      const connection = await acceptNext(listener);
      if (connection === undefined) return;
      accepted++;
      const served = serve(connection).catch(() => {}).finally(() => {
        open.delete(connection);
        closeQuietly(connection);
      });
      open.set(connection, served);
    }
  })();
  return {
    address: { ip, port: listener.addr.port },
    get accepted() {
      return accepted;
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      await loop;
      const served = [...open.values()];
      for (const connection of open.keys()) closeQuietly(connection);
      await Promise.all(served);
    },
  };
}

/** Undefined: the listener was closed. */
async function acceptNext(
  listener: Deno.TcpListener,
): Promise<Deno.TcpConn | undefined> {
  while (true) {
    try {
      return await listener.accept();
    } catch (error) {
      if (error instanceof Deno.errors.BadResource) return undefined;
      if (error instanceof Deno.errors.Interrupted) return undefined;
      // The client reset its connection before it was accepted.
      assert.ok(error instanceof Deno.errors.NotConnected, String(error));
    }
  }
}

/** Sends back what it gets, and ends when the client has ended. */
export function echoServer(ip = "127.0.0.1"): TestServer {
  return tcpServer(async (connection) => {
    const buffer = new Uint8Array(64 * 1024);
    for (
      let count = await connection.read(buffer);
      count !== null;
      count = await connection.read(buffer)
    ) await writeAll(connection, buffer.subarray(0, count));
    await connection.closeWrite();
  }, ip);
}

/** Says its name and ends. */
export function namedServer(name: string, ip = "127.0.0.1"): TestServer {
  return tcpServer((connection) => writeAll(connection, text(name)), ip);
}

/** Hands out its connections, which `resetAndDestroy` can break. */
export interface NodeServer extends AsyncDisposable {
  readonly address: EndpointAddress;
  next(): Promise<Socket>;
}

export async function nodeServer(): Promise<NodeServer> {
  const waiting: ((socket: Socket) => void)[] = [];
  const sockets: Socket[] = [];
  const server = createServer(
    { allowHalfOpen: true, pauseOnConnect: true },
    (socket) => {
      socket.on("error", () => {});
      const take = waiting.shift();
      if (take === undefined) sockets.push(socket);
      else take(socket);
    },
  );
  await new Promise<void>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve())
  );
  const { port } = server.address() as { port: number };
  return {
    address: { ip: "127.0.0.1", port },
    next() {
      const socket = sockets.shift();
      return socket !== undefined
        ? Promise.resolve(socket)
        : new Promise((resolve) => waiting.push(resolve));
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A client that can reset the connection (`resetAndDestroy`). */
export async function nodeClient(address: EndpointAddress): Promise<Socket> {
  const socket = connect({
    host: address.ip,
    port: address.port,
    allowHalfOpen: true,
  });
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("connect", resolve));
  return socket;
}

/** Resets and waits until the socket is gone. */
export async function reset(socket: Socket): Promise<void> {
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.resetAndDestroy();
  await closed;
}

/** An address on which nobody listens, a different one for each number. */
export function refusing(number = 1): EndpointAddress {
  return { ip: `127.77.0.${number}`, port: 1 };
}

/**
 * A listener that answers no further connection attempt: its backlog is full,
 * and Linux drops the SYN then. Dials to it run into their time-out.
 */
export async function blackHole(): Promise<TestServer> {
  const listener = Deno.listen({
    hostname: "127.0.0.1",
    port: 0,
    tcpBacklog: 1,
  });
  const held: Deno.TcpConn[] = [];
  while (true) {
    const give = AbortSignal.timeout(200);
    try {
      held.push(
        await Deno.connect({
          hostname: "127.0.0.1",
          port: listener.addr.port,
          signal: give,
        }),
      );
    } catch {
      break;
    }
    assert.ok(held.length < 10, "the backlog does not fill");
  }
  return {
    address: { ip: "127.0.0.1", port: listener.addr.port },
    accepted: 0,
    [Symbol.asyncDispose]() {
      for (const connection of held) connection.close();
      listener.close();
      return Promise.resolve();
    },
  };
}

export function dialServer(address: EndpointAddress): Promise<Deno.TcpConn> {
  return Deno.connect({ hostname: address.ip, port: address.port });
}

export async function writeAll(
  connection: Deno.Conn,
  bytes: Uint8Array,
): Promise<void> {
  while (bytes.length > 0) {
    bytes = bytes.subarray(await connection.write(bytes));
  }
}

/**
 * Connects, and tells which server's name came back; empty if none did.
 *
 * @param from the client's own address, if it matters
 */
export async function askName(
  address: EndpointAddress,
  from?: string,
): Promise<string> {
  if (from === undefined) {
    using connection = await dialServer(address);
    return new TextDecoder().decode(await readAll(connection));
  }
  const socket = connect({
    host: address.ip,
    port: address.port,
    localAddress: from,
    allowHalfOpen: true,
  });
  let name = "";
  socket.setEncoding("utf8").on("data", (chunk) => name += chunk);
  await new Promise((resolve) => {
    socket.once("error", resolve).once("end", resolve);
  });
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.destroy();
  await closed;
  return name;
}

/** Everything up to the end. */
export async function readAll(connection: Deno.Conn): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const buffer = new Uint8Array(64 * 1024);
  for (
    let count = await connection.read(buffer);
    count !== null;
    count = await connection.read(buffer)
  ) chunks.push(buffer.slice(0, count));
  const all = new Uint8Array(
    chunks.reduce((sum, { length }) => sum + length, 0),
  );
  let offset = 0;
  for (const chunk of chunks) {
    all.set(chunk, offset);
    offset += chunk.length;
  }
  return all;
}

/** Exactly `length` bytes. */
export async function readExactly(
  connection: Deno.Conn,
  length: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let offset = 0;
  while (offset < length) {
    const count = await connection.read(bytes.subarray(offset));
    assert.notEqual(count, null, `ended after ${offset} of ${length} bytes`);
    offset += count ?? 0;
  }
  return bytes;
}

/** How the other side ended the connection; bytes before it are thrown away. */
export async function ending(
  connection: Deno.Conn,
): Promise<"end" | "reset"> {
  const buffer = new Uint8Array(64 * 1024);
  try {
    while (await connection.read(buffer) !== null);
    return "end";
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionReset) return "reset";
    throw error;
  }
}

/**
 * Connects, sends nothing, and tells how the other side ended it. It may have
 * been reset before `connect` is back.
 */
export async function dialEnding(
  address: EndpointAddress,
): Promise<"end" | "reset"> {
  try {
    using connection = await dialServer(address);
    return await ending(connection);
  } catch (error) {
    if (
      error instanceof Deno.errors.ConnectionReset ||
      error instanceof Deno.errors.NotConnected
    ) return "reset";
    throw error;
  }
}

export function closeQuietly(connection: { close(): void }): void {
  try {
    connection.close();
  } catch {
    // It was closed before.
  }
}

export function text(value: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(value);
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Bytes without a pattern that a mixed-up buffer could keep. */
export function noise(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let offset = 0; offset < length; offset += 65_536) {
    crypto.getRandomValues(bytes.subarray(offset, offset + 65_536));
  }
  return bytes;
}

/** Waits for something that can only be asked for, not awaited. */
export async function until(
  what: string,
  isSo: () => boolean,
  limitMs = 10_000,
): Promise<void> {
  const end = performance.now() + limitMs;
  while (!isSo()) {
    assert.ok(performance.now() < end, `not in time: ${what}`);
    await sleep(5);
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Fails instead of hanging. */
export async function within<T>(
  limitMs: number,
  promise: Promise<T>,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new assert.AssertionError({
            message: `took longer than ${limitMs} ms`,
          }),
        ),
      limitMs,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Open descriptors of this process. */
export function descriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

/** Undefined where `::1` can be bound. */
export function noIpv6(): string | undefined {
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return undefined;
  } catch {
    return "no IPv6 on loopback";
  }
}

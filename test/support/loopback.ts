/**
 * Endpoints and clients on 127.0.0.0/8, for tests of the whole program: servers
 * that say their name, and what a client gets from an address.
 *
 * @module
 */
import assert from "node:assert/strict";
import { within } from "./tcp.ts";

/** A client that has waited this long has got nothing. */
const CLIENT_TIMEOUT_MS = 5_000;
/** Longer than anything takes to come about on a busy machine. */
const PATIENCE_MS = 20_000;
const LOOK_EVERY_MS = 20;

const RANGES = 100;
const drawn = new Set<string>();

/**
 * The first two numbers of a range of addresses that nobody else in this process
 * uses, and probably no other process.
 */
export function loopbackRange(): string {
  for (;;) {
    const range = `127.${100 + Math.floor(Math.random() * RANGES)}`;
    if (drawn.has(range) && drawn.size < RANGES) continue;
    drawn.add(range);
    return range;
  }
}

/**
 * An HTTP server that answers one line whose first word is its name, on one
 * port of several addresses: `NAME-1` on the first, and so on.
 */
export interface HttpEndpoints extends AsyncDisposable {
  readonly addresses: readonly string[];
  readonly port: number;
  /** Answers of each address so far. */
  readonly counts: readonly number[];
}

/** @param port 0: a free one */
export function httpEndpoints(
  name: string,
  addresses: readonly string[],
  port = 0,
): HttpEndpoints {
  const counts = addresses.map(() => 0);
  const servers: Deno.HttpServer<Deno.NetAddr>[] = [];
  for (const [index, hostname] of addresses.entries()) {
    const taken = servers[0]?.addr.port ?? port;
    const onListen = () => {};
    const server = Deno.serve({ hostname, port: taken, onListen }, () => {
      counts[index] = (counts[index] ?? 0) + 1;
      return new Response(`${name}-${index + 1} on ${hostname}\n`);
    });
    servers.push(server);
  }
  return {
    addresses,
    port: servers[0]?.addr.port ?? port,
    counts,
    async [Symbol.asyncDispose]() {
      await Promise.all(servers.map((server) => server.shutdown()));
    },
  };
}

/** Connects; the caller closes. */
export function connect(ip: string, port: number): Promise<Deno.TcpConn> {
  return Deno.connect({
    hostname: ip,
    port,
    signal: AbortSignal.timeout(CLIENT_TIMEOUT_MS),
  });
}

/**
 * The first word of what an HTTP server behind this address says; `refused` if
 * nobody listens, `closed` if the connection ends without an answer.
 */
export async function whoAnswers(ip: string, port: number): Promise<string> {
  let answer;
  try {
    using connection = await connect(ip, port);
    answer = await within(CLIENT_TIMEOUT_MS, ask(connection));
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return "refused";
    // Maybe it was in the backlog of a listener that has just been closed.
    if (isCutOff(error)) return "closed";
    throw error;
  }
  const [, body = ""] = answer.split("\r\n\r\n");
  return body.split(" ")[0] || "closed";
}

function isCutOff(error: unknown): boolean {
  return error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.BrokenPipe ||
    error instanceof Deno.errors.NotConnected;
}

/** Who answered how often, of `times` connections one after the other. */
export async function tally(
  times: number,
  ask: () => Promise<string>,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (let time = 0; time < times; time++) {
    const who = await ask();
    counts[who] = (counts[who] ?? 0) + 1;
  }
  return counts;
}

export async function say(connection: Deno.Conn, text: string): Promise<void> {
  await connection.write(new TextEncoder().encode(text));
}

/** What comes next, some of it at least; empty at the end. */
export async function hear(connection: Deno.Conn): Promise<string> {
  const buffer = new Uint8Array(65_536);
  const length = await within(CLIENT_TIMEOUT_MS, connection.read(buffer));
  return new TextDecoder().decode(buffer.subarray(0, length ?? 0));
}

async function ask(connection: Deno.Conn): Promise<string> {
  await say(
    connection,
    "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
  );
  return await readAll(connection);
}

async function readAll(connection: Deno.Conn): Promise<string> {
  let text = "";
  try {
    for (
      let more = await hear(connection);
      more !== "";
      more = await hear(connection)
    ) text += more;
  } catch (error) {
    if (!isCutOff(error)) throw error;
  }
  return text;
}

/**
 * Waits until what is asked for again and again is so; for what cannot be
 * awaited, since it happens in another process.
 */
export async function eventually<T>(
  what: string,
  look: () => Promise<T> | T,
  isSo: (seen: T) => boolean,
  patienceMs = PATIENCE_MS,
): Promise<T> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const seen = await look();
    if (isSo(seen)) return seen;
    assert.ok(
      performance.now() < deadline,
      `Not in time: ${what}; last seen: ${JSON.stringify(seen)}`,
    );
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

/** The status of an HTTP GET, its body thrown away; 0 if nobody listens. */
export async function httpStatus(url: string): Promise<number> {
  using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  try {
    const response = await fetch(url, {
      client,
      signal: AbortSignal.timeout(CLIENT_TIMEOUT_MS),
    });
    await response.body?.cancel();
    return response.status;
  } catch (error) {
    if (error instanceof TypeError) return 0;
    throw error;
  }
}

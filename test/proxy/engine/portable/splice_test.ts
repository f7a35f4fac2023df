import assert from "node:assert/strict";
import fc from "fast-check";
import type { Traffic } from "../../../../proxy/engine/counters.ts";
import {
  BufferPool,
  LARGE_BUFFERS_MAX,
} from "../../../../proxy/engine/portable/buffers.ts";
import {
  type EarlyRead,
  splice,
  type SpliceResult,
} from "../../../../proxy/engine/portable/splice.ts";
import {
  ending,
  nodeClient,
  noise,
  readAll,
  readExactly,
  reset,
  sha256,
  text,
  writeAll,
} from "../../../support/tcp.ts";

interface Spliced extends Disposable {
  /** The two far ends. */
  readonly client: Deno.TcpConn;
  readonly endpoint: Deno.TcpConn;
  readonly traffic: Traffic;
  readonly buffers: BufferPool;
  readonly signal: AbortController;
  readonly result: Promise<SpliceResult>;
}

interface Settings {
  readonly lingerMs?: number;
  readonly early?: (near: Deno.TcpConn) => EarlyRead;
}

async function pair(): Promise<[near: Deno.TcpConn, far: Deno.TcpConn]> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const far = Deno.connect({
    hostname: "127.0.0.1",
    port: listener.addr.port,
  });
  return [await listener.accept(), await far];
}

async function spliced(settings: Settings = {}): Promise<Spliced> {
  const [nearClient, client] = await pair();
  const [nearEndpoint, endpoint] = await pair();
  const traffic = { bytesToEndpoints: 0, bytesToClients: 0 };
  const buffers = new BufferPool();
  const signal = new AbortController();
  const result = splice(nearClient, nearEndpoint, {
    lingerMs: settings.lingerMs ?? 60_000,
    signal: signal.signal,
    buffers,
    traffic,
    ...(settings.early === undefined
      ? {}
      : { earlyRead: settings.early(nearClient) }),
  });
  return {
    client,
    endpoint,
    traffic,
    buffers,
    signal,
    result,
    [Symbol.dispose]() {
      client.close();
      endpoint.close();
      signal.abort();
    },
  };
}

Deno.test("splice() ends with eof when both have ended, and counts", async () => {
  using both = await spliced();
  await writeAll(both.client, text("question"));
  await both.client.closeWrite();
  assert.deepEqual(await readAll(both.endpoint), text("question"));
  await writeAll(both.endpoint, text("answer!"));
  await both.endpoint.closeWrite();
  assert.deepEqual(await readAll(both.client), text("answer!"));
  assert.deepEqual(await both.result, {
    reason: "eof",
    bytesToEndpoint: 8,
    bytesToClient: 7,
  });
  assert.deepEqual(both.traffic, { bytesToEndpoints: 8, bytesToClients: 7 });
});

Deno.test("splice() ends with idle when the second end does not come", async () => {
  using both = await spliced({ lingerMs: 50 });
  await both.endpoint.closeWrite();
  assert.equal((await both.result).reason, "idle");
  assert.equal(await ending(both.client), "end");
});

Deno.test("splice() ends with aborted on its signal", async () => {
  using both = await spliced();
  await writeAll(both.client, text("1"));
  await readExactly(both.endpoint, 1);
  both.signal.abort();
  assert.deepEqual(await both.result, {
    reason: "aborted",
    bytesToEndpoint: 1,
    bytesToClient: 0,
  });
  assert.equal(await ending(both.client), "end");
  assert.equal(await ending(both.endpoint), "end");
});

Deno.test("splice() ends with reset when a side breaks the connection", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const connecting = nodeClient({ ip: "127.0.0.1", port: listener.addr.port });
  const nearClient = await listener.accept();
  const [nearEndpoint, endpoint] = await pair();
  const result = splice(nearClient, nearEndpoint, {
    lingerMs: 60_000,
    signal: new AbortController().signal,
    buffers: new BufferPool(),
    traffic: { bytesToEndpoints: 0, bytesToClients: 0 },
  });
  const client = await connecting;
  await new Promise((resolve) => client.write(text("1"), resolve));
  await readExactly(endpoint, 1);
  await reset(client);
  assert.equal((await result).reason, "reset");
  assert.equal(await ending(endpoint), "end");
  endpoint.close();
});

Deno.test("splice() begins with what was read early", async () => {
  const buffer = new Uint8Array(10);
  buffer.set(text("early"));
  using both = await spliced({
    early: () => ({ buffer, result: Promise.resolve(5) }),
  });
  await writeAll(both.client, text(" late"));
  await both.client.closeWrite();
  assert.deepEqual(await readAll(both.endpoint), text("early late"));
});

Deno.test("splice() passes on an end that was read early", async () => {
  using both = await spliced({
    early: (near) => {
      const buffer = new Uint8Array(10);
      return { buffer, result: near.read(buffer).then(() => null) };
    },
  });
  await writeAll(both.client, text("x"));
  assert.equal(await ending(both.endpoint), "end");
});

Deno.test("splice() borrows a large buffer only while bytes keep coming", async () => {
  using both = await spliced();
  const bytes = noise(1 << 20);
  const received = readExactly(both.client, bytes.length);
  await writeAll(both.endpoint, bytes);
  assert.deepEqual(await received, bytes);
  // The last read was not full, or its buffer was exactly filled by the last
  // bytes; one more byte tells either way.
  await writeAll(both.endpoint, text("."));
  await readExactly(both.client, 1);
  await writeAll(both.endpoint, text("."));
  await readExactly(both.client, 1);
  assert.equal(both.buffers.lent, 0);
  await writeAll(both.endpoint, noise(1 << 16));
  both.signal.abort();
  await both.result;
  assert.equal(both.buffers.lent, 0);
});

Deno.test("splice() passes on the same bytes for any chunks and any order of ends", async () => {
  const chunks = fc.array(
    fc.oneof(
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ max: 300_000, min: 1 }),
    ),
    { maxLength: 6 },
  );
  const side = fc.record({
    chunks,
    /** Ends only when the other side has ended. */
    endsLast: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(side, side, async (up, down) => {
      using both = await spliced();
      const play = async (
        connection: Deno.TcpConn,
        { chunks, endsLast }: typeof up,
      ) => {
        const sent = noise(chunks.reduce((sum, size) => sum + size, 0));
        const reading = readAll(connection);
        let offset = 0;
        for (const size of chunks) {
          await writeAll(connection, sent.subarray(offset, offset += size));
        }
        if (endsLast) await reading;
        await connection.closeWrite();
        return { sent, received: await reading };
      };
      const [client, endpoint] = await Promise.all([
        play(both.client, up),
        play(both.endpoint, {
          ...down,
          endsLast: down.endsLast && !up.endsLast,
        }),
      ]);
      assert.equal(sha256(client.received), sha256(endpoint.sent));
      assert.equal(sha256(endpoint.received), sha256(client.sent));
      assert.deepEqual(await both.result, {
        reason: "eof",
        bytesToEndpoint: client.sent.length,
        bytesToClient: endpoint.sent.length,
      });
      assert.equal(both.buffers.lent, 0);
    }),
    { numRuns: 60 },
  );
});

Deno.test("BufferPool lends a bounded number", () => {
  const pool = new BufferPool();
  const lent = Array.from({ length: LARGE_BUFFERS_MAX }, () => pool.take()!);
  assert.equal(new Set(lent).size, LARGE_BUFFERS_MAX);
  assert.equal(pool.take(), undefined);
  for (const buffer of lent) pool.giveBack(buffer);
  assert.equal(pool.lent, 0);
  assert.notEqual(pool.take(), undefined);
});

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  parseWatchEvent,
  readWatchEvents,
  type WatchEvent,
  WatchLineError,
} from "../../watch/watch_stream.ts";
import { readRecording } from "../support/recording.ts";

/** A body that arrives in these pieces. */
function bodyOf(chunks: readonly Uint8Array[]): ReadableStream<Uint8Array> {
  return ReadableStream.from(chunks) as ReadableStream<Uint8Array>;
}

async function eventsOf(
  chunks: readonly (Uint8Array | string)[],
  longestLineBytes = 1_000_000,
): Promise<WatchEvent[]> {
  const encoder = new TextEncoder();
  const body = bodyOf(
    chunks.map((c) => typeof c === "string" ? encoder.encode(c) : c),
  );
  return await Array.fromAsync(readWatchEvents(body, { longestLineBytes }));
}

/** Cuts bytes at these places, wherever they fall. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const sorted = places.map((place) => place % (bytes.length + 1))
    .sort((a, b) => a - b);
  return [0, ...sorted].map((start, index) =>
    bytes.subarray(start, sorted[index] ?? bytes.length)
  );
}

Deno.test("readWatchEvents() reads lines in any chunks, several in one", async () => {
  const events = await eventsOf([
    '{"type":"ADDED","object":{"a":1}}\n{"type":"MOD',
    'IFIED","object":{"a":2}}',
    '\n\n\r\n{"type":"BOOKMARK","object":{}}\n',
  ]);
  assert.deepEqual(events.map(({ type }) => type), [
    "ADDED",
    "MODIFIED",
    "BOOKMARK",
  ]);
});

Deno.test("readWatchEvents() puts a character together that was cut in half", async () => {
  const line = '{"type":"ADDED","object":"grün 🚢"}\n';
  const bytes = new TextEncoder().encode(line);
  for (let place = 1; place < bytes.length; place++) {
    const [event] = await eventsOf(cut(bytes, [place]));
    assert.deepEqual(event, { type: "ADDED", object: "grün 🚢" });
  }
});

Deno.test("readWatchEvents() takes wrong UTF-8 for replacement characters", async () => {
  const bytes = new TextEncoder().encode('{"type":"ADDED","object":"x?y"}\n');
  bytes[bytes.indexOf(0x3f)] = 0xff;
  assert.deepEqual(await eventsOf([bytes]), [{
    type: "ADDED",
    object: "x\uFFFDy",
  }]);
});

Deno.test("readWatchEvents() bounds a line that does not end", async () => {
  const chunk = "x".repeat(600);
  await assert.rejects(eventsOf([chunk, chunk], 1000), WatchLineError);
});

Deno.test("readWatchEvents() throws on a stream that ends inside a line", async () => {
  const good = '{"type":"ADDED","object":1}\n';
  const seen: WatchEvent[] = [];
  await assert.rejects(async () => {
    const body = bodyOf([new TextEncoder().encode(good + '{"type":"AD')]);
    for await (const event of readWatchEvents(body)) seen.push(event);
  }, WatchLineError);
  assert.equal(seen.length, 1);
});

Deno.test("readWatchEvents() cancels the stream when its consumer stops", async () => {
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      controller.enqueue(new TextEncoder().encode('{"type":"ADDED"}\n'));
    },
    cancel() {
      cancelled = true;
    },
  });
  for await (const _ of readWatchEvents(body)) break;
  assert.ok(cancelled);
});

Deno.test("parseWatchEvent() reads the Status of an ERROR", () => {
  const line =
    '{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}';
  assert.deepEqual(parseWatchEvent(line), {
    type: "ERROR",
    status: {
      kind: "Status",
      code: 410,
      reason: "Expired",
      message: "too old",
    },
  });
});

Deno.test("parseWatchEvent() names what is no event", () => {
  const messages: readonly [string, RegExp][] = [
    ["<html>", /not JSON: "<html>"/],
    ['{"type":"ADD"}', /type is "ADD", want one of ADDED/],
    ["{}", /type is missing/],
    ["null", /type is missing/],
    ['"x"', /type is missing/],
  ];
  for (const [line, message] of messages) {
    assert.throws(() => parseWatchEvent(line), (error: Error) => {
      assert.ok(error instanceof WatchLineError);
      assert.match(error.message, message);
      return true;
    });
  }
});

const RECORDED_WATCHES: readonly (readonly [string, readonly string[]])[] = [
  ["watch-services.http", []],
  ["watch-services-nobookmark.http", []],
  ["watch-endpointslices.http", []],
  ["streaming-list-endpointslices.http", []],
  ["watch-services-bookmark-70s.http", ["BOOKMARK", "BOOKMARK", "BOOKMARK"]],
  ["watch-services-apiserver-SIGTERM.http", ["BOOKMARK"]],
  ["error-410-watch-rv1.http", ["ERROR"]],
  ["error-future-rv-watch.http", []],
];

for (const [name, types] of RECORDED_WATCHES) {
  Deno.test(`readWatchEvents() reads ${name} the same in any chunks`, async () => {
    const body = bodyBytes(await readRecording(name));
    const whole = await eventsOf([body]);
    if (types.length > 0) assert.deepEqual(whole.map((e) => e.type), types);
    assert.equal(whole.length, lines(body));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(body.length), { maxLength: 40 }),
        async (places) => {
          assert.deepEqual(await eventsOf(cut(body, places)), whole);
        },
      ),
      { numRuns: 50 },
    );
    if (body.length > 8000) return;
    const bytes = [...body].map((_, index) => body.subarray(index, index + 1));
    assert.deepEqual(await eventsOf(bytes), whole, "byte by byte");
  });
}

Deno.test("readWatchEvents() reads any text in any chunks", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: "binary" }), { maxLength: 8 }),
      fc.array(fc.nat(500), { maxLength: 20 }),
      async (texts, places) => {
        const objects = texts.map((text) => text.toWellFormed());
        const lines = objects.map((object) =>
          JSON.stringify({ type: "ADDED", object }) + "\n"
        );
        const bytes = new TextEncoder().encode(lines.join(""));
        assert.deepEqual(
          await eventsOf(cut(bytes, places)),
          objects.map((object) => ({ type: "ADDED", object })),
        );
      },
    ),
  );
});

/** What follows the header of a recorded answer. */
function bodyBytes(answer: Uint8Array): Uint8Array {
  const text = new TextDecoder("latin1").decode(answer);
  return answer.subarray(text.indexOf("\r\n\r\n") + 4);
}

function lines(body: Uint8Array): number {
  return body.filter((byte) => byte === 0x0a).length -
    (body.at(0) === 0x0a ? 1 : 0);
}

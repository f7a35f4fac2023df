import assert from "node:assert/strict";
import { serve } from "../../../watch/http/server.ts";
import { connect, hear, say, whoAnswers } from "../../support/loopback.ts";

/** What each client does that keeps its request from ending. */
const UNENDING: Readonly<Record<string, string>> = {
  "sends nothing": "",
  "sends half a head": "GET /healthz HTTP/1.1\r\nHo",
  "sends half a body":
    "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
  "gets an answer without end": "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
};

for (const [client, request] of Object.entries(UNENDING)) {
  Deno.test(`shutdown() does not wait for a client that ${client}`, async () => {
    const server = await serve({ ip: "127.0.0.1", port: 0 }, ({ url }) => {
      if (!url.endsWith("/stream")) return new Response("done");
      const start = (to: ReadableStreamDefaultController<Uint8Array>) =>
        to.enqueue(new TextEncoder().encode("begun"));
      return new Response(new ReadableStream({ start }));
    });
    using connection = await connect("127.0.0.1", server.addr.port);
    await say(connection, request);
    // Once this one is answered, the one before has been accepted.
    await (await fetch(`http://127.0.0.1:${server.addr.port}/`)).text();
    await server.shutdown();
    let last;
    do last = await hear(connection).catch(() => ""); while (last !== "");
    assert.equal(await whoAnswers("127.0.0.1", server.addr.port), "refused");
  });
}

Deno.test("serve() sends the head of an answer whose body lets wait", async () => {
  const server = await serve(
    { ip: "127.0.0.1", port: 0 },
    () =>
      new Response(new ReadableStream({ pull: () => new Promise(() => {}) })),
  );
  using connection = await connect("127.0.0.1", server.addr.port);
  await say(connection, "GET /watch HTTP/1.1\r\nHost: x\r\n\r\n");
  assert.match(await hear(connection), /^HTTP\/1\.1 200 OK\r\n/);
  await server.shutdown();
});

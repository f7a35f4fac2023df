import assert from "node:assert/strict";
import { createApiServer } from "../../../watch/apiserver/mod.ts";
import { connect, say } from "../../support/loopback.ts";
import { until } from "../../support/tcp.ts";
import { serviceManifest, WatchReader } from "./support.ts";

const SERVICES = "/api/v1/services";

Deno.test("listen() serves watches event by event", async () => {
  await using server = createApiServer();
  await using listening = await server.listen();
  const response = await fetch(`${listening.url}${SERVICES}?watch=1`);
  await using reader = new WatchReader(response);
  assert.deepEqual(await reader.names(1), ["ADDED kubernetes"]);
  server.create("services", serviceManifest("web"));
  assert.deepEqual(await reader.names(1), ["ADDED web"]);
});

Deno.test("breakStreams() cuts the connection of a watch", async () => {
  await using server = createApiServer();
  await using listening = await server.listen();
  const response = await fetch(`${listening.url}${SERVICES}?watch=1`);
  await using reader = new WatchReader(response);
  await reader.names(1);
  server.faults.breakStreams();
  await assert.rejects(reader.next());
});

Deno.test("a server can close and listen at the same port again", async () => {
  await using server = createApiServer();
  const first = await server.listen();
  const response = await fetch(`${first.url}${SERVICES}?watch=1`);
  await first.close();
  await response.body?.cancel().catch(() => {});
  await assert.rejects(fetch(`${first.url}${SERVICES}`));
  await using second = await server.listen({ port: first.port });
  assert.equal(await (await fetch(`${second.url}/healthz`)).text(), "ok");
});

Deno.test("a client that goes away closes its watch", async () => {
  await using server = createApiServer();
  await using listening = await server.listen();
  const abort = new AbortController();
  const response = await fetch(`${listening.url}${SERVICES}?watch=1`, {
    signal: abort.signal,
  });
  const reader = response.body!.getReader();
  await reader.read();
  assert.equal(server.openWatches, 1);
  abort.abort();
  await assert.rejects(reader.read());
  const deadline = Date.now() + 10_000;
  while (server.openWatches > 0 && Date.now() < deadline) {
    // The server only notices when it writes.
    server.create("services", serviceManifest(`s${server.resourceVersion}`));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(server.openWatches, 0);
});

Deno.test("listen() on IPv6 loopback tells a URL that works", async () => {
  await using server = createApiServer();
  await using listening = await server.listen({ hostname: "::1" });
  const response = await fetch(`${listening.url}/version`);
  assert.equal((await response.json()).major, "1");
});

const ACCESS: { host: string; origin?: string; want: number }[] = [
  { host: "localhost:8001", want: 200 },
  { host: "LOCALHOST", want: 200 },
  { host: "127.0.0.1:8001", want: 200 },
  { host: "127.9.9.9", want: 200 },
  { host: "[::1]:8001", want: 200 },
  { host: "api.example.com", want: 200 },
  { host: "127.0.0.1.example.com", want: 403 },
  { host: "evil.example.com:8001", want: 403 },
  { host: "localhost@evil.com", want: 403 },
  { host: "192.0.2.1", want: 403 },
  { host: "localhost:8001", origin: "http://localhost:8001", want: 200 },
  { host: "localhost:8001", origin: "http://localhost:3000", want: 403 },
  { host: "localhost:8001", origin: "https://evil.example.com", want: 403 },
  { host: "localhost:8001", origin: "null", want: 403 },
];

for (const { host, origin, want } of ACCESS) {
  const from = origin === undefined ? "" : ` from a page of ${origin}`;
  Deno.test(`a request to "${host}"${from} is answered ${want}`, async () => {
    await using server = createApiServer({ hosts: ["api.example.com"] });
    const response = await server.fetch(
      new Request("http://localhost/version", {
        headers: {
          Host: host,
          ...(origin === undefined ? {} : { Origin: origin }),
        },
      }),
    );
    const body = await response.json();
    assert.equal(response.status, want);
    if (want === 403) assert.equal(body.kind, "Status");
  });
}

Deno.test("close() does not wait for the rest of a request", async () => {
  await using server = createApiServer();
  const { hostname, port, close } = await server.listen();
  using connection = await connect(hostname, port);
  await say(
    connection,
    `POST ${SERVICES} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{`,
  );
  await until("asked", () => server.requests.length === 1);
  await close();
  await assert.rejects(connect(hostname, port));
});

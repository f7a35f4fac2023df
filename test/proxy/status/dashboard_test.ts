import assert from "node:assert/strict";
import type { StatusDocument } from "../../../proxy/status/dashboard.ts";
import { PAGE_FILES } from "../../../proxy/status/page_files.ts";
import { serveDashboard } from "../../support/dashboard.ts";
import { connect, hear, say } from "../../support/loopback.ts";
import { service, slice } from "../../support/objects.ts";
import { FakeSource } from "../../support/status_source.ts";
import { within } from "../../support/tcp.ts";

const PATIENCE_MS = 10_000;

function withWeb(): FakeSource {
  const source = new FakeSource();
  source.set(service("ns/web"), [
    slice("ns/web-1", { endpoints: ["10.0.0.1"] }),
  ]);
  return source;
}

function httpClient(): Deno.HttpClient {
  return Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
}

Deno.test("the dashboard's files name what they may load, and nobody else", async () => {
  await using dashboard = serveDashboard(new FakeSource());
  using client = httpClient();
  for (const { path, type } of PAGE_FILES) {
    const answer = await fetch(dashboard.url + path.slice(1), { client });
    const text = await answer.text();
    assert.equal(answer.status, 200, path);
    assert.equal(answer.headers.get("Content-Type"), type);
    const policy = answer.headers.get("Content-Security-Policy") ?? "";
    assert.match(policy, /^default-src 'none'; script-src 'self';/);
    assert.ok(!policy.includes("unsafe"));
    assert.equal(answer.headers.get("X-Content-Type-Options"), "nosniff");
    if (path.startsWith("/uplot") || path === "/icon.svg") continue;
    assert.doesNotMatch(text, /https?:\/\/(?!www\.w3\.org\/2000\/svg)/, path);
    assert.doesNotMatch(
      text,
      /innerHTML|outerHTML|insertAdjacent|document\.write|eval\(/,
    );
  }
});

Deno.test("the dashboard answers nobody who calls it by a foreign name, and changes nothing", async () => {
  await using dashboard = serveDashboard(withWeb());
  using client = httpClient();
  const ask = async (path: string, init: RequestInit = {}) => {
    const answer = await fetch(dashboard.url + path, { client, ...init });
    await answer.body?.cancel();
    return answer.status;
  };
  const origin = { Origin: "http://evil.example" };
  for (const path of ["", "page.js", "api/status", "events"]) {
    assert.equal(await ask(path, { headers: origin }), 403, path);
    assert.match(
      await rawAnswer(dashboard.url, path, "evil.example"),
      /^HTTP\/1.1 403 /,
    );
    assert.equal(await ask(path, { method: "POST" }), 405, path);
  }
  assert.equal(await ask("nothing"), 404);
  assert.equal(await ask("api/endpoints?port=nobody"), 404);
});

/** What a browser gets that was told that a foreign name is this machine. */
async function rawAnswer(
  url: string,
  path: string,
  host: string,
): Promise<string> {
  const { hostname, port } = new URL(url);
  using connection = await connect(hostname, Number(port));
  await say(connection, `GET /${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  return await hear(connection);
}

Deno.test("/api/status tells everything, and with a cursor what changed since", async () => {
  const source = withWeb();
  await using dashboard = serveDashboard(source);
  using client = httpClient();
  const ask = async (query = "") => {
    const answer = await fetch(`${dashboard.url}api/status${query}`, {
      client,
    });
    return await answer.json() as StatusDocument;
  };
  const first = await ask();
  assert.equal(first.isComplete, true);
  assert.equal(first.overview.services, 1);
  const [port] = first.ports;
  assert.equal(port?.row.id, "ns/web/TCP/IPv4");
  assert.equal(port?.endpoints[0]?.address, "10.0.0.1:8080");
  const none = await ask(`?since=${first.cursor}`);
  assert.deepEqual([none.isComplete, none.ports], [false, []]);
});

/** The next events of a stream, until one is called so. */
async function* events(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<{ name: string; data: unknown }> {
  let text = "";
  for await (
    const chunk of body.pipeThrough(new TextDecoderStream() as never)
  ) {
    text += chunk;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const [, name = "", data = ""] =
        /^event: (\w+)\ndata: (.*)$/.exec(text.slice(0, end)) ?? [];
      text = text.slice(end + 2);
      yield { name, data: JSON.parse(data) };
    }
  }
}

Deno.test("/events tells everything in pieces, then what changes, until the page goes", async () => {
  const source = new FakeSource();
  for (let index = 0; index < 600; index++) {
    source.set(service(`ns/s${index}`));
  }
  await using dashboard = serveDashboard(source);
  using client = httpClient();
  const answer = await fetch(`${dashboard.url}events`, { client });
  assert.equal(answer.headers.get("Content-Type"), "text/event-stream");
  const heard: string[] = [];
  const listen = async () => {
    for await (const { name, data } of events(answer.body!)) {
      if (name === "rows") {
        const { ports, isFirst, isLast } = data as {
          ports: unknown[];
          isFirst: boolean;
          isLast: boolean;
        };
        heard.push(`rows ${ports.length} ${isFirst} ${isLast}`);
        if (isLast) {
          [...source.served.values()][7]?.count({ connectionsOpen: 1 });
          source.remove("ns/s9");
        }
      } else heard.push(name);
      if (name === "removed") return;
    }
  };
  await within(PATIENCE_MS, listen());
  assert.deepEqual(heard, [
    "history",
    "overview",
    "rows 250 true false",
    "rows 250 false false",
    "rows 100 false true",
    "overview",
    "counts",
    "removed",
  ]);
});

Deno.test("/events of one Service port tells its endpoints when they change", async () => {
  const source = withWeb();
  await using dashboard = serveDashboard(source);
  using client = httpClient();
  const id = encodeURIComponent("ns/web/TCP/IPv4");
  const answer = await fetch(`${dashboard.url}events?port=${id}`, { client });
  const heard: unknown[] = [];
  const listen = async () => {
    for await (const { name, data } of events(answer.body!)) {
      heard.push([
        name,
        (data as { endpoints: { address: string }[] }).endpoints.map((
          { address },
        ) => address),
      ]);
      if (heard.length === 2) return;
      source.set(service("ns/web"), [
        slice("ns/web-1", { endpoints: ["10.0.0.2"] }),
      ]);
    }
  };
  await within(PATIENCE_MS, listen());
  assert.deepEqual(heard, [
    ["endpoints", ["10.0.0.1:8080"]],
    ["endpoints", ["10.0.0.2:8080"]],
  ]);
});

Deno.test("/events is for a limited number of pages", async () => {
  await using dashboard = serveDashboard(new FakeSource());
  using client = httpClient();
  const open: Response[] = [];
  for (let page = 0; page < 32; page++) {
    open.push(await fetch(`${dashboard.url}events`, { client }));
  }
  const refused = await fetch(`${dashboard.url}events`, { client });
  await refused.body?.cancel();
  assert.equal(refused.status, 503);
  for (const { status, body } of open) {
    assert.equal(status, 200);
    await body?.cancel();
  }
});

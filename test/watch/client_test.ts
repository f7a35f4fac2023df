/**
 * The API client against real servers on 127.0.0.1: what it sends, and how
 * requests end.
 *
 * @module
 */
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import type { ApiConfig } from "../../watch/api_config.ts";
import { createApiClient, defaultUserAgent } from "../../watch/client.ts";
import { Secret } from "../../watch/secret.ts";
import { serveBytes } from "../support/recording.ts";
import { servePlain, serveTls, tlsPath } from "../support/tls.ts";

/** A server that never answers must fail its test, not hold up the others. */
const BOUNDED = { timeout: 20_000 };

const TOKEN = "t0ken-nobody-may-see";

function config(server: string, more: Partial<ApiConfig> = {}): ApiConfig {
  return {
    source: "test",
    server,
    insecureSkipTlsVerify: false,
    credential: { type: "none" },
    ...more,
  };
}

const CA = { ca: { path: tlsPath("ca.crt") } } as const;
const BEARER = {
  credential: { type: "token", token: new Secret(TOKEN) },
} as const;

Deno.test(
  "request() sends path, query, agent and token over TLS",
  BOUNDED,
  async () => {
    const seen = Promise.withResolvers<{ url: URL; headers: Headers }>();
    await using server = serveTls((request) => {
      const headers = new Headers(request.headers);
      seen.resolve({ url: new URL(request.url), headers });
      return Response.json({ items: [] });
    });
    using client = createApiClient(config(server.url, { ...CA, ...BEARER }));
    const response = await client.request("/api/v1/services", {
      query: { labelSelector: "!a/b", limit: "500" },
    });
    deepEqual(await response.json(), { items: [] });
    const { url, headers } = await seen.promise;
    equal(url.pathname, "/api/v1/services");
    equal(url.searchParams.get("labelSelector"), "!a/b");
    equal(url.searchParams.get("limit"), "500");
    equal(headers.get("authorization"), `Bearer ${TOKEN}`);
    equal(headers.get("accept"), "application/json");
    equal(headers.get("user-agent"), defaultUserAgent());
    match(defaultUserAgent(), /^kube-portal\/\d+\.\d+\.\d+ \(linux\/\w+64\)$/);
    equal(client.server, server.url);
  },
);

Deno.test(
  "request() keeps the path of the server's address",
  BOUNDED,
  async () => {
    await using server = servePlain((request) =>
      new Response(new URL(request.url).pathname)
    );
    using client = createApiClient(config(`${server.url}/k8s/clusters/c-1`));
    const response = await client.request("/api/v1/nodes");
    equal(await response.text(), "/k8s/clusters/c-1/api/v1/nodes");
  },
);

Deno.test("request() sends a body as JSON", BOUNDED, async () => {
  await using server = servePlain(async (request) =>
    Response.json([
      request.method,
      request.headers.get("content-type"),
      await request.json(),
    ])
  );
  using client = createApiClient(config(server.url));
  const post = await client.request("/api/v1/events", {
    method: "POST",
    body: { reason: "Started" },
  });
  deepEqual(await post.json(), [
    "POST",
    "application/json",
    { reason: "Started" },
  ]);
  const patch = await client.request("/api/v1/nodes/a", {
    method: "PATCH",
    body: {},
  });
  deepEqual(await patch.json(), ["PATCH", "application/merge-patch+json", {}]);
});

Deno.test(
  "request() sends user name and password in UTF-8",
  BOUNDED,
  async () => {
    await using server = serveTls((request) =>
      new Response(request.headers.get("authorization"))
    );
    using client = createApiClient(config(server.url, {
      ...CA,
      credential: {
        type: "basic",
        username: "jürgen",
        password: new Secret("a:b"),
      },
    }));
    const response = await client.request("/");
    equal(await response.text(), "Basic asO8cmdlbjphOmI=");
  },
);

Deno.test(
  "request() sends each group to act as in a header of its own",
  BOUNDED,
  async () => {
    await using server = serveBytes(
      "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    );
    using client = createApiClient(config(server.url, {
      impersonate: {
        user: "jane",
        uid: "7",
        groups: ["dev", "ops"],
        extra: { "example.com/scopes": ["view", "edit"] },
      },
    }));
    await (await client.request("/")).body?.cancel();
    // The API server would read "dev, ops" as the name of one group.
    deepEqual(
      server.requestHead.split("\r\n").filter((line) =>
        /^impersonate/i.test(line)
      )
        .map((line) => line.toLowerCase()).sort(),
      [
        "impersonate-extra-example.com%2fscopes: edit",
        "impersonate-extra-example.com%2fscopes: view",
        "impersonate-group: dev",
        "impersonate-group: ops",
        "impersonate-uid: 7",
        "impersonate-user: jane",
      ],
    );
  },
);

Deno.test("request() decodes a gzip answer", BOUNDED, async () => {
  const text = JSON.stringify({ items: Array(1000).fill("service") });
  await using server = servePlain((request) => {
    match(request.headers.get("accept-encoding") ?? "", /gzip/);
    const body = new Blob([text]).stream().pipeThrough(
      new CompressionStream("gzip"),
    );
    return new Response(body, { headers: { "content-encoding": "gzip" } });
  });
  using client = createApiClient(config(server.url));
  equal(await (await client.request("/")).text(), text);
});

/** A watch that says one line and then nothing; `ended` once it is given up. */
function watchServer() {
  const ended = Promise.withResolvers<void>();
  const server = serveTls(() => {
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode("{}\n"));
      },
      cancel: () => ended.resolve(),
    });
    return new Response(body);
  });
  return { server, ended: ended.promise };
}

Deno.test(
  "aborting the signal ends a watch's body and its connection",
  BOUNDED,
  async () => {
    const { server, ended } = watchServer();
    await using _server = server;
    using client = createApiClient(config(server.url, CA));
    const abort = new AbortController();
    const response = await client.request("/", { signal: abort.signal });
    const reader = response.body!.getReader();
    equal((await reader.read()).done, false);
    const next = reader.read();
    abort.abort(new Error("enough"));
    await rejects(next, /enough/);
    await ended;
  },
);

Deno.test(
  "disposing the client ends its watches, and refuses requests",
  BOUNDED,
  async () => {
    const { server, ended } = watchServer();
    await using _server = server;
    const client = createApiClient(config(server.url, CA));
    const response = await client.request("/");
    const reader = response.body!.getReader();
    await reader.read();
    const next = reader.read();
    client[Symbol.dispose]();
    await rejects(next, { name: "AbortError" });
    await ended;
    await rejects(() => client.request("/"), { name: "AbortError" });
  },
);

Deno.test(
  "request() rejects with the signal's reason before the answer",
  BOUNDED,
  async () => {
    const asked = Promise.withResolvers<void>();
    await using server = servePlain((request) => {
      asked.resolve();
      return new Promise((resolve) =>
        request.signal.addEventListener("abort", () => resolve(new Response()))
      );
    });
    using client = createApiClient(config(server.url));
    const abort = new AbortController();
    const answer = client.request("/", { signal: abort.signal });
    const rejected = rejects(answer, /changed my mind/);
    await asked.promise;
    abort.abort(new Error("changed my mind"));
    await rejected;
  },
);

Deno.test(
  "freshConnection opens a connection of its own, also while it streams",
  BOUNDED,
  async () => {
    const ports: number[] = [];
    const server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      (_request, info) => {
        ports.push(info.remoteAddr.port);
        return new Response("ok");
      },
    );
    {
      using client = createApiClient(
        config(`http://127.0.0.1:${server.addr.port}`),
      );
      for (const freshConnection of [false, false, true, true, false]) {
        const response = await client.request("/", { freshConnection });
        equal(await response.text(), "ok");
      }
    }
    await server.shutdown();
    const [first, second, third, fourth, fifth] = ports;
    equal(second, first);
    equal(fifth, first);
    equal(new Set([first, third, fourth]).size, 3);
  },
);

Deno.test(
  "request() goes through the proxy, with its user and password",
  BOUNDED,
  async () => {
    await using proxy = servePlain((request) =>
      new Response(request.headers.get("proxy-authorization"))
    );
    using client = createApiClient(config("http://cluster.invalid:8080", {
      proxy: {
        url: proxy.url,
        username: "me",
        password: new Secret("pw"),
      },
    }));
    const response = await client.request("/api");
    equal(await response.text(), `Basic ${btoa("me:pw")}`);
  },
);

/**
 * The API client against real servers on 127.0.0.1: what it sends, how it ends,
 * and what it says when something is wrong.
 *
 * @module
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { ApiError } from "../../watch/api.ts";
import { type ApiConfig, ConfigError } from "../../watch/api_config.ts";
import { createApiClient, defaultUserAgent } from "../../watch/client.ts";
import { Secret } from "../../watch/secret.ts";
import { UnreachableError } from "../../watch/unreachable.ts";
import { readRecording, serveBytes } from "../support/recording.ts";
import { servePlain, serveTls, tlsPath, tlsText } from "../support/tls.ts";

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

Deno.test("request() sends path, query, agent and token over TLS", async () => {
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
});

Deno.test("request() keeps the path of the server's address", async () => {
  await using server = servePlain((request) =>
    new Response(new URL(request.url).pathname)
  );
  using client = createApiClient(config(`${server.url}/k8s/clusters/c-1`));
  const response = await client.request("/api/v1/nodes");
  equal(await response.text(), "/k8s/clusters/c-1/api/v1/nodes");
});

Deno.test("request() sends a body as JSON", async () => {
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

Deno.test("request() sends user name and password in UTF-8", async () => {
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
});

Deno.test("request() sends each group to act as in a header of its own", async () => {
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
});

Deno.test("request() decodes a gzip answer", async () => {
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

Deno.test("aborting the signal ends a watch's body and its connection", async () => {
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
});

Deno.test("disposing the client ends its watches, and refuses requests", async () => {
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
});

Deno.test("request() rejects with the signal's reason before the answer", async () => {
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
});

Deno.test("freshConnection opens a connection of its own, also while it streams", async () => {
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
});

const RECORDED: readonly {
  readonly file: string;
  readonly code: number;
  readonly reason: string;
  readonly message: RegExp;
}[] = [
  {
    file: "error-401-badtoken.http",
    code: 401,
    reason: "Unauthorized",
    message: /^Cannot GET \/api: API server answered 401 Unauthorized: Unauth/,
  },
  {
    file: "error-403-nobody-watch.http",
    code: 403,
    reason: "Forbidden",
    message: /User "nobodyuser" cannot watch resource "services"/,
  },
  {
    file: "error-404-path.http",
    code: 404,
    reason: "NotFound",
    message: /could not find the requested resource$/,
  },
  {
    file: "error-406-accept.http",
    code: 406,
    reason: "NotAcceptable",
    message: /406: Not Acceptable/,
  },
  {
    file: "error-410-list-exact.http",
    code: 410,
    reason: "Expired",
    message: /too old\.$/,
  },
  {
    file: "error-422-badquery.http",
    code: 422,
    reason: "Invalid",
    message: /sendInitialEvents requires/,
  },
  {
    file: "error-500-badrv.http",
    code: 500,
    reason: "",
    message: /API server answered 500: resourceVersion: Invalid value/,
  },
];

for (const { file, code, reason, message } of RECORDED) {
  Deno.test(`request() makes an ApiError of the recorded ${file}`, async () => {
    await using server = serveBytes(await readRecording(file));
    using client = createApiClient(config(server.url));
    await rejects(() => client.request("/api"), (error: Error) => {
      ok(error instanceof ApiError);
      equal(error.code, code);
      equal(error.status.reason, reason);
      match(error.message, message);
      return true;
    });
  });
}

interface OddAnswer {
  readonly name: string;
  readonly answer: () => Response;
  readonly code: number;
  readonly message: string;
  readonly retryAfterSeconds?: number;
}

const STEP = "Cannot GET /api: API server answered";

const ODD_ANSWERS: readonly OddAnswer[] = [
  {
    name: "details.retryAfterSeconds of a Status",
    answer: () =>
      Response.json({
        kind: "Status",
        reason: "TooManyRequests",
        message: "wait",
        details: { retryAfterSeconds: 3 },
        code: 429,
      }, { status: 429, headers: { "retry-after": "9" } }),
    code: 429,
    message: `${STEP} 429 TooManyRequests: wait`,
    retryAfterSeconds: 3,
  },
  {
    name: "a Retry-After header without a Status",
    answer: () =>
      new Response("", { status: 503, headers: { "retry-after": "7" } }),
    code: 503,
    message: `${STEP} 503 Service Unavailable`,
    retryAfterSeconds: 7,
  },
  {
    name: "a page of HTML",
    answer: () =>
      new Response(
        "<html><head><style>p{}</style></head><h1>502</h1>\n<p>bad\u001b[1m gateway",
        { status: 502, headers: { "content-type": "text/html" } },
      ),
    code: 502,
    message: `${STEP} 502 Bad Gateway: 502 bad [1m gateway`,
  },
  {
    name: "a JSON body that is no Status",
    answer: () => new Response(`{"error": 1}`, { status: 500 }),
    code: 500,
    message: `${STEP} 500 Internal Server Error: {"error": 1}`,
  },
  {
    name: "a redirect, which it does not follow, without the query",
    answer: () =>
      new Response(null, {
        status: 302,
        headers: { location: "https://login/x?state=secret" },
      }),
    code: 302,
    message: `${STEP} 302 Found: redirected to "https://login/x"`,
  },
  {
    name: "a Status that repeats the token, without the token",
    answer: () =>
      Response.json({ kind: "Status", message: `bad "${TOKEN}"`, code: 400 }, {
        status: 400,
      }),
    code: 400,
    message: `${STEP} 400: bad "[secret]"`,
  },
];

for (const { name, answer, code, message, retryAfterSeconds } of ODD_ANSWERS) {
  Deno.test(`request() makes an ApiError of ${name}`, async () => {
    await using server = serveTls(answer);
    using client = createApiClient(config(server.url, { ...CA, ...BEARER }));
    await rejects(() => client.request("/api"), (error: Error) => {
      ok(error instanceof ApiError);
      equal(error.code, code);
      equal(error.message, message);
      equal(error.status.retryAfterSeconds, retryAfterSeconds);
      return true;
    });
  });
}

Deno.test("request() reads only the beginning of an endless error", async () => {
  const cancelled = Promise.withResolvers<void>();
  await using server = servePlain(() => {
    const page = new TextEncoder().encode("x".repeat(4096));
    return new Response(
      new ReadableStream({
        pull: (controller) => controller.enqueue(page),
        cancel: () => cancelled.resolve(),
      }),
      { status: 500 },
    );
  });
  using client = createApiClient(config(server.url));
  await rejects(() => client.request("/"), (error: Error) => {
    ok(error instanceof ApiError);
    ok(error.message.length < 400);
    return true;
  });
  await cancelled.promise;
});

/** A port of 127.0.0.1 on which nobody listens. */
function closedPort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

async function unreachable(
  given: ApiConfig,
  options: { answerTimeoutMs?: number } = {},
): Promise<UnreachableError> {
  using client = createApiClient(given, options);
  try {
    await client.request("/api");
  } catch (error) {
    if (error instanceof UnreachableError) return error;
    throw error;
  }
  throw new Error("The server was reached");
}

Deno.test("an unreachable server is told with a short cause", async (t) => {
  await t.step("connection refused", async () => {
    const url = `https://127.0.0.1:${closedPort()}`;
    const error = await unreachable(config(url));
    equal(error.message, `Cannot reach API server ${url}: connection refused`);
    equal(error.answered, false);
    ok(error instanceof TypeError);
  });
  await t.step("a name that does not exist", async () => {
    const error = await unreachable(config("https://no-such-host.invalid"));
    equal(error.reason, "host name not found");
  });
  await t.step("a port that fetch refuses", async () => {
    const error = await unreachable(config("http://127.0.0.1:6000"));
    equal(error.reason, "Deno's fetch refuses port 6000, as browsers do");
  });
  await t.step("plain http to an https port, and the other way", async () => {
    await using tls = serveTls(() => new Response());
    await using plain = servePlain(() => new Response());
    const swapped = [
      `http://127.0.0.1:${tls.port}`,
      `https://127.0.0.1:${plain.port}`,
    ];
    for (const url of swapped) {
      const error = await unreachable(config(url));
      match(error.reason, /speaks another protocol/);
      equal(error.answered, true);
    }
  });
  await t.step("silence", async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const url = `http://127.0.0.1:${listener.addr.port}`;
    const error = await unreachable(config(url), { answerTimeoutMs: 50 });
    equal(error.reason, "no answer within 0.05 s");
  });
});

Deno.test("a certificate that is refused is told with what helps", async (t) => {
  await using server = serveTls(() => new Response());
  await using named = serveTls(() => new Response(), {
    certificate: "named-server",
  });
  await t.step("no CA given", async () => {
    const { reason } = await unreachable(config(server.url));
    match(reason, /signed by an authority that is not trusted/);
    match(reason, /DENO_TLS_CA_STORE=system/);
  });
  await t.step("another CA", async () => {
    const ca = { text: new Secret(tlsText("other-ca.crt")) };
    const { reason } = await unreachable(config(server.url, { ca }));
    equal(
      reason,
      "its certificate is signed by an authority that is not trusted",
    );
  });
  await t.step("another name", async () => {
    const { reason } = await unreachable(config(named.url, CA));
    match(reason, /not valid for "127\.0\.0\.1", only for .*kubernetes/);
  });
  await t.step("insecure-skip-tls-verify names Deno's flag", async () => {
    const { reason } = await unreachable(
      config(server.url, { insecureSkipTlsVerify: true }),
    );
    match(reason, /--unsafely-ignore-certificate-errors=127\.0\.0\.1,/);
  });
});

Deno.test("request() throws a ConfigError for a CA file that is not there", async () => {
  using client = createApiClient(
    config("https://127.0.0.1:6443", { ca: { path: "/nowhere/ca.crt" } }),
  );
  await rejects(() => client.request("/"), (error: Error) => {
    ok(error instanceof ConfigError);
    match(error.message, /^Cannot read "\/nowhere\/ca\.crt": /);
    return true;
  });
});

Deno.test("request() goes through the proxy, with its user and password", async () => {
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
});

/**
 * What the API client says when something is wrong: answers that are not 2xx,
 * as recorded of a real API server and as others send them, and no answer.
 *
 * @module
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { ApiError } from "../../watch/api.ts";
import { type ApiConfig, ConfigError } from "../../watch/api_config.ts";
import { createApiClient } from "../../watch/client.ts";
import { Secret } from "../../watch/secret.ts";
import {
  UnreachableError,
  unreachableReason,
} from "../../watch/unreachable.ts";
import { readRecording, serveBytes } from "../support/recording.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";
import { servePlain, serveTls, tlsPath, tlsText } from "../support/tls.ts";

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
  Deno.test(
    `request() makes an ApiError of the recorded ${file}`,
    BOUNDED,
    async () => {
      await using server = serveBytes(await readRecording(file));
      using client = createApiClient(config(server.url));
      await rejects(() => client.request("/api"), (error: Error) => {
        ok(error instanceof ApiError);
        equal(error.code, code);
        equal(error.status.reason, reason);
        match(error.message, message);
        return true;
      });
    },
  );
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
  Deno.test(`request() makes an ApiError of ${name}`, BOUNDED, async () => {
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

Deno.test(
  "request() reads only the beginning of an endless error",
  BOUNDED,
  async () => {
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
  },
);

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

Deno.test(
  "an unreachable server is told with a short cause",
  BOUNDED,
  async (t) => {
    await t.step("connection refused", async () => {
      const url = `https://127.0.0.1:${closedPort()}`;
      const error = await unreachable(config(url));
      equal(
        error.message,
        `Cannot reach API server ${url}: connection refused`,
      );
      equal(error.answered, false);
      ok(error instanceof TypeError);
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
  },
);

Deno.test(
  "a certificate that is refused is told with what helps",
  BOUNDED,
  async (t) => {
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
  },
);

Deno.test(
  "request() throws a ConfigError for a CA file that is not there",
  BOUNDED,
  async () => {
    using client = createApiClient(
      config("https://127.0.0.1:6443", { ca: { path: "/nowhere/ca.crt" } }),
    );
    await rejects(() => client.request("/"), (error: Error) => {
      ok(error instanceof ConfigError);
      match(error.message, /^Cannot read "\/nowhere\/ca\.crt": /);
      return true;
    });
  },
);

const INSECURE = `
import { createApiClient } from "./watch/mod.ts";
using client = createApiClient({
  source: "test",
  server: SERVER,
  insecureSkipTlsVerify: true,
  credential: { type: "none" },
});
Deno.stdout.write(
  new Uint8Array(await (await client.request("/api")).arrayBuffer()),
);`;

Deno.test(
  "the flag named for insecure-skip-tls-verify does what it is named for",
  BOUNDED,
  async () => {
    // Its certificate has another CA and another name: nothing is checked.
    await using server = serveTls(() => new Response("reached"), {
      certificate: "named-server",
    });
    await using folder = await temporaryFolder();
    const script = await folder.write(
      "insecure.ts",
      INSECURE.replace("SERVER", JSON.stringify(server.url))
        .replace("./watch/mod.ts", import.meta.resolve("../../watch/mod.ts")),
    );
    const output = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-prompt",
        `--config=${new URL("../../deno.json", import.meta.url).pathname}`,
        "--allow-net=127.0.0.1",
        "--unsafely-ignore-certificate-errors=127.0.0.1",
        script,
      ],
    }).output();
    const decoder = new TextDecoder();
    equal(
      decoder.decode(output.stdout),
      "reached",
      decoder.decode(output.stderr),
    );
  },
);

const REASONS: readonly [text: string, reason: string, answered: boolean][] = [
  [
    "error sending request for url (https://a.invalid/): client error (Connect): dns error: failed to lookup address information: Name or service not known",
    "host name not found",
    false,
  ],
  [
    "error sending request for url (https://10.0.0.1/): client error (Connect): tcp connect error: No route to host (os error 113)",
    "no route to host",
    false,
  ],
  [
    "error sending request for url (https://10.0.0.1/): client error (Connect): tcp connect error: Connection timed out (os error 110)",
    "connection timed out",
    false,
  ],
  [
    "error sending request from 127.0.0.1:37830 for http://127.0.0.1:35737/ (127.0.0.1:35737): client error (SendRequest): connection closed before message completed",
    "it closed the connection",
    true,
  ],
  [
    "error sending request for url (https://127.0.0.1:35737/): client error (Connect): tls handshake eof",
    "it closed the connection",
    true,
  ],
  [
    "error sending request for url (https://a/): client error (Connect): invalid peer certificate: certificate expired: verification time 1795334400 (UNIX), but certificate is not valid after 1700000000 (94000000 seconds ago)",
    "its certificate has expired",
    true,
  ],
  [
    "error sending request for url (https://a/): client error (Connect): something new",
    "something new",
    false,
  ],
  [
    'Requires net access to "10.0.0.1:6443", run again with the --allow-net flag',
    "Deno denies it; add --allow-net=10.0.0.1:6443",
    false,
  ],
  ["something else", "something else", false],
];

Deno.test("unreachableReason() picks what matters out of Deno's message", () => {
  for (const [text, reason, answered] of REASONS) {
    const error = new TypeError("fetch failed", { cause: new Error(text) });
    deepEqual(unreachableReason(error), { reason, answered });
  }
});

/**
 * Credentials that change while the client runs: token files, certificates on
 * disk, certificates asked for by the server.
 *
 * @module
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import type { TLSSocket } from "node:tls";
import { ApiError } from "../../watch/api.ts";
import { type ApiConfig, ConfigError } from "../../watch/api_config.ts";
import { createApiClient } from "../../watch/client.ts";
import { Secret } from "../../watch/secret.ts";
import { UnreachableError } from "../../watch/unreachable.ts";
import { FILE_CHECK_INTERVAL_MS } from "../../watch/watched_file.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";
import {
  serveMutualTls,
  serveTls,
  type TestServer,
  tlsPath,
  tlsText,
} from "../support/tls.ts";

/** A server that never answers must fail its test, not hold up the others. */
const BOUNDED = { timeout: 20_000 };

function config(server: string, more: Partial<ApiConfig> = {}): ApiConfig {
  return {
    source: "test",
    server,
    ca: { path: tlsPath("ca.crt") },
    insecureSkipTlsVerify: false,
    credential: { type: "none" },
    ...more,
  };
}

/** Answers 401 to every token but `accepted`, and keeps what it was sent. */
function tokenServer(): TestServer & { accepted: string; seen: string[] } {
  const state = { accepted: "", seen: [] as string[] };
  const server = serveTls((request) => {
    const token = request.headers.get("authorization") ?? "";
    state.seen.push(token.replace(/^Bearer /, ""));
    return token === `Bearer ${state.accepted}`
      ? new Response("ok")
      : Response.json({ kind: "Status", reason: "Unauthorized", code: 401 }, {
        status: 401,
      });
  });
  return Object.assign(state, server);
}

Deno.test(
  "a token file is read again at once after a 401, and the request goes on",
  BOUNDED,
  async () => {
    await using server = tokenServer();
    await using folder = await temporaryFolder();
    const path = await folder.write("token", "old\n");
    using client = createApiClient(
      config(server.url, { credential: { type: "token-file", path } }),
      { clock: new FakeClock() },
    );
    server.accepted = "old";
    equal(await (await client.request("/")).text(), "ok");
    await folder.write("token", "new\n");
    server.accepted = "new";
    equal(await (await client.request("/")).text(), "ok");
    deepEqual(server.seen, ["old", "old", "new"]);
  },
);

Deno.test(
  "a token file is read again after a minute without any 401",
  BOUNDED,
  async () => {
    await using server = tokenServer();
    await using folder = await temporaryFolder();
    const path = await folder.write("token", "old");
    const clock = new FakeClock();
    using client = createApiClient(
      config(server.url, { credential: { type: "token-file", path } }),
      { clock },
    );
    server.accepted = "old";
    await (await client.request("/")).text();
    await folder.write("token", "new");
    clock.jump(FILE_CHECK_INTERVAL_MS - 1);
    await (await client.request("/")).text();
    clock.jump(1);
    server.accepted = "new";
    await (await client.request("/")).text();
    deepEqual(server.seen, ["old", "old", "new"]);
  },
);

Deno.test(
  "a 401 is told, not repeated, while the token file is the same",
  BOUNDED,
  async () => {
    await using server = tokenServer();
    await using folder = await temporaryFolder();
    const path = await folder.write("token", "bad");
    using client = createApiClient(
      config(server.url, { credential: { type: "token-file", path } }),
    );
    await rejects(() => client.request("/"), (error: Error) => {
      ok(error instanceof ApiError);
      equal(error.code, 401);
      return true;
    });
    deepEqual(server.seen, ["bad"]);
  },
);

Deno.test(
  "an emptied or broken token file leaves the last token in use",
  BOUNDED,
  async () => {
    await using server = tokenServer();
    await using folder = await temporaryFolder();
    const path = await folder.write("token", "good");
    const clock = new FakeClock();
    using client = createApiClient(
      config(server.url, { credential: { type: "token-file", path } }),
      { clock },
    );
    server.accepted = "good";
    for (const content of ["good", "", "one\ntwo"]) {
      await folder.write("token", content);
      clock.jump(FILE_CHECK_INTERVAL_MS);
      equal(await (await client.request("/")).text(), "ok");
    }
    await Deno.remove(path);
    clock.jump(FILE_CHECK_INTERVAL_MS);
    equal(await (await client.request("/")).text(), "ok");
  },
);

Deno.test(
  "a token file that is not there gives way to the token beside it",
  BOUNDED,
  async () => {
    await using server = tokenServer();
    server.accepted = "beside";
    const credential = { type: "token-file", path: "/nowhere" } as const;
    {
      const fallback = new Secret("beside");
      using client = createApiClient(
        config(server.url, { credential: { ...credential, fallback } }),
      );
      equal(await (await client.request("/")).text(), "ok");
    }
    using client = createApiClient(config(server.url, { credential }));
    await rejects(() => client.request("/"), (error: Error) => {
      ok(error instanceof ConfigError);
      match(error.message, /^Cannot read token "\/nowhere": /);
      return true;
    });
  },
);

Deno.test(
  "a client certificate is shown to a server that asks for one",
  BOUNDED,
  async () => {
    await using server = await serveMutualTls((request, response) => {
      const peer = (request.socket as TLSSocket).getPeerCertificate();
      response.end(peer.subject.CN);
    });
    await using folder = await temporaryFolder();
    // As the kubelet keeps its own: both in one file, which both fields name.
    const both = await folder.write(
      "both.pem",
      tlsText("client.crt") + tlsText("client.key"),
    );
    const certificates = [
      { certificate: { path: both }, key: { path: both } },
      {
        certificate: { path: tlsPath("client.crt") },
        key: { path: tlsPath("client.key") },
      },
      {
        certificate: { text: new Secret(tlsText("client.crt")) },
        key: { text: new Secret(tlsText("client.key")) },
      },
    ];
    for (const clientCertificate of certificates) {
      using client = createApiClient(config(server.url, { clientCertificate }));
      equal(await (await client.request("/")).text(), "system:node:test");
    }
    using client = createApiClient(config(server.url));
    await rejects(() => client.request("/"), (error: Error) => {
      ok(error instanceof UnreachableError);
      match(error.reason, /CertificateRequired.*check the client certificate/);
      return true;
    });
  },
);

Deno.test(
  "a renewed client certificate is used by the next request, while watches go on",
  BOUNDED,
  async () => {
    const subjects: string[] = [];
    await using server = await serveMutualTls((request, response) => {
      const peer = (request.socket as TLSSocket).getPeerCertificate();
      subjects.push(peer.subject.CN);
      if (request.url === "/watch") response.write("first\n");
      else response.end("ok");
      watch ??= response;
    });
    let watch: { end(text: string): unknown } | undefined;
    await using folder = await temporaryFolder();
    const certificate = await folder.write("c.crt", tlsText("client2.crt"));
    const key = await folder.write("c.key", tlsText("client2.key"));
    const clock = new FakeClock();
    using client = createApiClient(
      config(server.url, {
        clientCertificate: {
          certificate: { path: certificate },
          key: { path: key },
        },
      }),
      { clock },
    );
    const stream = await client.request("/watch");
    await folder.write("c.crt", tlsText("client.crt"));
    clock.jump(FILE_CHECK_INTERVAL_MS);
    // Only half of the pair is new: the old pair stays in use.
    await (await client.request("/half")).text();
    await folder.write("c.key", tlsText("client.key"));
    clock.jump(FILE_CHECK_INTERVAL_MS);
    await (await client.request("/new")).text();
    watch!.end("last\n");
    equal(await stream.text(), "first\nlast\n");
    deepEqual(subjects, [
      "system:node:test2",
      "system:node:test2",
      "system:node:test",
    ]);
  },
);

Deno.test(
  "a CA that was replaced on disk is used after the failure it caused",
  BOUNDED,
  async () => {
    await using server = serveTls(() => new Response("ok"));
    await using folder = await temporaryFolder();
    const path = await folder.write("ca.crt", tlsText("other-ca.crt"));
    using client = createApiClient(config(server.url, { ca: { path } }), {
      clock: new FakeClock(),
    });
    await rejects(() => client.request("/"), UnreachableError);
    await folder.write("ca.crt", tlsText("ca.crt"));
    equal(await (await client.request("/")).text(), "ok");
  },
);

Deno.test(
  "a certificate and a key that do not belong together are a ConfigError",
  BOUNDED,
  async () => {
    using client = createApiClient(config("https://127.0.0.1:6443", {
      clientCertificate: {
        certificate: { path: tlsPath("client.crt") },
        key: { path: tlsPath("server.key") },
      },
    }));
    await rejects(() => client.request("/"), (error: Error) => {
      ok(error instanceof ConfigError);
      match(
        error.message,
        /^Cannot use the certificates of test: .*KeyMismatch/,
      );
      return true;
    });
  },
);

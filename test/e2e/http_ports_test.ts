/** Every HTTP port of the program, and requests that mean harm. */
import assert from "node:assert/strict";
import { createApiServer } from "../../watch/apiserver/mod.ts";
import { type KubeObject, manifest } from "../support/kube_objects.ts";
import { HTTP_LIMITS } from "../../watch/http/server.ts";
import { freePort, startKubePortal } from "../support/kube_portal.ts";
import {
  connect,
  eventually,
  hear,
  loopbackRange,
  say,
} from "../support/loopback.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

/** Of what the NodePort range has, one that no other test uses now. */
const HEALTH_CHECK_PORT = 31_000 + Math.floor(Math.random() * 1_000);

const HOST = "Host: 127.0.0.1\r\n";
const HEAD = `${HOST}Connection: close\r\n`;

/** A request line and headers; and the statuses that may come of it. */
const REQUESTS: Readonly<Record<string, { sent: string; want: RegExp }>> = {
  "a header that is too long": {
    sent: `GET / HTTP/1.1\r\n${HEAD}X: ${"y".repeat(20_000)}\r\n\r\n`,
    want: /^HTTP\/1\.1 431 /,
  },
  "very many headers": {
    sent: `GET / HTTP/1.1\r\n${HEAD}${"X: y\r\n".repeat(10_000)}\r\n`,
    want: /^HTTP\/1\.1 431 /,
  },
  "a path that is too long": {
    sent: `GET /${"y".repeat(20_000)} HTTP/1.1\r\n${HEAD}\r\n`,
    want: /^HTTP\/1\.1 431 /,
  },
  "two lengths": {
    sent: `POST / HTTP/1.1\r\n${HEAD}Content-Length: 1\r\n` +
      "Content-Length: 2\r\n\r\nab",
    want: /^HTTP\/1\.1 400 /,
  },
  "a length and chunks": {
    sent: `POST / HTTP/1.1\r\n${HEAD}Content-Length: 3\r\n` +
      "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    want: /^HTTP\/1\.1 400 /,
  },
};

/** None of them leads anywhere, whatever a port has at its root. */
const PATHS = [
  "/../../../../etc/passwd",
  "/%2e%2e/%2e%2e/etc/passwd",
  "/..%2f..%2fetc%2fpasswd",
  "/page.js/../../../deno.json",
  "/..\\..\\etc\\passwd",
  "/page.js%00.html",
  "//evil.example/page.js",
];

/** The whole answer. */
async function answer(port: number, sent: string): Promise<string> {
  using connection = await connect("127.0.0.1", port);
  // It may be answered, and the connection ended, before all of it is said.
  await say(connection, sent).catch(() => {});
  let all = "";
  for (;;) {
    const more = await hear(connection).catch(() => "");
    if (more === "") return all;
    all += more;
  }
}

function balanced(ip: string): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web" },
    spec: {
      type: "LoadBalancer",
      clusterIP: ip,
      externalTrafficPolicy: "Local",
      healthCheckNodePort: HEALTH_CHECK_PORT,
      ports: [{ name: "http", port: 8080 }],
    },
    status: { loadBalancer: { ingress: [{ ip: "203.0.113.9" }] } },
  };
}

Deno.test("no HTTP port is moved by long headers, odd requests or path tricks", async (t) => {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(createApiServer());
  const { url } = stack.use(await server.listen());
  const folder = stack.use(await temporaryFolder());
  await folder.write("web.yaml", manifest(balanced(`${loopbackRange()}.0.1`)));
  const ports = {
    health: freePort(),
    metrics: freePort(),
    dashboard: freePort(),
    "health check": HEALTH_CHECK_PORT,
    "API server": Number(new URL(url).port),
  };
  const proxy = stack.use(startKubePortal([
    `--manifests=${folder.path}`,
    "--steer=none",
    "--nodeport-addresses=127.0.0.0/8",
    `--healthz-bind-address=127.0.0.1:${ports.health}`,
    `--metrics-bind-address=127.0.0.1:${ports.metrics}`,
    `--dashboard-bind-address=127.0.0.1:${ports.dashboard}`,
  ]));
  await proxy.waitFor(" Ready ");
  for (const [name, port] of Object.entries(ports)) {
    await t.step(name, async () => {
      for (const [what, { sent, want }] of Object.entries(REQUESTS)) {
        assert.match(await answer(port, sent), want, what);
      }
      for (const path of PATHS) {
        const got = await answer(port, `GET ${path} HTTP/1.1\r\n${HEAD}\r\n`);
        assert.match(got, /^HTTP\/1\.1 \d\d\d /, path);
        assert.doesNotMatch(got, /root:x:|"imports"|export function/, path);
      }
      const well = await answer(port, `GET /healthz HTTP/1.1\r\n${HEAD}\r\n`);
      assert.match(well, /^HTTP\/1\.1 (200|404|503) /);
    });
  }
  await t.step("clients that ask on and on, and never read", async () => {
    using crowd = new DisposableStack();
    const many = `GET /healthz HTTP/1.1\r\n${HOST}\r\n`.repeat(1_000);
    for (let n = 0; n < HTTP_LIMITS.connections; n++) {
      const connection = crowd.use(await connect("127.0.0.1", ports.health));
      say(connection, many).catch(() => {});
    }
    await eventually(
      "a health check is answered",
      () =>
        answer(ports.health, `GET /healthz HTTP/1.1\r\n${HEAD}\r\n`)
          .catch(String),
      (got) => /^HTTP\/1\.1 200 /.test(got),
    );
  });
  assert.ok(!/ERROR|TypeError/.test(proxy.output), proxy.output);
});

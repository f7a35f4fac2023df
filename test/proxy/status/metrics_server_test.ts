import assert from "node:assert/strict";
import {
  metricsApp,
  type MetricsAppOptions,
} from "../../../proxy/status/metrics_server.ts";

const FLAGS = { v: "2", config: undefined, cleanup: false };
const STARTED_AT = Date.UTC(2026, 0, 2, 3, 4, 5);

const options: MetricsAppOptions = {
  mode: "userspace",
  metrics: {
    expose: (accept = "") =>
      Promise.resolve({ contentType: "text/x", text: `metrics ${accept}` }),
    exposeSlis: (pings) =>
      Promise.resolve({ contentType: "text/x", text: `${pings} pings` }),
  },
  configz: () => ({ kind: "KubeProxyConfiguration", mode: "userspace" }),
  about: {
    version: "0.1.0",
    startedAt: STARTED_AT,
    now: () => STARTED_AT + 3_723_000,
    flags: FLAGS,
  },
};
const app = metricsApp(options);

const PLAIN = "text/plain; charset=utf-8";

Deno.test("[7.16] the metrics port's /healthz says ok", async () => {
  for (const path of ["/healthz", "/healthz/ping"]) {
    const answer = await app.request(path);
    assert.equal(answer.status, 200);
    assert.equal(await answer.text(), "ok");
  }
  assert.equal(
    await (await app.request("/healthz?verbose")).text(),
    "[+]ping ok\nhealthz check passed\n",
  );
});

Deno.test("[7.17] /proxyMode says userspace, without a line feed", async () => {
  const answer = await app.request("/proxyMode");
  assert.equal(await answer.text(), "userspace");
  assert.equal(answer.headers.get("Content-Type"), PLAIN);
  assert.equal(answer.headers.get("X-Content-Type-Options"), "nosniff");
});

Deno.test("[7.18] /metrics passes on what the scraper accepts", async () => {
  const headers = { Accept: "application/openmetrics-text" };
  const answer = await app.request("/metrics", { headers });
  assert.equal(answer.headers.get("Content-Type"), "text/x");
  assert.equal(await answer.text(), "metrics application/openmetrics-text");
});

Deno.test("[7.20] /configz holds the configuration under one key", async () => {
  const answer = await app.request("/configz");
  assert.equal(answer.headers.get("Content-Type"), "application/json");
  assert.deepEqual(await answer.json(), {
    "kubeproxy.config.k8s.io": {
      kind: "KubeProxyConfiguration",
      mode: "userspace",
    },
  });
});

Deno.test("[7.24] the metrics port answers GET and HEAD to anybody, and nothing else", async () => {
  for (const path of ["/metrics", "/healthz", "/nothing"]) {
    const refused = await app.request(path, { method: "POST" });
    assert.equal(refused.status, 405);
    assert.equal(refused.headers.get("Allow"), "GET, HEAD");
  }
  const head = await app.request("/proxyMode", { method: "HEAD" });
  assert.equal(head.status, 200);
  const headers = { Host: "anything", Origin: "http://elsewhere" };
  assert.equal((await app.request("/metrics", { headers })).status, 200);
  assert.equal((await app.request("/")).status, 404);
});

Deno.test("[7.19] /metrics/slis counts how often the port's own health was asked", async () => {
  const own = metricsApp(options);
  for (const path of ["/healthz", "/healthz/ping", "/healthz?verbose"]) {
    await own.request(path);
  }
  const answer = await own.request("/metrics/slis");
  assert.equal(await answer.text(), "3 pings");
});

const STATUS = {
  startTime: "2026-01-02T03:04:05Z",
  uptimeSeconds: 3_723,
  goVersion: `none (Deno ${Deno.version.deno})`,
  binaryVersion: "0.1.0",
  emulationVersion: "1.36",
  paths: [
    "/configz",
    "/flagz",
    "/healthz",
    "/metrics",
    "/metrics/slis",
    "/proxyMode",
    "/statusz",
  ],
};

Deno.test("[7.21] /statusz and /flagz are text for people", async () => {
  const status = await app.request("/statusz");
  assert.equal(status.headers.get("Content-Type"), PLAIN);
  const lines = (await status.text()).split("\n");
  assert.equal(lines[1], "kube-proxy statusz");
  assert.match(lines[2] ?? "", /^Warning: This endpoint is not meant to be/);
  assert.ok(lines.includes("Up: 1 hr 02 min 03 sec"), lines.join("\n"));
  assert.ok(lines.includes(`Paths: ${STATUS.paths.join(" ")}`));
  const flags = await (await app.request("/flagz")).text();
  assert.match(flags, /^\nkube-proxy flagz\nWarning: /);
  assert.ok(flags.endsWith("\n\ncleanup=false\nconfig=\nv=2\n"), flags);
});

Deno.test("[7.21] /statusz and /flagz are JSON for who asks for the kind", async () => {
  const ask = (path: string, as: string, v = "v1beta1") => {
    const Accept = `application/json;v=${v};g=config.k8s.io;as=${as}`;
    return app.request(path, { headers: { Accept } });
  };
  const status = await ask("/statusz", "Statusz");
  assert.equal(status.headers.get("Warning"), null);
  assert.deepEqual(await status.json(), {
    kind: "Statusz",
    apiVersion: "config.k8s.io/v1beta1",
    metadata: { name: "kube-proxy" },
    ...STATUS,
  });
  const old = await ask("/flagz", "Flagz", "v1alpha1");
  assert.match(old.headers.get("Warning") ?? "", /^299 - ".*deprecated/);
  assert.deepEqual(await old.json(), {
    kind: "Flagz",
    apiVersion: "config.k8s.io/v1alpha1",
    metadata: { name: "kube-proxy" },
    flags: { cleanup: "false", config: "", v: "2" },
  });
  assert.equal((await ask("/flagz", "Statusz")).status, 406);
  const plainJson = { headers: { Accept: "application/json" } };
  assert.equal((await app.request("/statusz", plainJson)).status, 406);
});

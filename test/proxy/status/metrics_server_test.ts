import assert from "node:assert/strict";
import { metricsApp } from "../../../proxy/status/metrics_server.ts";

const app = metricsApp({
  metrics: {
    expose: (accept = "") =>
      Promise.resolve({ contentType: "text/x", text: `metrics ${accept}` }),
  },
  configz: () => ({ kind: "KubeProxyConfiguration", mode: "userspace" }),
});

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

import assert from "node:assert/strict";
import { measuredClient } from "../../../proxy/commands/measured_client.ts";
import { ProxyCounters } from "../../../proxy/status/proxy_counters.ts";
import { type ApiClient, ApiError } from "../../../watch/api.ts";

function client(answer: () => Promise<Response>): ApiClient {
  return {
    server: "https://k8s:6443",
    request: answer,
    [Symbol.dispose]: () => {},
  };
}

function counted(counters: ProxyCounters): string[] {
  return [...counters.requests].map(({ labels, value }) =>
    `${labels.method} ${labels.host} ${labels.code} ${value}`
  );
}

Deno.test("[7.48] measuredClient() counts answers, refusals and silence by code", async () => {
  const counters = new ProxyCounters();
  const ok = measuredClient(
    client(() => Promise.resolve(new Response("x"))),
    counters,
  );
  assert.equal(await (await ok.request("/version")).text(), "x");
  await ok.request("/api/v1/events", { method: "POST", body: {} });
  const refusal = new ApiError({
    kind: "Status",
    code: 403,
    reason: "Forbidden",
    message: "",
  }, "Cannot list");
  const refused = measuredClient(
    client(() => Promise.reject(refusal)),
    counters,
  );
  await assert.rejects(refused.request("/api"), refusal);
  const silent = measuredClient(
    client(() => Promise.reject(new TypeError("away"))),
    counters,
  );
  await assert.rejects(silent.request("/api"), TypeError);
  assert.deepEqual(counted(counters), [
    "GET k8s:6443 200 1",
    "POST k8s:6443 200 1",
    "GET k8s:6443 403 1",
    "GET k8s:6443 <error> 1",
  ]);
});

Deno.test("measuredClient() does not count what its caller gave up", async () => {
  const counters = new ProxyCounters();
  const signal = AbortSignal.abort();
  const given = measuredClient(
    client(() => Promise.reject(signal.reason)),
    counters,
  );
  await assert.rejects(given.request("/api", { signal }));
  assert.deepEqual(counted(counters), []);
});

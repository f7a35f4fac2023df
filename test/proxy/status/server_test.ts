import assert from "node:assert/strict";
import type { HealthInput } from "../../../proxy/status/health.ts";
import { healthApp } from "../../../proxy/status/server.ts";
import { node } from "../../support/objects.ts";

const NOW = Date.UTC(2026, 10, 22, 7, 11, 14);

/** As the recorded kube-proxy was: both families synced a while ago. */
const HEALTHY: HealthInput = {
  now: NOW,
  syncs: {
    IPv4: { updatedAt: NOW - 76_000 },
    IPv6: { updatedAt: NOW - 75_900 },
  },
  node: node("n1"),
};
const SICK: HealthInput = {
  ...HEALTHY,
  syncs: { IPv4: { queuedAt: NOW - 61_000, updatedAt: NOW - 61_000 } },
};
const GOING: HealthInput = {
  ...HEALTHY,
  node: node("n1", { taints: ["ToBeDeletedByClusterAutoscaler"] }),
};

interface Recorded {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: unknown;
}

/** An answer of kube-proxy 1.36, as it went over the wire. */
function recorded(name: string): Recorded {
  const file = `../../fixture/golden/1.36-iptables.${name}.http`;
  const text = Deno.readTextFileSync(new URL(file, import.meta.url));
  const [head = "", body = ""] = text.split(/\r?\n\r?\n/);
  const [statusLine = "", ...lines] = head.split(/\r?\n/);
  return {
    status: Number(statusLine.split(" ")[1]),
    headers: new Map(lines.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    })),
    body: JSON.parse(body),
  };
}

/** Keys in their order and the types of values; times are not compared. */
function shape(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return typeof value;
  return Object.entries(value).map(([key, inner]) => [key, shape(inner)]);
}

for (const name of ["healthz", "livez"]) {
  Deno.test(`[7.2, 7.3] /${name} answers as kube-proxy 1.36 was recorded`, async () => {
    const want = recorded(name);
    const answer = await healthApp(() => HEALTHY).request(`/${name}`);
    assert.equal(answer.status, want.status);
    for (const header of ["Content-Type", "X-Content-Type-Options"]) {
      assert.equal(answer.headers.get(header), want.headers.get(header));
    }
    const body = await answer.json();
    assert.deepEqual(shape(body), shape(want.body));
    for (const time of [body.lastUpdated, body.status.IPv4.lastUpdated]) {
      assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
    }
  });
}

const statuses: readonly [string, HealthInput, number, number][] = [
  ["[7.4] a healthy proxy on an eligible Node answers 200", HEALTHY, 200, 200],
  ["[7.4] a proxy that cannot sync answers 503 on both paths", SICK, 503, 503],
  ["[7.4, 7.12] a Node on its way out fails /healthz only", GOING, 503, 200],
];

for (const [name, input, healthz, livez] of statuses) {
  Deno.test(name, async () => {
    const app = healthApp(() => input);
    assert.equal((await app.request("/healthz")).status, healthz);
    assert.equal((await app.request("/livez")).status, livez);
  });
}

Deno.test("[7.1] healthApp() answers any method", async () => {
  const app = healthApp(() => HEALTHY);
  for (
    const method of ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]
  ) {
    for (const path of ["/healthz", "/livez"]) {
      const { status } = await app.request(path, { method });
      assert.equal(status, 200, `${method} ${path}`);
    }
  }
});

Deno.test("[7.1] healthApp() answers 404 to every other path", async () => {
  const app = healthApp(() => HEALTHY);
  for (
    const path of ["/", "/healthz/", "/healthz/x", "/metrics", "/HEALTHZ", "/x"]
  ) {
    const answer = await app.request(path);
    assert.equal(answer.status, 404, path);
    assert.equal(await answer.text(), "404 page not found\n");
    assert.equal(
      answer.headers.get("Content-Type"),
      "text/plain; charset=utf-8",
    );
  }
});

Deno.test("[7.2] healthApp() asks for the health of now, each time", async () => {
  let now = NOW;
  const app = healthApp(() => ({ ...HEALTHY, now: now += 1_000 }));
  const first = await (await app.request("/livez")).json();
  const second = await (await app.request("/livez")).json();
  assert.equal(first.currentTime, "2026-11-22T07:11:15.000Z");
  assert.equal(second.currentTime, "2026-11-22T07:11:16.000Z");
});

import assert from "node:assert/strict";
import {
  type HealthInput,
  isEligible,
  liveness,
  readiness,
  UNHEALTHY_AFTER_MS,
} from "../../../proxy/status/health.ts";
import { node } from "../../support/objects.ts";

const NOW = Date.UTC(2026, 0, 1, 12);

function input(overrides: Partial<HealthInput> = {}): HealthInput {
  return {
    now: NOW,
    syncs: { IPv4: { updatedAt: NOW - 5_000 } },
    node: node("n1"),
    ...overrides,
  };
}

/** A family that waits for its sync since `ms`, and last had one a day ago. */
function waiting(ms: number): HealthInput["syncs"] {
  return { IPv4: { queuedAt: NOW - ms, updatedAt: NOW - 86_400_000 } };
}

const pending: readonly { name: string; ms: number; want: boolean }[] = [
  {
    name: "[7.5] liveness() is ok while a sync waits for less than the limit",
    ms: UNHEALTHY_AFTER_MS - 1,
    want: true,
  },
  {
    name: "[7.6] liveness() is not ok once a sync waits for the limit exactly",
    ms: UNHEALTHY_AFTER_MS,
    want: false,
  },
  {
    name: "[7.5] liveness() is not ok while a sync waits for longer",
    ms: UNHEALTHY_AFTER_MS + 1,
    want: false,
  },
];

for (const { name, ms, want } of pending) {
  Deno.test(name, () => {
    const { ok, body } = liveness(input({ syncs: waiting(ms) }));
    assert.equal(ok, want);
    assert.equal(body.healthy, want);
  });
}

Deno.test("[7.6] UNHEALTHY_AFTER_MS is twice the sync period of 30 s", () => {
  assert.equal(UNHEALTHY_AFTER_MS, 60_000);
});

Deno.test("[7.5] liveness() is ok although the last sync was long ago, if none was asked for", () => {
  const syncs = { IPv4: { updatedAt: NOW - 86_400_000 } };
  assert.equal(liveness(input({ syncs })).ok, true);
});

Deno.test("[1.14, 7.5] liveness() is not ok if one family is not", () => {
  const { ok, body } = liveness(input({
    syncs: { ...waiting(UNHEALTHY_AFTER_MS), IPv6: { updatedAt: NOW } },
  }));
  assert.equal(ok, false);
  assert.deepEqual(body.status, {
    IPv4: { lastUpdated: "2025-12-31T12:00:00.000Z", healthy: false },
    IPv6: { lastUpdated: "2026-01-01T12:00:00.000Z", healthy: true },
  });
});

Deno.test("[7.2, 7.7] liveness() is ok without any family, and has no status then", () => {
  const { ok, body } = liveness(input({ syncs: {} }));
  assert.equal(ok, true);
  assert.deepEqual(Object.keys(body), [
    "lastUpdated",
    "currentTime",
    "healthy",
  ]);
});

Deno.test("[7.8] lastUpdated is now while healthy, else the newest success", () => {
  assert.equal(liveness(input()).body.lastUpdated, "2026-01-01T12:00:00.000Z");
  const syncs = {
    ...waiting(UNHEALTHY_AFTER_MS),
    IPv6: { updatedAt: NOW - 3_600_000 },
  };
  const { body } = liveness(input({ syncs }));
  assert.equal(body.lastUpdated, "2026-01-01T11:00:00.000Z");
  assert.equal(body.currentTime, "2026-01-01T12:00:00.000Z");
});

const GOING = { deletionTimestamp: "2026-01-01T00:00:00Z" };

const nodes: readonly {
  name: string;
  node: HealthInput["node"];
  want: boolean;
}[] = [
  { name: "[7.9] a Node is eligible", node: node("n1"), want: true },
  {
    name: "[7.9] a Node that is not known is not eligible",
    node: undefined,
    want: false,
  },
  {
    name: "[7.9] a Node that is being deleted is not eligible",
    node: node("n1", { metadata: GOING }),
    want: false,
  },
  {
    name: "[7.9] a Node that the autoscaler will delete is not eligible",
    node: node("n1", { taints: ["x", "ToBeDeletedByClusterAutoscaler"] }),
    want: false,
  },
  {
    name: "[7.10] a Node that is cordoned or not ready is eligible",
    node: node("n1", {
      taints: [
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/not-ready",
      ],
    }),
    want: true,
  },
  {
    name: "[7.9] no Node is needed where no API server has any",
    node: "not-needed",
    want: true,
  },
];

for (const { name, node, want } of nodes) {
  Deno.test(name, () => {
    assert.equal(isEligible(node), want);
    const { ok, body } = readiness(input({ node }));
    assert.equal(ok, want);
    assert.equal(body.nodeEligible, want);
    assert.equal(body.healthy, true);
    assert.equal(liveness(input({ node })).ok, true, "/livez does not mind");
  });
}

Deno.test("[7.4] readiness() needs health and an eligible Node", () => {
  const sick = input({ syncs: waiting(UNHEALTHY_AFTER_MS) });
  assert.equal(readiness(sick).ok, false);
  assert.equal(readiness(sick).body.nodeEligible, true);
  assert.equal(readiness({ ...sick, node: undefined }).ok, false);
});

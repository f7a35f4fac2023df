/**
 * A watch, or a list, that says odd things: each is named and skipped, or the
 * server is asked again, and what is right is served all the while.
 *
 * @module
 */
import assert from "node:assert/strict";
import { ENDPOINT_SLICES } from "../../watch/resource.ts";
import type { EndpointSlice } from "../../watch/types.ts";
import { Following } from "../support/following.ts";
import { collectLog } from "../support/log_lines.ts";
import {
  rawBookmark,
  rawService,
  rawServiceList,
} from "../support/raw_objects.ts";
import {
  type RawHandler,
  type RawReply,
  type RawRequest,
  untilGone,
} from "../support/raw_server.ts";

type WatchHandler = (
  reply: RawReply,
  request: RawRequest,
  number: number,
) => Promise<void> | void;

/** Lists `default/web` at version 10 at first, then what `later` says. */
function webThen(onWatch: WatchHandler, later?: unknown): RawHandler {
  let watches = 0;
  let lists = 0;
  return async (request, reply) => {
    if (request.isWatch) {
      await reply.begin();
      await onWatch(reply, request, ++watches);
      await untilGone(request);
      return reply.close();
    }
    const first = ++lists === 1 || later === undefined;
    return reply.json(
      first ? rawServiceList(10, [rawService("web", 9)]) : later,
    );
  };
}

Deno.test("a watch that repeats older events is not believed: it is listed again", async () => {
  await using following = new Following(webThen(
    async (reply, _, number) => {
      if (number > 1) return;
      await reply.event("MODIFIED", rawService("web", 11, 81));
      await reply.event("MODIFIED", rawService("web", 12, 82));
      // As after a proxy's retry: all of it once more.
      await reply.event("MODIFIED", rawService("web", 11, 81));
    },
    rawServiceList(13, [rawService("web", 12, 82)]),
  ));
  await following.until(() => following.watches.length === 2);
  assert.deepEqual(following.watches, ["10", "13"]);
  assert.deepEqual(following.served, ["web:82"]);
  const told = following.batches.flat().map(({ after }) =>
    after?.spec.ports[0]?.port
  );
  assert.deepEqual(told, [80, 81, 82], "81 was served once");
});

Deno.test("a deletion that comes twice does not delete what was made in between", async () => {
  await using following = new Following(webThen(
    async (reply, _, number) => {
      if (number > 1) return;
      await reply.event("DELETED", rawService("web", 11));
      await reply.event("ADDED", rawService("web", 12, 82));
      await reply.event("DELETED", rawService("web", 11));
    },
    rawServiceList(12, [rawService("web", 12, 82)]),
  ));
  await following.until(() => following.watches.length === 2);
  assert.deepEqual(following.served, ["web:82"]);
});

Deno.test("one version that is far too high does not make the watch deaf", async () => {
  await using following = new Following(webThen(
    async (reply, _, number) => {
      if (number > 1) return;
      await reply.event("MODIFIED", rawService("web", 9_999_999, 81));
      await reply.event("ADDED", rawService("api", 12));
    },
    rawServiceList(12, [rawService("api", 12), rawService("web", 11, 81)]),
  ));
  await following.until(() => following.watches.length === 2);
  assert.deepEqual(following.watches, ["10", "12"]);
  assert.deepEqual(following.served, ["api:80", "web:81"]);
});

const ODD_SERVICES: readonly {
  readonly name: string;
  readonly change: (object: Record<string, unknown>) => void;
  /** What the log says of it; undefined: it can be read. */
  readonly says?: RegExp;
}[] = [
  {
    name: "a port that is text",
    change: (it) =>
      it.spec = { clusterIP: "10.0.0.9", ports: [{ port: "80" }] },
    says: /default\/odd: spec\.ports\[0\]\.port is \\?"80\\?", want a whole/,
  },
  {
    name: "a port beyond the last",
    change: (it) => it.spec = { ports: [{ port: 1e9 }] },
    says: /spec\.ports\[0\]\.port is 1000000000/,
  },
  {
    name: "a spec that is text",
    change: (it) => it.spec = "ClusterIP",
    says: /spec is \\?"ClusterIP\\?", want an object/,
  },
  {
    name: "ports that are no list",
    change: (it) => it.spec = { ports: { port: 80 } },
    says: /spec\.ports is .*, want a list/,
  },
  {
    name: "labels that are numbers",
    change: (it) => Object.assign(it.metadata as object, { labels: { a: 1 } }),
    says: /metadata\.labels.* is 1, want text/,
  },
  {
    name: "fields that nobody knows",
    change: (it) => Object.assign(it, { future: { x: [1, 2] }, status: null }),
  },
  {
    name: "3 MiB of annotations",
    change: (it) =>
      Object.assign(it.metadata as object, {
        annotations: { text: "x".repeat(3 << 20) },
      }),
  },
  {
    name: "a field a hundred thousand lists deep",
    change: (it) =>
      it.spec = {
        ports: [{
          port: JSON.parse("[".repeat(100_000) + "]".repeat(100_000)),
        }],
      },
    says: /spec\.ports\[0\]\.port is \[\[\[/,
  },
];

for (const { name, change, says } of ODD_SERVICES) {
  Deno.test(`a Service with ${name} costs no other one`, async () => {
    await using log = await collectLog();
    const odd = rawService("odd", 11) as unknown as Record<string, unknown>;
    change(odd);
    await using following = new Following(webThen(async (reply) => {
      await reply.event("ADDED", rawService("before", 11));
      await reply.event("ADDED", odd);
      await reply.event("MODIFIED", odd);
      await reply.event("ADDED", rawService("after", 12));
    }));
    await following.until(() => following.served.includes("after:80"));
    const others = following.served.filter((it) => !it.startsWith("odd"));
    assert.deepEqual(others, ["after:80", "before:80", "web:80"]);
    assert.equal(following.watches.length, 1);
    const named = log.lines.filter((line) => line.includes("default/odd"));
    assert.equal(named.length, says === undefined ? 0 : 1, "once");
    if (says !== undefined) assert.match(named[0] ?? "", says);
    assert.equal(following.served.length, says === undefined ? 4 : 3);
  });
}

Deno.test("objects that are none are skipped, in a list and in a watch", async () => {
  await using log = await collectLog();
  const strange = [null, 17, "text", [], {}, { metadata: null }, {
    metadata: { name: 5, namespace: "default" },
  }];
  await using following = new Following(async (request, reply) => {
    if (!request.isWatch) {
      const items = [...strange, rawService("web", 9)];
      return reply.json({ metadata: { resourceVersion: "10" }, items });
    }
    await reply.begin();
    for (const object of strange) await reply.event("ADDED", object);
    await reply.event("DELETED", null);
    await reply.event("BOOKMARK", null);
    await reply.event("ADDED", rawService("api", 11));
    await untilGone(request);
    reply.close();
  });
  await following.until(() => following.served.length === 2);
  assert.deepEqual(following.served, ["api:80", "web:80"]);
  assert.equal(following.watches.length, 1);
  assert.ok(log.lines.some((line) => line.includes("without a name")));
});

Deno.test("an EndpointSlice whose endpoints are null, or wrong, keeps the others going", async () => {
  const slice = (name: string, version: number, endpoints: unknown) => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name,
      namespace: "default",
      uid: `uid-${name}`,
      resourceVersion: String(version),
    },
    addressType: "IPv4",
    ports: null,
    endpoints,
  });
  const good = [{ addresses: ["10.0.0.1"] }];
  await using following = new Following<EndpointSlice>(
    async (request, reply) => {
      if (!request.isWatch) {
        return reply.json({
          metadata: { resourceVersion: "10" },
          kind: "EndpointSliceList",
          items: [slice("a", 9, good)],
        });
      }
      await reply.begin();
      await reply.event("ADDED", slice("none", 11, null));
      await reply.event(
        "MODIFIED",
        slice("a", 12, [{ addresses: "10.0.0.2" }]),
      );
      await reply.event("ADDED", slice("b", 13, good));
      await untilGone(request);
      reply.close();
    },
    { resource: ENDPOINT_SLICES },
  );
  await following.until(() => following.informer.store.size === 3);
  const store = following.informer.store;
  assert.deepEqual(store.get("default/none")?.endpoints, []);
  assert.deepEqual(
    store.get("default/a")?.endpoints[0]?.addresses,
    ["10.0.0.1"],
    "its last readable state",
  );
});

Deno.test("invalid UTF-8 in one object is no matter for the others", async () => {
  await using following = new Following(webThen(async (reply) => {
    const event = JSON.stringify({
      type: "ADDED",
      object: rawService("odd@", 11),
    });
    const bytes = new TextEncoder().encode(event + "\n");
    await reply.chunk(bytes.map((byte) => byte === 0x40 ? 0xff : byte));
    await reply.event("ADDED", rawService("api", 12));
  }));
  await following.until(() => following.served.includes("api:80"));
  assert.deepEqual(following.served, ["api:80", "odd\ufffd:80", "web:80"]);
  assert.equal(following.watches.length, 1);
});

Deno.test("events that are dropped before a silence are found by asking", async () => {
  await using following = new Following(async (request, reply) => {
    if (request.query.get("limit") === "1") {
      return reply.json(rawServiceList(12, [rawService("web", 9)]));
    }
    if (!request.isWatch) {
      return reply.json(rawServiceList(10, [rawService("web", 9)]));
    }
    await reply.begin();
    if (request.number > 2) {
      await reply.event("ADDED", rawService("api", 11));
      await reply.event("BOOKMARK", rawBookmark(12));
    }
    if (request.query.get("timeoutSeconds") === "1") return reply.end();
    await untilGone(request);
    reply.close();
  });
  await following.until(() => following.watches.length === 1);
  const ms = await following.advanceUntil(
    () => following.served.includes("api:80"),
    { mostMs: 60_000 },
  );
  assert.ok(ms <= 45_000, `${ms} ms`);
});

Deno.test("a storm of 410s is answered by lists ever more seldom, and ends by itself", async () => {
  let isStorm = true;
  await using following = new Following(async (request, reply) => {
    if (!request.isWatch) {
      return reply.json(rawServiceList(10, [rawService("web", 9)]));
    }
    await reply.begin();
    if (isStorm) {
      const status = { kind: "Status", code: 410, reason: "Expired" };
      await reply.event("ERROR", status);
      return reply.end();
    }
    await reply.event("ADDED", rawService("api", 11));
    await untilGone(request);
    reply.close();
  });
  await following.until(() => following.waits.length === 6);
  // Half of 0.8 s, doubled each time.
  assert.deepEqual(following.waits, [400, 800, 1_600, 3_200, 6_400, 12_800]);
  assert.deepEqual(following.served, ["web:80"]);
  assert.equal(following.batches.length, 1, "nothing was told to be gone");
  isStorm = false;
  await following.until(() => following.served.includes("api:80"));
});

Deno.test("a 429 is waited out as long as it says, in lists and in watches", async () => {
  let watches = 0;
  await using following = new Following(async (request, reply) => {
    const busy = { reason: "TooManyRequests", headers: { "retry-after": "7" } };
    if (request.number === 1) return reply.refuse(429, busy);
    if (!request.isWatch) {
      return reply.json(rawServiceList(10, [rawService("web", 9)]));
    }
    if (++watches <= 2) return reply.refuse(429, busy);
    await reply.begin();
    await reply.event("ADDED", rawService("api", 11));
    await untilGone(request);
    reply.close();
  });
  await following.until(() => following.served.includes("api:80"));
  assert.equal(following.waits.length, 3);
  for (const ms of following.waits) assert.ok(ms >= 7_000, `${ms} ms`);
  assert.equal(following.lists, 2, "the watch goes on from the list");
});

Deno.test("a list that lost its items deletes nothing; one whose items are null is empty", async () => {
  const answers: unknown[] = [
    rawServiceList(10, [rawService("web", 9)]),
    { kind: "ServiceList", metadata: { resourceVersion: "11" } },
    { kind: "ServiceList", metadata: { resourceVersion: "11" }, items: {} },
    { kind: "ServiceList", metadata: { resourceVersion: "11" }, items: null },
  ];
  await using following = new Following(async (request, reply) => {
    if (!request.isWatch) return reply.json(answers.shift());
    if (answers.length > 0) return reply.refuse(410);
    await reply.begin();
    await untilGone(request);
    reply.close();
  });
  await following.until(() => answers.length === 1);
  assert.deepEqual(following.served, ["web:80"]);
  await following.until(() => following.served.length === 0);
});

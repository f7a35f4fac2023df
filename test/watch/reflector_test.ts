/**
 * The reflector against a server that misbehaves in every way seen in the wild
 * (and a few more); each test is one way.
 *
 * @module
 */
import assert from "node:assert/strict";
import { nodeNamed } from "../../watch/resource.ts";
import { Following } from "../support/following.ts";
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
  /** Counts watches, from 1. */
  number: number,
) => Promise<void> | void;

/** Lists `default/web` at version 10; watches are the test's. */
function webThen(onWatch: WatchHandler): RawHandler {
  let watches = 0;
  return (request, reply) => {
    if (!request.isWatch) {
      return reply.json(rawServiceList(10, [rawService("web", 9)]));
    }
    return onWatch(reply, request, ++watches);
  };
}

/** A watch that stays open and says nothing more. */
async function stayOpen(reply: RawReply, request: RawRequest): Promise<void> {
  await untilGone(request);
  reply.close();
}

Deno.test("reflect() lists, then watches from the list's version", async () => {
  await using following = new Following(webThen(async (reply, request) => {
    await reply.begin();
    await reply.event("ADDED", rawService("api", 11));
    await reply.event("MODIFIED", rawService("web", 12, 81));
    await reply.event("DELETED", rawService("api", 13));
    await stayOpen(reply, request);
  }));
  await following.until(() => following.batches.length === 4);
  assert.deepEqual(following.served, ["web:81"]);
  const [list, watch] = following.server.requests;
  assert.equal(list?.path, "/api/v1/services");
  assert.deepEqual(Object.fromEntries(list?.query ?? []), {
    limit: "500",
    labelSelector: "!service.kubernetes.io/service-proxy-name",
    fieldSelector: "spec.clusterIP!=None",
  });
  assert.deepEqual(Object.fromEntries(watch?.query ?? []), {
    watch: "1",
    resourceVersion: "10",
    allowWatchBookmarks: "true",
    timeoutSeconds: "450", // 300 + half of 301
    labelSelector: "!service.kubernetes.io/service-proxy-name",
    fieldSelector: "spec.clusterIP!=None",
  });
});

Deno.test("reflect() reads a list in pages", async () => {
  await using following = new Following((request, reply) => {
    if (request.isWatch) {
      return reply.begin().then(() => stayOpen(reply, request));
    }
    switch (request.query.get("continue")) {
      case null:
        return reply.json(rawServiceList(10, [rawService("a", 1)], "second"));
      case "second":
        return reply.json(rawServiceList(10, [rawService("b", 2)], "third"));
      default:
        return reply.json(rawServiceList(10, [rawService("c", 3)]));
    }
  });
  await following.until(() => following.watches.length === 1);
  assert.deepEqual(following.served, ["a:80", "b:80", "c:80"]);
  assert.equal(following.batches.length, 1);
});

Deno.test("reflect() starts a list again in one piece when its token expired", async () => {
  await using following = new Following((request, reply) => {
    if (request.isWatch) {
      return reply.begin().then(() => stayOpen(reply, request));
    }
    if (request.query.has("continue")) {
      return reply.refuse(410, { reason: "Expired" });
    }
    return request.query.has("limit")
      ? reply.json(rawServiceList(10, [rawService("a", 1)], "second"))
      : reply.json(rawServiceList(12, [rawService("b", 11)]));
  });
  await following.until(() => following.watches.length === 1);
  assert.deepEqual(following.served, ["b:80"]);
  assert.deepEqual(following.watches, ["12"]);
  assert.deepEqual(following.waits, []);
});

Deno.test("reflect() refuses a list whose pages go round in circles", async () => {
  await using following = new Following((_, reply) =>
    reply.json(rawServiceList(10, [], "again"))
  );
  await following.until(() => following.waits.length === 1);
  assert.equal(following.informer.hasSynced, false);
  const reasons = following.events.map((event) =>
    event.type === "state" ? event.state.reason : undefined
  );
  assert.match(reasons.join(), /same page again/);
});

Deno.test("reflect() goes without a field selector the server does not know", async () => {
  await using following = new Following((request, reply) => {
    if (request.query.has("fieldSelector")) {
      return reply.refuse(400, { reason: "BadRequest" });
    }
    if (request.isWatch) {
      return reply.begin().then(() => stayOpen(reply, request));
    }
    const headless = rawService("headless", 8);
    Object.assign(headless.spec as object, { clusterIP: "None" });
    return reply.json(rawServiceList(10, [rawService("web", 9), headless]));
  });
  await following.until(() => following.watches.length === 1);
  assert.deepEqual(following.served, ["web:80"]);
  assert.deepEqual(following.waits, []);
});

Deno.test("reflect() does not go without the name of the own Node", async () => {
  await using following = new Following(
    (_, reply) => reply.refuse(400, { reason: "BadRequest" }),
    { resource: nodeNamed("here") },
  );
  await following.until(() => following.waits.length === 2);
  for (const { query } of following.server.requests) {
    assert.equal(query.get("fieldSelector"), "metadata.name=here");
  }
});

Deno.test("reflect() lists again after an ERROR event of 410", async () => {
  await using following = new Following(
    webThen(async (reply, request, number) => {
      await reply.begin();
      if (number > 1) return stayOpen(reply, request);
      await reply.event("ERROR", {
        kind: "Status",
        code: 410,
        reason: "Expired",
        message: "too old resource version: 10 (347)",
      });
      await reply.end();
    }),
  );
  await following.until(() => following.watches.length === 2);
  assert.equal(following.lists, 2);
  assert.equal(following.batches.length, 1, "the same list is no change");
  assert.deepEqual(following.waits, [], "the first time, at once");
});

Deno.test("reflect() lists again after a watch is answered 410", async () => {
  await using following = new Following(
    webThen(async (reply, request, number) => {
      if (number === 1) return await reply.refuse(410, { reason: "Gone" });
      await reply.begin();
      await stayOpen(reply, request);
    }),
  );
  await following.until(() => following.watches.length === 2);
  assert.equal(following.lists, 2);
});

Deno.test("reflect() does not run in circles where every watch is 410", async () => {
  await using following = new Following(webThen((reply) => reply.refuse(410)));
  await following.until(() => following.waits.length === 6);
  assert.deepEqual(following.waits, [400, 800, 1600, 3200, 6400, 12800]);
  assert.deepEqual(following.served, ["web:80"]);
});

Deno.test("reflect() serves what it knows while it lists again", async () => {
  let lists = 0;
  await using following = new Following((request, reply) => {
    if (request.isWatch) return reply.refuse(410);
    if (++lists === 1) {
      return reply.json(rawServiceList(10, [rawService("web", 9)]));
    }
    if (lists < 4) return reply.refuse(503);
    return reply.json(rawServiceList(20, [rawService("api", 19)]));
  });
  await following.until(() => following.batches.length === 2);
  const [gone, made] = following.batches[1] ?? [];
  assert.equal(gone?.before?.metadata.name, "web");
  assert.equal(made?.after?.metadata.name, "api");
  assert.equal(following.batches.length, 2, "no batch in between");
});

Deno.test("reflect() retries a list that is forbidden for a moment", async () => {
  await using following = new Following((request, reply) => {
    if (request.number < 4) return reply.refuse(403, { reason: "Forbidden" });
    if (request.isWatch) {
      return reply.begin().then(() => stayOpen(reply, request));
    }
    return reply.json(rawServiceList(10, [rawService("web", 9)]));
  });
  await following.until(() => following.informer.hasSynced);
  assert.deepEqual(following.waits, [400, 800, 1600]);
});

Deno.test("reflect() waits as long as Retry-After says", async () => {
  await using following = new Following((request, reply) => {
    if (request.number === 1) {
      return reply.refuse(429, { headers: { "retry-after": "7" } });
    }
    if (request.isWatch) {
      return reply.begin().then(() => stayOpen(reply, request));
    }
    return reply.json(rawServiceList(10, []));
  });
  await following.until(() => following.informer.hasSynced);
  assert.deepEqual(following.waits, [7400]);
});

Deno.test("reflect() goes on from the last version when a watch is cut inside a line", async () => {
  await using following = new Following(
    webThen(async (reply, request, number) => {
      await reply.begin();
      if (number === 1) {
        await reply.event("ADDED", rawService("api", 11));
        await reply.chunk('{"type":"ADDED","object":{"kind":"Serv');
        return reply.close();
      }
      await reply.event("ADDED", rawService("db", 12));
      await stayOpen(reply, request);
    }),
  );
  await following.until(() => following.batches.length === 3);
  assert.deepEqual(following.served, ["api:80", "db:80", "web:80"]);
  assert.deepEqual(following.watches, ["10", "11"]);
  assert.equal(following.lists, 1);
});

Deno.test("reflect() reads a last event that has no line feed", async () => {
  await using following = new Following(
    webThen(async (reply, request, number) => {
      await reply.begin();
      if (number > 1) return stayOpen(reply, request);
      const event = { type: "ADDED", object: rawService("api", 11) };
      await reply.chunk(JSON.stringify(event));
      await reply.end();
    }),
  );
  await following.until(() => following.batches.length === 2);
  assert.deepEqual(following.served, ["api:80", "web:80"]);
});

Deno.test("reflect() watches again after a garbage line, and lists after a second", async () => {
  await using following = new Following(
    webThen(async (reply, request, number) => {
      await reply.begin();
      if (number > 2) return stayOpen(reply, request);
      await reply.chunk("<html>Bad gateway</html>\n");
      await stayOpen(reply, request);
    }),
  );
  await following.until(() => following.watches.length === 3);
  assert.deepEqual(following.watches, ["10", "10", "10"]);
  assert.equal(following.lists, 2);
});

Deno.test("reflect() lists again when a version is refused three times", async () => {
  // An unparsable version is a 500 without a reason: asking on would not end.
  await using following = new Following(webThen((reply, request, number) => {
    if (number <= 3) return reply.refuse(500);
    return reply.begin().then(() => stayOpen(reply, request));
  }));
  await following.until(() => following.watches.length === 4);
  assert.equal(following.lists, 2);
  assert.deepEqual(following.waits, [400, 800, 1600]);
});

Deno.test("reflect() skips an object that cannot be read, and takes the rest", async () => {
  await using following = new Following(webThen(async (reply, request) => {
    await reply.begin();
    await reply.event("ADDED", {
      ...rawService("bad", 11),
      spec: { ports: [{ port: "http" }] },
    });
    await reply.event("ADDED", { kind: "Service" });
    await reply.event("ADDED", 17);
    await reply.event("DELETED", null);
    await reply.event("ADDED", rawService("good", 14));
    await stayOpen(reply, request);
  }));
  await following.until(() => following.batches.length === 2);
  assert.deepEqual(following.served, ["good:80", "web:80"]);
  assert.equal(following.lists, 1);
});

Deno.test("reflect() keeps the readable state of a listed object that no longer is", async () => {
  let lists = 0;
  await using following = new Following((request, reply) => {
    if (request.isWatch) return reply.refuse(410);
    const bad = { ...rawService("web", 19), spec: { ports: 5 } };
    return ++lists === 1
      ? reply.json(
        rawServiceList(10, [rawService("web", 9), rawService("a", 8)]),
      )
      : reply.json(rawServiceList(20, [bad, rawService("b", 18)]));
  });
  await following.until(() => following.batches.length === 2);
  assert.deepEqual(following.served, ["b:80", "web:80"]);
});

Deno.test("reflect() takes an object that leaves the selector for deleted", async () => {
  await using following = new Following(webThen(async (reply, request) => {
    await reply.begin();
    const other = rawService("web", 11);
    Object.assign(other.metadata, {
      labels: { "service.kubernetes.io/service-proxy-name": "" },
    });
    await reply.event("MODIFIED", other);
    await stayOpen(reply, request);
  }));
  await following.until(() => following.batches.length === 2);
  assert.deepEqual(following.served, []);
});

Deno.test("reflect() moves its version with bookmarks alone", async () => {
  await using following = new Following(
    webThen(async (reply, request, number) => {
      await reply.begin();
      if (number > 1) return stayOpen(reply, request);
      await reply.event("BOOKMARK", rawBookmark(50));
      await reply.event("BOOKMARK", rawBookmark(50));
      await reply.end();
    }),
  );
  await following.until(() => following.watches.length === 2);
  assert.deepEqual(following.watches, ["10", "50"]);
  assert.equal(following.batches.length, 1);
});

Deno.test("reflect() delivers the same event twice as one change", async () => {
  await using following = new Following(webThen(async (reply, request) => {
    await reply.begin();
    await reply.event("ADDED", rawService("api", 11));
    await reply.event("ADDED", rawService("api", 11));
    await reply.event("ADDED", rawService("db", 12));
    await stayOpen(reply, request);
  }));
  await following.until(() => following.served.includes("db:80"));
  assert.equal(following.batches.length, 3);
});

Deno.test("reflect() reads a gzipped list and a gzipped watch", async () => {
  await using following = new Following(async (request, reply) => {
    if (!request.isWatch) {
      const list = JSON.stringify(rawServiceList(10, [rawService("web", 9)]));
      await reply.begin({ "content-encoding": "gzip" });
      await reply.chunk(await gzip(list));
      return await reply.end();
    }
    await reply.begin({ "content-encoding": "gzip" });
    const event = { type: "ADDED", object: rawService("api", 11) };
    await reply.chunk(await gzip(JSON.stringify(event) + "\n"));
    await stayOpen(reply, request);
  });
  await following.until(() => following.batches.length === 2);
  assert.deepEqual(following.served, ["api:80", "web:80"]);
});

Deno.test("reflect() waits out a server that is away, and goes on where it was", async () => {
  await using following = new Following(
    webThen(async (reply, request, number) => {
      if (number > 1 && number < 6) return reply.close();
      await reply.begin();
      if (number > 1) {
        await reply.event("ADDED", rawService("api", 12));
        return await stayOpen(reply, request);
      }
      await reply.event("BOOKMARK", rawBookmark(11));
      reply.close();
    }),
  );
  await following.until(() => following.batches.length === 2);
  assert.deepEqual(following.watches, ["10", "11", "11", "11", "11", "11"]);
  assert.equal(following.lists, 1);
  assert.deepEqual(following.waits, [400, 800, 1600, 3200, 6400]);
});

Deno.test("reflect() asks for an absent optional resource now and then", async () => {
  const optional = { ...nodeNamed("x"), optional: true };
  await using following = new Following(
    (_, reply) => reply.refuse(404, { reason: "NotFound" }),
    { resource: optional },
  );
  await following.until(() => following.waits.length === 2);
  assert.equal(following.informer.hasSynced, true);
  assert.deepEqual(following.waits, [300_000, 300_000]);
});

async function gzip(text: string): Promise<Uint8Array> {
  const stream = new Blob([text]).stream()
    .pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

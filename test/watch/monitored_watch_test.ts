/**
 * A watch that says nothing: quiet cluster, dead connection, sleeping laptop,
 * buffering proxy or a server that was set back. Time is the test's.
 *
 * @module
 */
import assert from "node:assert/strict";
import { ServerHistory } from "../../watch/server_history.ts";
import { Following, isProbe } from "../support/following.ts";
import {
  rawBookmark,
  rawService,
  rawServiceList,
} from "../support/raw_objects.ts";
import {
  type RawReply,
  type RawRequest,
  untilGone,
} from "../support/raw_server.ts";

/**
 * A server whose ordinary watches are `onWatch`'s, while lists and the glimpses
 * of a probe tell the truth.
 */
class Truth {
  version = 10;
  services = [rawService("web", 9)];
  watches = 0;
  readonly onWatch: (
    reply: RawReply,
    request: RawRequest,
    number: number,
  ) => Promise<void>;
  /** Answers to the questions of a probe. */
  onProbe: (reply: RawReply, request: RawRequest) => Promise<void> = (
    reply,
    request,
  ) => this.answer(reply, request);

  constructor(
    onWatch: (
      reply: RawReply,
      request: RawRequest,
      number: number,
    ) => Promise<void>,
  ) {
    this.onWatch = onWatch;
  }

  readonly handle = (request: RawRequest, reply: RawReply): Promise<void> => {
    if (isProbe(request.query)) return this.onProbe(reply, request);
    return request.isWatch
      ? this.onWatch(reply, request, ++this.watches)
      : this.answer(reply, request);
  };

  async answer(reply: RawReply, request: RawRequest): Promise<void> {
    if (!request.isWatch) {
      return await reply.json(rawServiceList(this.version, this.services));
    }
    await reply.begin();
    await this.tell(reply, request);
    await reply.end();
  }

  /** Every object that is newer than the version watched from. */
  async tell(reply: RawReply, request: RawRequest): Promise<void> {
    const from = Number(request.query.get("resourceVersion"));
    for (const object of this.services) {
      if (Number(object.metadata.resourceVersion) <= from) continue;
      await reply.event("MODIFIED", object);
    }
  }

  change(port: number): void {
    this.version += 1;
    this.services = [rawService("web", this.version, port)];
  }
}

async function silent(reply: RawReply, request: RawRequest): Promise<void> {
  await reply.begin();
  await untilGone(request);
  reply.close();
}

Deno.test("a watch is kept while the server has nothing new", async () => {
  const truth = new Truth(silent);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  await following.advanceUntil(
    () => following.probes >= 5,
    { mostMs: 120_000, stepMs: 5000 },
  );
  assert.deepEqual(following.watches, ["10"]);
  assert.deepEqual(following.waits, []);
});

Deno.test("a watch is kept while only other kinds of objects change", async () => {
  const truth = new Truth(silent);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  truth.version = 900;
  await following.advanceUntil(
    () => following.probes >= 6,
    { mostMs: 240_000, stepMs: 5000 },
  );
  assert.deepEqual(following.watches, ["10"]);
});

Deno.test("a watch is doubted when for minutes only other kinds seem to change", async () => {
  const truth = new Truth(silent);
  // Something on the way swallows the events of every watch.
  truth.onProbe = (reply, request) =>
    request.isWatch
      ? reply.begin().then(() => reply.end())
      : truth.answer(reply, request);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  truth.change(81);
  const ms = await following.advanceUntil(
    () => following.served[0] === "web:81",
    { mostMs: 240_000 },
  );
  assert.ok(ms > 60_000 && ms < 150_000, `${ms} ms`);
});

Deno.test("a server whose watches are mute is listed again", async () => {
  const truth = new Truth(silent);
  truth.onProbe = (reply, request) =>
    request.isWatch ? silent(reply, request) : truth.answer(reply, request);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  truth.change(81);
  const ms = await following.advanceUntil(
    () => following.served[0] === "web:81",
    { mostMs: 60_000 },
  );
  assert.ok(ms <= 20_000, `${ms} ms`);
});

Deno.test("a server whose watches are mute is given up on, where that is allowed", async () => {
  const truth = new Truth(silent);
  truth.onProbe = (reply, request) =>
    request.isWatch ? silent(reply, request) : truth.answer(reply, request);
  await using following = new Following(truth.handle, { mayGiveUp: true });
  await following.until(() => following.watches.length === 1);
  truth.change(81);
  await following.advanceUntil(() => following.result !== undefined, {
    mostMs: 60_000,
  });
  assert.match(following.result?.reason ?? "", /does not end a watch of 1 s/);
});

Deno.test("a dead connection is noticed by what it did not deliver", async () => {
  const truth = new Truth(async (reply, request, number) => {
    await reply.begin();
    if (number === 1) await reply.event("BOOKMARK", rawBookmark(10));
    else await truth.tell(reply, request);
    await untilGone(request);
    reply.close();
  });
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  truth.change(81);
  const ms = await following.advanceUntil(
    () => following.served[0] === "web:81",
    { mostMs: 60_000 },
  );
  assert.ok(ms <= 40_000, `${ms} ms`);
  assert.deepEqual(following.watches, ["10", "10"]);
  assert.equal(following.lists, 1);
});

Deno.test("a machine that slept asks as soon as it is awake", async () => {
  const truth = new Truth(async (reply, request, number) => {
    await reply.begin();
    if (number === 1) await reply.event("ADDED", rawService("api", 11));
    else await truth.tell(reply, request);
    await untilGone(request);
    reply.close();
  });
  await using following = new Following(truth.handle);
  await following.until(() => following.served.includes("api:80"));
  truth.version = 11;
  truth.change(81);
  following.clock.jump(8 * 3_600_000);
  const ms = await following.advanceUntil(
    () => following.served.includes("web:81"),
    { mostMs: 60_000 },
  );
  assert.ok(ms <= 15_000, `${ms} ms`);
});

Deno.test("a watch is dropped when the server does not answer a probe", async () => {
  const truth = new Truth(silent);
  truth.onProbe = (reply, request) =>
    untilGone(request).then(() => reply.close());
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  await following.advanceUntil(() => following.watches.length === 2, {
    mostMs: 60_000,
  });
  assert.deepEqual(following.watches, ["10", "10"]);
  assert.deepEqual(following.served, ["web:80"]);
});

Deno.test("a watch is kept when a probe is refused", async () => {
  const truth = new Truth(silent);
  truth.onProbe = (reply) => reply.refuse(429);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  await following.advanceUntil(
    () => following.probes >= 3,
    { mostMs: 120_000, stepMs: 5000 },
  );
  assert.deepEqual(following.watches, ["10"]);
});

Deno.test("a watch from the future is given up for a list", async () => {
  // What a restored etcd looks like: the watch is 200, and silent.
  const truth = new Truth(silent);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  truth.version = 5;
  truth.services = [rawService("old", 4)];
  await following.advanceUntil(() => following.served[0] === "old:80", {
    mostMs: 60_000,
  });
  await following.until(() => following.watches.length === 2);
  assert.deepEqual(following.watches, ["10", "5"]);
});

/** A server whose first watch delivers and ends at `first`; others are silent. */
function interrupted(first: Promise<void>): Truth {
  return new Truth(async (reply, request, number) => {
    if (number > 1) return await silent(reply, request);
    await reply.begin();
    await reply.event("BOOKMARK", rawBookmark(10));
    await first;
    await reply.end();
  });
}

Deno.test("a watch that goes on at a server that was set back is found out soon", async () => {
  const end = Promise.withResolvers<void>();
  const truth = interrupted(end.promise);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  truth.version = 5;
  truth.services = [rawService("old", 4)];
  end.resolve();
  await following.until(() => following.watches.length === 2);
  const ms = await following.advanceUntil(
    () => following.served[0] === "old:80",
    { mostMs: 60_000, stepMs: 500 },
  );
  // The network is real: the header took some steps of the clock.
  assert.ok(ms <= 4_500, `${ms} ms`);
  assert.equal(following.probes, 1);
});

Deno.test("a watch that goes on at a healthy server costs one question more", async () => {
  const end = Promise.withResolvers<void>();
  const truth = interrupted(end.promise);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  end.resolve();
  await following.until(() => following.watches.length === 2);
  await following.advanceUntil(() => following.probes > 0, {
    mostMs: 4_500,
    stepMs: 500,
  });
  assert.equal(following.probes, 1);
  assert.equal(following.lists, 1);
  assert.deepEqual(following.watches, ["10", "10"]);
});

Deno.test("a watch that goes on after the end of its time is not asked about early", async () => {
  const end = Promise.withResolvers<void>();
  const truth = interrupted(end.promise);
  truth.onProbe = (reply) => reply.refuse(429);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  await following.advanceUntil(() => following.probes >= 15, {
    mostMs: 600_000,
    stepMs: 5_000,
  });
  end.resolve();
  await following.until(() => following.watches.length === 2);
  const before = following.probes;
  await following.clock.advance(25_000);
  assert.equal(following.probes, before);
});

Deno.test("who hears of a server that was set back lists again, though it has caught up since", async () => {
  const history = new ServerHistory();
  const truth = new Truth(silent);
  const others = new Truth(silent);
  await using following = new Following(truth.handle, { history });
  await using other = new Following(others.handle, { history });
  await following.until(() => following.watches.length === 1);
  await other.until(() => other.watches.length === 1);
  truth.version = 5;
  truth.services = [rawService("old", 4)];
  // The same version as before, and another object.
  others.services = [rawService("old", 10)];
  await following.advanceUntil(() => following.served[0] === "old:80", {
    mostMs: 60_000,
  });
  await other.until(() => other.served[0] === "old:80");
  await other.until(() => other.watches.length === 2);
  await following.until(() => following.watches.length === 2);
  assert.deepEqual([following.lists, other.lists], [2, 2]);
  assert.equal(history.epoch, 1);
});

Deno.test("a list that is older than the last one is told to the others, once", async () => {
  const history = new ServerHistory();
  const gone = Promise.withResolvers<void>();
  const truth = new Truth(async (reply, request, number) => {
    if (number > 1) return await silent(reply, request);
    await reply.begin();
    await gone.promise;
    await reply.event("ERROR", { kind: "Status", code: 410 });
    await reply.end();
  });
  const others = new Truth(silent);
  await using following = new Following(truth.handle, { history });
  await using other = new Following(others.handle, { history });
  await following.until(() => following.watches.length === 1);
  await other.until(() => other.watches.length === 1);
  truth.version = others.version = 5;
  gone.resolve();
  await following.until(() => following.watches.length === 2);
  await other.until(() => other.watches.length === 2);
  assert.deepEqual(other.watches, ["10", "5"]);
  assert.deepEqual([following.lists, other.lists], [2, 2]);
  assert.equal(history.epoch, 1);
});

Deno.test("a version that is gone is noticed by the probe", async () => {
  const truth = new Truth(silent);
  truth.onProbe = async (reply, request) => {
    if (!request.isWatch) return await truth.answer(reply, request);
    await reply.begin();
    await reply.event("ERROR", { kind: "Status", code: 410 });
    await reply.end();
  };
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  truth.change(81);
  await following.advanceUntil(() => following.served[0] === "web:81", {
    mostMs: 60_000,
  });
  assert.equal(following.lists, 2);
});

Deno.test("a watch that outlives its timeout in silence is dead", async () => {
  const truth = new Truth(silent);
  truth.onProbe = (reply) => reply.refuse(503);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  const ms = await following.advanceUntil(
    () => following.watches.length === 2,
    { mostMs: 600_000, stepMs: 5000 },
  );
  assert.ok(ms > 450_000, `${ms} ms`);
});

Deno.test("a watch that drips bytes and ends no line is silent", async () => {
  const truth = new Truth(async (reply, request, number) => {
    await reply.begin();
    if (number > 1) {
      await truth.tell(reply, request);
    } else {
      for (let count = 0; count < 20; count++) await reply.chunk(" ");
    }
    await untilGone(request);
    reply.close();
  });
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  truth.change(81);
  await following.advanceUntil(() => following.served[0] === "web:81", {
    mostMs: 60_000,
  });
});

Deno.test("a buffering proxy is given up on, where that is allowed", async () => {
  const truth = new Truth(silent);
  await using following = new Following(truth.handle, { mayGiveUp: true });
  await following.until(() => following.watches.length === 1);
  truth.change(81);
  const ms = await following.advanceUntil(
    () => following.result !== undefined,
    { mostMs: 60_000 },
  );
  assert.match(following.result?.reason ?? "", /silent while services change/);
  assert.ok(ms <= 15_000, `${ms} ms`);
});

Deno.test("a buffering proxy is lived with, where watching is an order", async () => {
  const truth = new Truth(silent);
  await using following = new Following(truth.handle);
  await following.until(() => following.watches.length === 1);
  truth.change(81);
  await following.advanceUntil(() => following.served[0] === "web:81", {
    mostMs: 120_000,
    stepMs: 5000,
  });
  truth.change(82);
  await following.advanceUntil(() => following.served[0] === "web:82", {
    mostMs: 120_000,
    stepMs: 5000,
  });
});

Deno.test("a proxy that holds back the header is given up on", async () => {
  const truth = new Truth(async (reply, request) => {
    await untilGone(request);
    reply.close();
  });
  truth.onProbe = (reply) => reply.refuse(503);
  await using following = new Following(truth.handle, { mayGiveUp: true });
  await following.until(() => following.watches.length === 1);
  await following.advanceUntil(() => following.result !== undefined, {
    mostMs: 60_000,
  });
  assert.match(following.result?.reason ?? "", /does not start/);
});

for (const code of [405, 501]) {
  Deno.test(`watches answered ${code} are given up on at once`, async () => {
    const truth = new Truth((reply) => reply.refuse(code));
    await using following = new Following(truth.handle, { mayGiveUp: true });
    await following.until(() => following.result !== undefined);
    assert.equal(following.watches.length, 1);
    assert.deepEqual(following.served, ["web:80"]);
  });
}

Deno.test("watches that are forbidden while lists work are given up on", async () => {
  const truth = new Truth((reply) =>
    reply.refuse(403, { reason: "Forbidden" })
  );
  await using following = new Following(truth.handle, { mayGiveUp: true });
  await following.until(() => following.result !== undefined);
  assert.equal(
    following.watches.length,
    4,
    "three strikes, and one more after a list",
  );
  assert.equal(following.lists, 2);
});

Deno.test("watches that end at once are given up on", async () => {
  const truth = new Truth(async (reply) => {
    await reply.begin();
    await reply.end();
  });
  await using following = new Following(truth.handle, { mayGiveUp: true });
  await following.until(() => following.result !== undefined);
  assert.match(following.result?.reason ?? "", /end as soon as/);
});

import assert from "node:assert/strict";
import { poll, type PollOptions } from "../../watch/poller.ts";
import { nodeNamed, SERVICES } from "../../watch/resource.ts";
import { ResourceClient } from "../../watch/resource_client.ts";
import type { ClusterObject, SourceEvent } from "../../watch/types.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { FetchClient } from "../support/fetch_client.ts";
import { rawService, rawServiceList } from "../support/raw_objects.ts";
import { type RawHandler, RawServer } from "../support/raw_server.ts";

/** Polls every 2 s until the server has answered `lists` times. */
async function polled(
  handler: RawHandler,
  lists: number,
  options: { resource?: ReturnType<typeof nodeNamed>; forMs?: number } = {},
): Promise<{ events: SourceEvent<ClusterObject>[]; waits: number[] }> {
  const stop = new AbortController();
  const clock = new FakeClock();
  await using server = new RawServer(handler);
  using client = new FetchClient(server.url);
  const resource = options.resource ?? SERVICES;
  const resourceClient = new ResourceClient<ClusterObject>(
    client,
    resource as unknown as typeof resource & {
      selects: (o: ClusterObject) => boolean;
    },
    { clock },
  );
  const waits: number[] = [];
  const patient: PollOptions["clock"] = {
    now: () => clock.now(),
    async delay(ms, signal) {
      waits.push(ms);
      clock.jump(ms);
      await Promise.resolve();
      signal?.throwIfAborted();
      if (server.requests.length >= lists) stop.abort();
    },
  };
  const events: SourceEvent<ClusterObject>[] = [];
  const polling = poll(resourceClient, {
    intervalMs: 2000,
    signal: stop.signal,
    clock: patient,
    random: () => 0.5,
    ...(options.forMs === undefined ? {} : { forMs: options.forMs }),
  });
  for await (const event of polling) events.push(event);
  return { events, waits };
}

function summary(events: readonly SourceEvent<ClusterObject>[]): string[] {
  return events.map((event) => {
    switch (event.type) {
      case "replaced":
        return event.objects.map((o) =>
          `${o.metadata.name}@${o.metadata.resourceVersion}`
        ).join(" ");
      case "state":
        return event.state.phase;
      default:
        return event.type;
    }
  });
}

Deno.test("poll() passes on only lists that differ", async () => {
  const lists = [
    rawServiceList(10, [rawService("a", 1), rawService("b", 2)]),
    rawServiceList(11, [rawService("a", 1), rawService("b", 2)]),
    rawServiceList(12, [rawService("a", 1), rawService("b", 12)]),
    rawServiceList(13, [rawService("b", 12)]),
    rawServiceList(14, [rawService("b", 12)]),
  ];
  const { events, waits } = await polled(
    ({ number }, reply) => reply.json(lists[number - 1]),
    lists.length,
  );
  assert.deepEqual(summary(events), ["polling", "a@1 b@2", "a@1 b@12", "b@12"]);
  assert.deepEqual(waits, [2000, 2000, 2000, 2000, 2000]);
});

Deno.test("poll() notices an object that was deleted and made again", async () => {
  const again = rawService("a", 1);
  const { events } = await polled(
    ({ number }, reply) =>
      reply.json(rawServiceList(number, [
        number === 1
          ? again
          : { ...again, metadata: { ...again.metadata, uid: "2" } },
      ])),
    3,
  );
  assert.equal(events.filter(({ type }) => type === "replaced").length, 2);
});

Deno.test("poll() says nothing is gone while lists fail", async () => {
  const { events, waits } = await polled(({ number }, reply) => {
    if (number === 2) {
      return reply.refuse(429, { headers: { "retry-after": "9" } });
    }
    if (number === 3) return reply.close();
    return reply.json(rawServiceList(number, [rawService("a", 1)]));
  }, 5);
  assert.deepEqual(summary(events), [
    "polling",
    "a@1",
    "waiting",
    "waiting",
    "polling",
  ]);
  assert.deepEqual(waits, [2000, 9400, 2000, 2000, 2000]);
});

Deno.test("poll() ends after the time it was given", async () => {
  const { waits } = await polled(
    ({ number }, reply) => reply.json(rawServiceList(number, [])),
    100,
    { forMs: 9000 },
  );
  assert.equal(waits.length, 5);
});

Deno.test("poll() takes an absent optional resource for an empty one", async () => {
  const { events, waits } = await polled(
    (_, reply) => reply.refuse(404),
    3,
    { resource: { ...nodeNamed("x"), optional: true } },
  );
  assert.deepEqual(summary(events), ["", "waiting", "waiting", "waiting"]);
  assert.deepEqual(waits, [300_000, 300_000, 300_000]);
});

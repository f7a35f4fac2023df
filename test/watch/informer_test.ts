/**
 * The numbered promises of watch/informer.ts, one test (or more) for each.
 *
 * @module
 */
import assert from "node:assert/strict";
import { decodeService } from "../../watch/decode.ts";
import { Informer } from "../../watch/informer.ts";
import type { Change, Service, SourceEvent } from "../../watch/types.ts";
import { rawService } from "../support/raw_objects.ts";

type Event = SourceEvent<Service>;

function service(name: string, version: number, uid = `uid-${name}`): Service {
  const object = decodeService(rawService(name, version));
  return { ...object, metadata: { ...object.metadata, uid } };
}

function replaced(
  objects: readonly Service[],
  unreadable: readonly string[] = [],
): Event {
  return { type: "replaced", objects, unreadable: new Set(unreadable) };
}

function applied(object: Service): Event {
  return { type: "applied", object };
}

function deleted(name: string): Event {
  return { type: "deleted", key: `default/${name}` };
}

/** `web:1>2`: web went from version 1 to 2; `-` is "not there". */
function told(change: Change<Service>): string {
  const name = change.key.replace("default/", "");
  const before = change.before?.metadata.resourceVersion ?? "-";
  const after = change.after?.metadata.resourceVersion ?? "-";
  return `${name}:${before}>${after}`;
}

/** The batches that these events lead to. */
async function batchesOf(events: readonly Event[]): Promise<string[][]> {
  const informer = new Informer(stream(events));
  const batches: string[][] = [];
  await informer.run((changes) => batches.push(changes.map(told)));
  return batches;
}

async function* stream(events: readonly Event[]): AsyncGenerator<Event, void> {
  for (const event of events) yield await Promise.resolve(event);
}

Deno.test("Informer (1): an object made again between two lists is one change", async () => {
  const batches = await batchesOf([
    replaced([service("web", 1, "old")]),
    replaced([service("web", 5, "new")]),
  ]);
  assert.deepEqual(batches, [["web:->1"], ["web:1>5"]]);
});

Deno.test("Informer (1): deleted and made again are two changes, in that order", async () => {
  const batches = await batchesOf([
    replaced([service("web", 1, "old")]),
    deleted("web"),
    applied(service("web", 3, "new")),
  ]);
  assert.deepEqual(batches, [["web:->1"], ["web:1>-"], ["web:->3"]]);
});

Deno.test("Informer (2): hasSynced comes with the first list and stays", async () => {
  const source = new TransformStream<Event, Event>();
  const writer = source.writable.getWriter();
  const informer = new Informer(source.readable);
  const seen: boolean[] = [];
  const running = informer.run(() => seen.push(informer.hasSynced));
  await writer.write({ type: "state", state: { phase: "listing" } });
  assert.equal(informer.hasSynced, false);
  await writer.write(replaced([service("web", 1)]));
  await writer.write(deleted("web"));
  await writer.close();
  await running;
  assert.deepEqual(seen, [true, true]);
  assert.equal(informer.hasSynced, true);
});

Deno.test("Informer (2): an empty cluster is a batch as well, once", async () => {
  assert.deepEqual(await batchesOf([replaced([]), replaced([])]), [[]]);
});

Deno.test("Informer (3): a later list is one batch of what differs", async () => {
  const batches = await batchesOf([
    replaced([service("a", 1), service("b", 2), service("c", 3)]),
    replaced([service("b", 2), service("c", 7), service("d", 8)]),
  ]);
  assert.deepEqual(batches[1], ["a:1>-", "c:3>7", "d:->8"]);
});

Deno.test("Informer (4): each before is the last after", async () => {
  const batches = await batchesOf([
    replaced([]),
    applied(service("web", 2)),
    applied(service("web", 3)),
    applied(service("web", 1)), // A server that was set back is followed.
    deleted("web"),
    deleted("web"),
  ]);
  assert.deepEqual(batches.slice(1).flat(), [
    "web:->2",
    "web:2>3",
    "web:3>1",
    "web:1>-",
  ]);
});

Deno.test("Informer (5): the same state again is no change", async () => {
  const batches = await batchesOf([
    replaced([service("web", 1)]),
    applied(service("web", 1)),
    replaced([service("web", 1)]),
    applied(service("web", 1, "another")),
  ]);
  assert.deepEqual(batches, [["web:->1"], ["web:1>1"]]);
});

Deno.test("Informer (6): the store holds what is being told", async () => {
  const informer = new Informer(stream([
    replaced([service("a", 1), service("b", 2)]),
    replaced([service("b", 4)]),
  ]));
  await informer.run((changes) => {
    for (const { key, after } of changes) {
      assert.equal(informer.store.get(key), after);
    }
  });
  assert.deepEqual([...informer.store.keys()], ["default/b"]);
});

Deno.test("Informer (7): states change nothing but the state", async () => {
  const informer = new Informer(stream([
    replaced([service("a", 1)]),
    { type: "state", state: { phase: "waiting", reason: "No route" } },
  ]));
  let calls = 0;
  await informer.run(() => calls++);
  assert.equal(calls, 1);
  assert.equal(informer.store.size, 1);
  assert.deepEqual(informer.state, { phase: "waiting", reason: "No route" });
});

Deno.test("Informer (7): an unreadable object keeps its last readable state", async () => {
  const batches = await batchesOf([
    replaced([service("a", 1), service("b", 2)], ["default/never-seen"]),
    replaced([], ["default/b"]),
    replaced([]),
  ]);
  assert.deepEqual(batches.slice(1), [["a:1>-"], ["b:2>-"]]);
});

Deno.test("Informer.run() ends with what its consumer throws", async () => {
  const informer = new Informer(
    stream([replaced([]), applied(service("a", 1))]),
  );
  const error = new RangeError("enough");
  await assert.rejects(
    informer.run(() => {
      throw error;
    }),
    error,
  );
});

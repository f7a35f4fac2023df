import assert from "node:assert/strict";
import type { LogEntry } from "@std/log";
import { EventFeed, FEED_MAX } from "../../../proxy/status/event_feed.ts";
import { History, HISTORY_MS } from "../../../proxy/status/history.ts";

function entry(message: string): LogEntry {
  return { time: 1, level: "info", module: "proxy", message, properties: {} };
}

Deno.test("EventFeed.since() has what came after, oldest first", () => {
  const feed = new EventFeed();
  assert.deepEqual(feed.since(0), []);
  for (const message of ["a", "b", "c"]) feed.add(entry(message));
  assert.deepEqual(feed.since(0).map(({ message }) => message), [
    "a",
    "b",
    "c",
  ]);
  assert.deepEqual(feed.since(2).map(({ message }) => message), ["c"]);
  assert.deepEqual(feed.since(feed.last), []);
  assert.deepEqual(feed.since(99), []);
});

Deno.test("EventFeed keeps the latest only", () => {
  const feed = new EventFeed();
  for (let n = 1; n <= FEED_MAX + 5; n++) feed.add(entry(String(n)));
  const kept = feed.since(0);
  assert.equal(kept.length, FEED_MAX);
  assert.equal(kept[0]?.message, "6");
  assert.deepEqual(feed.since(FEED_MAX + 4).map(({ message }) => message), [
    String(FEED_MAX + 5),
  ]);
});

Deno.test("History drops what is older than the plots", () => {
  const history = new History();
  const sample = {
    open: 0,
    total: 0,
    failed: 0,
    bytesToEndpoints: 0,
    bytesToClients: 0,
  };
  for (const time of [0, 1_000, HISTORY_MS, HISTORY_MS + 1_000]) {
    history.add({ time, ...sample });
  }
  assert.deepEqual(history.samples.map(({ time }) => time), [
    1_000,
    HISTORY_MS,
    HISTORY_MS + 1_000,
  ]);
});

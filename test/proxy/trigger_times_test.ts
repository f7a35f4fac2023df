import assert from "node:assert/strict";
import { TriggerTimes } from "../../proxy/trigger_times.ts";
import type { EndpointSlice } from "../../watch/types.ts";
import { added, deleted, modified, slice } from "../support/objects.ts";

const START = Date.UTC(2026, 0, 1);
const KEY = "endpoints.kubernetes.io/last-change-trigger-time";

/** A slice of a Service, whose endpoints changed `second` s after the start. */
function changed(
  key: string,
  second: number | string,
  ...endpoints: string[]
): EndpointSlice {
  const at = typeof second === "string"
    ? second
    : new Date(START + second * 1_000).toISOString();
  const made = slice(key, { endpoints });
  return {
    ...made,
    metadata: { ...made.metadata, annotations: { [KEY]: at } },
  };
}

function seconds(times: TriggerTimes): string[] {
  return times.take().map(({ family, at }) => `${family} ${(at - START) / 1e3}`)
    .sort();
}

Deno.test("[9.12, 9.13, 9.15] TriggerTimes hands out each effective change once", () => {
  const times = new TriggerTimes(START);
  const first = changed("ns/a-1", 1, "10.0.0.1");
  const second = changed("ns/a-1", 2, "10.0.0.1", "10.0.0.2");
  times.note([added(first), modified(first, second)]);
  times.note([added(changed("ns/b-1", 3, "fd00::1"))]);
  assert.deepEqual(seconds(times), ["IPv4 1", "IPv4 2", "IPv6 3"]);
  assert.deepEqual(seconds(times), []);
});

Deno.test("[9.15] TriggerTimes does not count a change that does not show", () => {
  const times = new TriggerTimes(START);
  const first = changed("ns/a-1", 1, "10.0.0.1");
  times.note([modified(first, changed("ns/a-1", 2, "10.0.0.1"))]);
  assert.deepEqual(seconds(times), []);
});

Deno.test("[9.15] TriggerTimes forgets what waited for a Service when a slice of it goes", () => {
  const times = new TriggerTimes(START);
  const first = changed("ns/a-1", 1, "10.0.0.1");
  times.note([added(first), added(changed("ns/b-1", 2, "10.0.0.2"))]);
  times.note([deleted(first)]);
  assert.deepEqual(seconds(times), ["IPv4 2"]);
  times.note([added(first), deleted(first), added(first)]);
  assert.deepEqual(seconds(times), ["IPv4 1"]);
});

Deno.test("[9.14] TriggerTimes does not count what happened before the start", () => {
  const times = new TriggerTimes(START);
  times.note([added(changed("ns/a-1", -1, "10.0.0.1"))]);
  times.note([added(changed("ns/b-1", 0, "10.0.0.1"))]);
  assert.deepEqual(seconds(times), []);
});

Deno.test("[9.13] TriggerTimes ignores a time that cannot be read, or is not there", () => {
  const times = new TriggerTimes(START);
  times.note([added(changed("ns/a-1", "yesterday", "10.0.0.1"))]);
  times.note([added(slice("ns/b-1", { endpoints: ["10.0.0.1"] }))]);
  assert.deepEqual(seconds(times), []);
});

import assert from "node:assert/strict";
import { Backoff } from "../../watch/backoff.ts";
import { FakeClock } from "../support/fake_clock.ts";

Deno.test("Backoff doubles from 0.8 s to 30 s", () => {
  const backoff = new Backoff({ clock: new FakeClock(), random: () => 1 });
  const waits = Array.from({ length: 8 }, () => backoff.nextMs());
  assert.deepEqual(
    waits,
    [800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000],
  );
});

Deno.test("Backoff draws from the whole step", () => {
  const draws = [0, 0.25, 0.5];
  const backoff = new Backoff({
    clock: new FakeClock(),
    random: () => draws.shift() ?? 0,
  });
  assert.deepEqual(
    [backoff.nextMs(), backoff.nextMs(), backoff.nextMs()],
    [0, 400, 1600],
  );
});

Deno.test("Backoff begins anew after two healthy minutes", () => {
  const clock = new FakeClock();
  const backoff = new Backoff({ clock, random: () => 1 });
  backoff.nextMs();
  backoff.nextMs(); // The wait itself, 1.6 s, is no health.
  clock.jump(120_000);
  assert.equal(backoff.nextMs(), 3200);
  clock.jump(123_200);
  assert.equal(backoff.nextMs(), 800);
});

Deno.test("Backoff waits at least as long as the server asks, within reason", () => {
  const backoff = new Backoff({ clock: new FakeClock(), random: () => 0.5 });
  assert.equal(backoff.nextMs(10), 10_400);
  assert.equal(backoff.nextMs(1e9), 120_800);
});

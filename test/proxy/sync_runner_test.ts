import assert from "node:assert/strict";
import { SyncRunner } from "../../proxy/sync_runner.ts";
import { FakeClock, settle } from "../support/fake_clock.ts";

const PERIOD_MS = 30_000;

type Outcome = "done" | "again" | Error | Promise<"done" | "again">;

/** A runner whose syncs end as `outcomes` say, then with `done`. */
class Bench implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly #start = this.clock.now();
  readonly #abort = new AbortController();
  readonly outcomes: Outcome[] = [];
  /** When each sync began, milliseconds after the start. */
  readonly startedMs: number[] = [];
  running = 0;
  mostRunning = 0;
  readonly runner: SyncRunner;
  readonly #run: Promise<void>;
  readonly #held: PromiseWithResolvers<"done" | "again">[] = [];

  constructor(periodMs = PERIOD_MS, minPauseMs = 0) {
    this.runner = new SyncRunner({
      clock: this.clock,
      periodMs,
      minPauseMs,
      sync: () => this.#sync(),
    });
    this.#run = this.runner.run(this.#abort.signal);
  }

  async #sync(): Promise<"done" | "again"> {
    this.startedMs.push(this.clock.now() - this.#start);
    this.mostRunning = Math.max(this.mostRunning, ++this.running);
    try {
      const outcome = await (this.outcomes.shift() ?? "done");
      if (outcome instanceof Error) throw outcome;
      return outcome;
    } finally {
      this.running--;
    }
  }

  /** How long the oldest request has been waiting, for `/healthz`. */
  get queuedMs(): number | undefined {
    const { queuedAt } = this.runner.times;
    return queuedAt === undefined ? undefined : this.clock.now() - queuedAt;
  }

  get updatedMs(): number {
    return this.runner.times.updatedAt - this.#start;
  }

  /** The next sync ends when the test says so, or with the test. */
  hold(): PromiseWithResolvers<"done" | "again"> {
    const sync = Promise.withResolvers<"done" | "again">();
    this.outcomes.push(sync.promise);
    this.#held.push(sync);
    return sync;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    for (const sync of this.#held) sync.resolve("done");
    await this.#run;
  }
}

Deno.test("SyncRunner does not sync before it is asked to", async () => {
  await using bench = new Bench();
  await settle();
  assert.deepEqual(bench.startedMs, []);
});

Deno.test("SyncRunner serves the requests of one turn with one sync", async () => {
  await using bench = new Bench();
  bench.runner.request();
  bench.runner.request();
  assert.deepEqual(bench.startedMs, [], "not in the same turn");
  for (let microtask = 0; microtask < 20; microtask++) {
    await Promise.resolve();
    bench.runner.request();
  }
  await settle();
  assert.deepEqual(bench.startedMs, [0]);
});

Deno.test("[2.37] SyncRunner syncs at once for a request, whatever came just before", async () => {
  await using bench = new Bench();
  for (let i = 0; i < 3; i++) {
    bench.runner.request();
    await settle();
  }
  assert.deepEqual(bench.startedMs, [0, 0, 0]);
});

Deno.test("SyncRunner syncs again for a request that comes during a sync, one at a time", async () => {
  await using bench = new Bench();
  const first = bench.hold();
  bench.runner.request();
  await settle();
  bench.runner.request();
  bench.runner.request();
  await settle();
  assert.equal(bench.startedMs.length, 1);
  first.resolve("done");
  await settle();
  assert.equal(bench.startedMs.length, 2);
  assert.equal(bench.mostRunning, 1);
});

Deno.test("SyncRunner serves a request made before run()", async () => {
  const abort = new AbortController();
  let syncs = 0;
  const runner = new SyncRunner({
    clock: new FakeClock(),
    periodMs: PERIOD_MS,
    sync: () => Promise.resolve(++syncs > 0 ? "done" : "again"),
  });
  runner.request();
  const run = runner.run(abort.signal);
  await settle();
  assert.equal(syncs, 1);
  abort.abort();
  await run;
});

Deno.test("SyncRunner syncs every period without a request", async () => {
  await using bench = new Bench();
  await bench.clock.advance(2 * PERIOD_MS + 1);
  assert.deepEqual(bench.startedMs, [PERIOD_MS, 2 * PERIOD_MS]);
});

Deno.test("SyncRunner repeats a sync that throws after 1, 2, 4 … 30 s, then rests", async () => {
  await using bench = new Bench(60_000);
  bench.outcomes.push(...Array(7).fill(new Error("no luck")));
  bench.runner.request();
  await bench.clock.advance(150_000);
  const pauses = bench.startedMs.slice(1).map((at, i) =>
    (at - (bench.startedMs[i] ?? 0)) / 1000
  );
  assert.deepEqual(pauses, [1, 2, 4, 8, 16, 30, 30]);
});

Deno.test("SyncRunner repeats a sync that left something undone, without a word on health", async () => {
  await using bench = new Bench();
  bench.outcomes.push("again", "again");
  bench.runner.request();
  await bench.clock.advance(1_500);
  assert.deepEqual(bench.startedMs, [0, 1_000]);
  assert.equal(bench.queuedMs, undefined);
  await bench.clock.advance(2_000);
  assert.deepEqual(bench.startedMs, [0, 1_000, 3_000]);
});

Deno.test("SyncRunner begins with 1 s again after a success", async () => {
  await using bench = new Bench();
  bench.outcomes.push("again", "again", "done", "again");
  bench.runner.request();
  await bench.clock.advance(3_000);
  bench.runner.request();
  await bench.clock.advance(1_000);
  assert.deepEqual(bench.startedMs, [0, 1_000, 3_000, 3_000, 4_000]);
});

Deno.test("SyncRunner does not wait for its pause where a request comes", async () => {
  await using bench = new Bench();
  bench.outcomes.push(new Error("no luck"));
  bench.runner.request();
  await bench.clock.advance(500);
  bench.runner.request();
  await settle();
  assert.deepEqual(bench.startedMs, [0, 500]);
});

Deno.test("[7.5] SyncRunner remembers the first request since the last success", async () => {
  await using bench = new Bench();
  assert.equal(bench.queuedMs, undefined);
  bench.outcomes.push(new Error("no luck"), new Error("no luck"));
  bench.runner.request();
  await bench.clock.advance(1_500);
  bench.runner.request();
  assert.equal(bench.queuedMs, 1_500);
  await settle();
  assert.equal(bench.queuedMs, undefined, "the third sync succeeded");
  assert.equal(bench.updatedMs, 1_500);
});

Deno.test("[7.5] SyncRunner counts a sync that does not end as waiting", async () => {
  await using bench = new Bench();
  const hanging = bench.hold();
  bench.runner.request();
  await bench.clock.advance(61_000);
  assert.equal(bench.queuedMs, 61_000);
  hanging.resolve("done");
  await settle();
  assert.equal(bench.queuedMs, undefined);
});

Deno.test("[7.5] SyncRunner counts a request that comes during a sync from its own time on", async () => {
  await using bench = new Bench();
  const [first, second] = [bench.hold(), bench.hold()];
  bench.runner.request();
  await bench.clock.advance(10_000);
  bench.runner.request();
  await bench.clock.advance(1_000);
  assert.equal(bench.queuedMs, 11_000);
  first.resolve("done");
  await settle();
  assert.equal(bench.queuedMs, 1_000);
  second.resolve("done");
  await settle();
  assert.equal(bench.queuedMs, undefined);
});

Deno.test("[7.7] SyncRunner counts its start as an update", async () => {
  await using bench = new Bench();
  await bench.clock.advance(5_000);
  assert.equal(bench.updatedMs, 0);
});

Deno.test("SyncRunner finishes a running sync when it is stopped, and starts none", async () => {
  const clock = new FakeClock();
  const abort = new AbortController();
  const sync = Promise.withResolvers<"done">();
  let syncs = 0;
  const runner = new SyncRunner({
    clock,
    periodMs: PERIOD_MS,
    sync: () => (syncs++, sync.promise),
  });
  const run = runner.run(abort.signal);
  runner.request();
  await settle();
  runner.request();
  abort.abort();
  let ended = false;
  const watched = run.then(() => ended = true);
  await settle();
  assert.equal(ended, false);
  sync.resolve("done");
  await watched;
  assert.equal(syncs, 1);
  assert.equal(clock.sleeping, 0);
});

Deno.test("SyncRunner ends at once with a signal that is aborted already", async () => {
  const runner = new SyncRunner({
    clock: new FakeClock(),
    periodMs: PERIOD_MS,
    sync: () => assert.fail("synced"),
  });
  runner.request();
  await runner.run(AbortSignal.abort());
});

Deno.test("[9.2, 9.3, 9.4] SyncRunner leaves a pause between the end of one sync and the next", async () => {
  await using bench = new Bench(PERIOD_MS, 1_000);
  const first = bench.hold();
  bench.runner.request();
  await settle();
  await bench.clock.advance(400);
  // While one runs, and in the pause after it: one more, for all of them.
  bench.runner.request();
  first.resolve("done");
  await settle();
  await bench.clock.advance(999);
  bench.runner.request();
  await settle();
  assert.deepEqual(bench.startedMs, [0]);
  await bench.clock.advance(1);
  await settle();
  assert.deepEqual(bench.startedMs, [0, 1_400]);
  await bench.clock.advance(5_000);
  bench.runner.request();
  await settle();
  assert.deepEqual(bench.startedMs, [0, 1_400, 6_400]);
});

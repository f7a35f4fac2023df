import assert from "node:assert/strict";
import { Proxier } from "../../proxy/proxier.ts";
import { SyncRunner } from "../../proxy/sync_runner.ts";
import { WritePace } from "../../proxy/write_pace.ts";
import { type ServiceState, serviceState } from "../../proxy/desired_state.ts";
import { FakeClock, settle } from "../support/fake_clock.ts";
import { FakeEngine } from "../support/fake_engine.ts";
import { FakeSteering } from "../support/fake_steering.ts";
import { service, slice } from "../support/objects.ts";

Deno.test("WritePace lets two writes pass, then one in each period", () => {
  const pace = new WritePace(1_000);
  let now = 1_000_000;
  const waits = [];
  for (let n = 0; n < 4; n++) {
    const waitMs = pace.waitMs(now);
    waits.push(waitMs);
    now += waitMs;
    pace.wrote(now);
  }
  assert.deepEqual(waits, [0, 0, 1_000, 1_000]);
  now += 1_500;
  assert.equal(pace.waitMs(now), 0);
  pace.wrote(now);
  assert.equal(pace.waitMs(now), 500);
});

Deno.test("WritePace waits for one period at most when the clock was set back", () => {
  const pace = new WritePace(1_000);
  const before = 3_600_000;
  pace.wrote(before);
  pace.wrote(before);
  const now = 0;
  assert.equal(pace.waitMs(now), 1_000);
  assert.equal(pace.waitMs(now + 400), 600);
  assert.equal(pace.waitMs(now + 1_000), 0);
});

Deno.test("WritePace without a period never waits", () => {
  const pace = new WritePace(0);
  for (let n = 0; n < 10; n++) pace.wrote(0);
  assert.equal(pace.waitMs(0), 0);
});

function withEndpoint(name: string, clusterIP: string): ServiceState {
  return serviceState(
    service(name, { clusterIP, ports: [{ name: "http", port: 80 }] }),
    {
      slices: [
        slice(`${name}-1`, {
          ports: [{ name: "http", port: 8080 }],
          endpoints: [{ ip: "10.0.0.1" }],
        }),
      ],
      node: { name: "n1", zone: "" },
    },
  );
}

/** A proxier and what drives it, by a clock that stands still. */
class Bench implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly engine = new FakeEngine();
  readonly steering = new FakeSteering();
  readonly #stop = new AbortController();
  readonly #proxier: Proxier;
  readonly #runner: SyncRunner;
  readonly #running: Promise<void>;
  #waiting: ServiceState[] = [];

  constructor(periodMs: number) {
    this.#proxier = new Proxier({
      engine: this.engine,
      steering: this.steering,
      pace: { periodMs, clock: this.clock },
    });
    this.#runner = new SyncRunner({
      clock: this.clock,
      periodMs: 30_000,
      dueAt: () => this.#proxier.writesDueAt,
      sync: () => {
        const changed = this.#waiting.splice(0);
        const { signal } = this.#stop;
        return this.#proxier.sync({ changed, removed: [] }, signal);
      },
    });
    this.#running = this.#runner.run(this.#stop.signal);
  }

  /** A Service that was not there before. */
  async add(name: string, clusterIP: string): Promise<void> {
    this.#waiting.push(withEndpoint(name, clusterIP));
    this.#runner.request();
    await settle();
  }

  /** Addresses whose listeners steering was told of. */
  get steered(): string[] {
    return [...this.steering.open].sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#proxier.close(AbortSignal.abort());
  }
}

const IPS = ["10.96.0.1", "10.96.0.2", "10.96.0.3", "10.96.0.4", "10.96.0.5"];

Deno.test("[9.2] minSyncPeriod delays rules, and neither listeners nor endpoints", async () => {
  await using bench = new Bench(1_000);
  bench.steering.written = 1;
  for (const [n, ip] of IPS.entries()) await bench.add(`default/s${n}`, ip);
  assert.deepEqual(bench.engine.listening, IPS.map((ip) => `${ip}:80`));
  const two = ["10.96.0.1:80/TCP", "10.96.0.2:80/TCP"];
  assert.deepEqual(bench.steered, two);
  await bench.clock.advance(999);
  assert.deepEqual(bench.steered, two);
  // All that has come meanwhile is one write.
  await bench.clock.advance(1);
  assert.deepEqual(bench.steered, IPS.map((ip) => `${ip}:80/TCP`));
});

Deno.test("[9.2] minSyncPeriod does not delay a strategy that has nothing to write", async () => {
  await using bench = new Bench(1_000);
  for (const [n, ip] of IPS.entries()) await bench.add(`default/s${n}`, ip);
  assert.deepEqual(bench.steered, IPS.map((ip) => `${ip}:80/TCP`));
});

Deno.test("[9.2] a minSyncPeriod of 0 delays nothing", async () => {
  await using bench = new Bench(0);
  bench.steering.written = 1;
  for (const [n, ip] of IPS.entries()) await bench.add(`default/s${n}`, ip);
  assert.deepEqual(bench.steered, IPS.map((ip) => `${ip}:80/TCP`));
});

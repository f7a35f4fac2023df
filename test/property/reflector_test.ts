/**
 * Whatever happens on the way, and in whatever order: once the server behaves,
 * the store is equal to it, and the changes that were told add up to the store.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { Informer } from "../../watch/informer.ts";
import { SERVICES } from "../../watch/resource.ts";
import { followResource, type WatchMode } from "../../watch/sources.ts";
import type { ObjectKey, Service } from "../../watch/types.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { ModelApi } from "../support/model_api.ts";

type Step = (model: ModelApi) => void;

/** Printed by fast-check as what it is called. */
function named(name: string, run: Step): Step {
  return Object.assign(run, { [fc.toStringMethod]: () => name });
}

const serviceName = fc.constantFrom("a", "b", "c", "d", "ü", "f", "g");
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: serviceName.map((n) => named(`apply ${n}`, (m) => m.apply(n))),
  },
  {
    weight: 3,
    arbitrary: serviceName.map((n) => named(`delete ${n}`, (m) => m.delete(n))),
  },
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      named("compact", (m) => m.compact()),
      named("bookmark", (m) => m.bookmark()),
      named("cut", (m) => m.cut(false)),
      named("cut inside a line", (m) => m.cut(true)),
      named("end", (m) => m.end()),
      named("hang", (m) => m.hang()),
      named("garble", (m) => m.garble()),
      named("fail 0", (m) => m.fail(0)),
      named("fail 403", (m) => m.fail(403)),
      named("fail 410", (m) => m.fail(410)),
      named("fail 500", (m) => m.fail(500)),
      named("fail 405", (m) => m.fail(405)),
    ),
  },
);

const history = fc.array(
  fc.record({ step: steps, pauseMs: fc.constantFrom(0, 0, 500, 3000, 40_000) }),
  { maxLength: 25 },
);

for (const mode of ["watch", "auto", "poll"] satisfies WatchMode[]) {
  Deno.test(`any history ends with store = server (${mode})`, async () => {
    await fc.assert(
      fc.asyncProperty(
        history,
        fc.integer({ min: 1, max: 400 }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        async (history, chunkBytes, random) => {
          using model = new ModelApi({ chunkBytes });
          const clock = new FakeClock();
          const stop = new AbortController();
          const informer = new Informer<Service>(
            followResource(model, SERVICES, {
              mode,
              pollIntervalMs: 10_000,
              signal: stop.signal,
              clock,
              random: () => random,
            }),
          );
          const mirror = new Map<ObjectKey, Service>();
          const running = informer.run((changes) => {
            for (const { key, before, after } of changes) {
              assert.equal(mirror.get(key), before);
              if (after === undefined) mirror.delete(key);
              else mirror.set(key, after);
            }
          });
          for (const { step, pauseMs } of history) {
            step(model);
            await clock.advance(pauseMs);
          }
          model.heal();
          await clock.advance(120_000);
          stop.abort();
          await running;
          assert.deepEqual(versions(mirror), versions(informer.store));
          assert.deepEqual(
            versions(informer.store),
            [...model.services.values()].map(({ metadata }) =>
              `default/${metadata.name} ${metadata.uid} ${metadata.resourceVersion}`
            ).sort(),
          );
        },
      ),
      { numRuns: 60 },
    );
  });
}

function versions(store: ReadonlyMap<ObjectKey, Service>): string[] {
  return [...store].map(([key, { metadata }]) =>
    `${key} ${metadata.uid} ${metadata.resourceVersion}`
  ).sort();
}

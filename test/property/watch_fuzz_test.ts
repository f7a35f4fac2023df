/**
 * Recorded answers, damaged at random: whatever a list or a watch says, nothing
 * falls over, and every object that is not damaged is served as it is.
 *
 * Each property runs from a fixed seed and from a new one, which is in the name
 * of its step. `FUZZ_SECONDS=600` runs each for so long instead, and
 * `FUZZ_SEED=N` runs that seed.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { buildDesiredState, serviceKeyOf } from "../../proxy/desired_state.ts";
import { forwardingPolicy } from "../../proxy/forwarding_policy.ts";
import { listenAddresses } from "../../proxy/listen_addresses.ts";
import { decodeKey } from "../../watch/decode.ts";
import { Informer } from "../../watch/informer.ts";
import {
  ENDPOINT_SLICES,
  type Resource,
  SERVICES,
} from "../../watch/resource.ts";
import { followResource } from "../../watch/sources.ts";
import type {
  ClusterObject,
  EndpointSlice,
  ObjectKey,
  Service,
} from "../../watch/types.ts";
import { FakeClock } from "../support/fake_clock.ts";
import {
  byteEdits,
  editBytes,
  mutate,
  type Mutation,
  mutations,
} from "../support/mutations.ts";
import type { RawObject } from "../support/raw_objects.ts";
import { RecordedApi, recordedList } from "../support/recorded_api.ts";

const RUNS = 60;
const FIXED_SEED = 20_261_126;
const seconds = Number(Deno.env.get("FUZZ_SECONDS") ?? 0);
const seed = Deno.env.get("FUZZ_SEED");
const seeds = seed !== undefined ? [Number(seed)] : [
  ...(seconds === 0 ? [FIXED_SEED] : []),
  Math.floor(Math.random() * 2 ** 31),
];

/** What happens in the recording's cluster: an object as it is changed to. */
interface Happening {
  readonly index: number;
  readonly isDeleted: boolean;
  readonly damage: readonly Mutation[];
  /** The event itself is damaged, and not the object in it. */
  readonly isOutside: boolean;
}

const happenings: fc.Arbitrary<readonly Happening[]> = fc.array(
  fc.record({
    index: fc.nat(20),
    isDeleted: fc.oneof(
      { weight: 5, arbitrary: fc.constant(false) },
      { weight: 1, arbitrary: fc.constant(true) },
    ),
    damage: fc.oneof(
      { weight: 2, arbitrary: fc.constant([]) },
      {
        weight: 3,
        arbitrary: fc.array(mutations, { minLength: 1, maxLength: 3 }),
      },
    ),
    isOutside: fc.oneof(
      { weight: 5, arbitrary: fc.constant(false) },
      { weight: 1, arbitrary: fc.constant(true) },
    ),
  }),
  { maxLength: 12 },
);

const playing = fc.record({
  cuts: fc.array(fc.nat(100_000), { maxLength: 20 }),
  end: fc.constantFrom("stays open", "ends", "is cut"),
  random: fc.double({ min: 0, max: 0.999, noNaN: true }),
  repeated: fc.array(
    fc.record({ from: fc.nat(11), length: fc.integer({ min: 1, max: 4 }) }),
    { maxLength: 2 },
  ),
});

type Playing = {
  readonly cuts: readonly number[];
  readonly end: "stays open" | "ends" | "is cut";
  readonly random: number;
  readonly repeated: readonly Repetition[];
};

/** Lines that are sent once more, after the last. */
interface Repetition {
  readonly from: number;
  readonly length: number;
}

interface Line {
  readonly version: number;
  readonly key: ObjectKey;
  /** As it is, and as it is sent. */
  readonly text: string;
  readonly sent: string;
}

/** A recorded list, and what becomes of it. */
class Story {
  readonly items: readonly RawObject[];
  readonly version: number;
  readonly now = new Map<ObjectKey, RawObject>();
  readonly lines: Line[] = [];
  /** Keys of which something wrong is said, or somebody else's name. */
  readonly damaged = new Set<ObjectKey>();
  laterVersion: number;

  constructor(list: { items: readonly RawObject[]; version: number }) {
    this.items = list.items;
    this.version = this.laterVersion = list.version;
    for (const item of list.items) this.now.set(decodeKey(item)!, item);
  }

  happens({ index, isDeleted, damage, isOutside }: Happening): void {
    const item = this.items[index % this.items.length]!;
    const key = decodeKey(item)!;
    const version = ++this.laterVersion;
    const before = this.now.get(key) ?? item;
    const metadata = {
      ...before.metadata,
      resourceVersion: String(version),
      labels: { ...before.metadata.labels as object, turn: String(version) },
    };
    const object = { ...before, metadata };
    if (isDeleted) this.now.delete(key);
    else this.now.set(key, object);
    const event = { type: isDeleted ? "DELETED" : "MODIFIED", object };
    let sent: unknown = event;
    for (const mutation of damage) {
      sent = isOutside ? mutate(sent, mutation) : {
        ...sent as typeof event,
        object: mutate((sent as typeof event).object, mutation),
      };
    }
    if (damage.length > 0) {
      this.damaged.add(key);
      const alias = decodeKey((sent as { object?: unknown } | null)?.object);
      if (alias !== undefined) this.damaged.add(alias);
    }
    const text = JSON.stringify(event) + "\n";
    // Nothing at all is no JSON.
    const said = JSON.stringify(sent) ?? "null";
    const line = { version, key, text, sent: said + "\n" };
    this.lines.push(line);
  }

  bytes(repeated: readonly Repetition[] = []): Uint8Array<ArrayBuffer> {
    const again = repeated.flatMap(({ from, length }) =>
      this.lines.slice(from, from + length)
    );
    const text = [...this.lines, ...again].map(({ sent }) => sent).join("");
    return new TextEncoder().encode(text);
  }

  /** Keys of lines that hold bytes of this range, and of those at its ends. */
  damageRange(from: number, to: number): void {
    let at = 0;
    for (const { key, sent } of this.lines) {
      const end = at + new TextEncoder().encode(sent).length;
      if (from <= end && to >= at) this.damaged.add(key);
      at = end;
    }
  }
}

/** Follows it to its end, and returns what is then served. */
async function follow<T extends ClusterObject>(
  story: Story,
  resource: Resource<T>,
  how: Playing & {
    readonly bytes: Uint8Array<ArrayBuffer>;
    readonly replayed: "text" | "sent";
    readonly laterItems?: readonly unknown[];
  },
): Promise<ReadonlyMap<ObjectKey, T>> {
  using api = new RecordedApi({
    items: story.items,
    version: story.version,
    laterItems: how.laterItems ?? [...story.now.values()],
    laterVersion: story.laterVersion,
    bytes: how.bytes,
    cuts: how.cuts,
    end: how.end,
    replay: (from) =>
      story.lines.filter(({ version }) => version > from)
        .map((line) => line[how.replayed]),
  });
  const clock = new FakeClock();
  const stop = new AbortController();
  const informer = new Informer<T>(followResource(api, resource, {
    mode: "watch",
    pollIntervalMs: 10_000,
    signal: stop.signal,
    clock,
    random: () => how.random,
  }));
  const mirror = new Map<ObjectKey, T>();
  const running = informer.run((changes) => {
    for (const { key, before, after } of changes) {
      assert.equal(mirror.get(key), before);
      if (after === undefined) mirror.delete(key);
      else mirror.set(key, after);
    }
  });
  await clock.advance(300_000);
  assert.equal(informer.hasSynced, true);
  assert.deepEqual(mirror, informer.store);
  stop.abort();
  await running;
  return mirror;
}

/** Every object that is not damaged is there as it is, or gone as it should be. */
function checkServed<T extends ClusterObject>(
  story: Story,
  resource: Resource<T>,
  served: ReadonlyMap<ObjectKey, T>,
): void {
  const { damaged } = story;
  const want = new Map<ObjectKey, T>();
  for (const [key, raw] of story.now) {
    const object = resource.decode(raw);
    if (!damaged.has(key) && resource.selects(object)) want.set(key, object);
  }
  const names = new Set(story.items.map((item) => decodeKey(item)));
  const seen = [...served].filter(([key]) =>
    names.has(key) && !damaged.has(key)
  );
  // A changed name is nobody's: the object is as valid as any other.
  const others = [...served.keys()].filter((key) => !names.has(key));
  assert.ok(others.length <= damaged.size, others.join(" "));
  assert.deepEqual(new Map(seen.sort()), new Map([...want].sort()));
}

const NODE_ADDRESSES = {
  nodePortIps: ["192.0.2.1"],
  nodeIps: ["192.0.2.1"],
  clusterSources: [],
};
const NODE = { name: "n1", zone: "" };

/** What is made of it is what is made of the valid objects alone. */
function checkDesiredState(
  services: Iterable<Service>,
  slices: Iterable<EndpointSlice>,
  isDamaged: (service: ObjectKey) => boolean,
): void {
  const state = buildDesiredState(services, { slices, node: NODE });
  const valid = buildDesiredState(
    [...services].filter(({ metadata: { namespace, name } }) =>
      !isDamaged(`${namespace}/${name}`)
    ),
    {
      slices: [...slices].filter((slice) =>
        !isDamaged(serviceKeyOf(slice) ?? "")
      ),
      node: NODE,
    },
  );
  for (const [key, { ports }] of state) {
    for (const port of ports) {
      forwardingPolicy(port);
      listenAddresses(port, NODE_ADDRESSES);
    }
    if (!isDamaged(key)) assert.deepEqual(state.get(key), valid.get(key));
  }
}

const SERVICE_LIST = await recordedList("services-list.http");
const SLICE_LIST = await recordedList("endpointslices-list.http");

const LISTS = [
  { name: "Services", list: SERVICE_LIST, resource: SERVICES },
  { name: "EndpointSlices", list: SLICE_LIST, resource: ENDPOINT_SLICES },
] as const;

function fuzz(
  name: string,
  property: () => fc.IAsyncPropertyWithHooks<never>,
): void {
  Deno.test(name, async (t) => {
    for (const seed of seeds) {
      await t.step(`seed ${seed}`, async () => {
        await fc.assert(property(), {
          seed,
          ...(seconds === 0 ? { numRuns: RUNS } : {
            numRuns: 1e9,
            interruptAfterTimeLimit: seconds * 1_000,
            markInterruptAsFailure: false,
          }),
        });
      });
    }
  });
}

for (const { name, list, resource } of LISTS) {
  fuzz(
    `${name} that are damaged, in lists and in watches, change nothing for others`,
    () =>
      fc.asyncProperty(happenings, playing, async (happenings, playing) => {
        const story = new Story(list);
        for (const happening of happenings) story.happens(happening);
        // Lists have the same damage, for as long as an object stays so.
        const lastSent = new Map(
          story.lines.map(({ key, sent }) => [key, JSON.parse(sent)?.object]),
        );
        const laterItems = [...story.now].map(([key, raw]) =>
          story.damaged.has(key) && lastSent.has(key) ? lastSent.get(key) : raw
        );
        const served = await follow(
          story,
          resource as unknown as Resource<ClusterObject>,
          {
            ...playing,
            bytes: story.bytes(playing.repeated),
            replayed: "sent",
            laterItems,
          },
        );
        checkServed(
          story,
          resource as unknown as Resource<ClusterObject>,
          served,
        );
        const objects = [...served.values()];
        if (resource.name === SERVICES.name) {
          checkDesiredState(
            objects as Service[],
            SLICE_LIST.items.map((item) => ENDPOINT_SLICES.decode(item)),
            (key) => story.damaged.has(key),
          );
        } else {
          const owners = new Set([...story.damaged].map((key) =>
            serviceKeyOf(
              ENDPOINT_SLICES.decode(
                list.items.find((item) => decodeKey(item) === key) ??
                  list.items[0],
              ),
            ) ?? ""
          ));
          checkDesiredState(
            SERVICE_LIST.items.map((item) => SERVICES.decode(item)),
            objects as EndpointSlice[],
            (key) => owners.has(key),
          );
        }
      }) as never,
  );

  fuzz(
    `a watch of ${name} whose bytes are damaged costs no other object, in any chunks`,
    () =>
      fc.asyncProperty(
        happenings.filter(({ length }) => length > 0),
        fc.array(byteEdits, { minLength: 1, maxLength: 4 }),
        playing,
        async (happenings, edits, playing) => {
          const story = new Story(list);
          for (const one of happenings) story.happens({ ...one, damage: [] });
          // Later edits may hit anything between the first and the last place.
          let bytes = story.bytes();
          let [least, most] = [Infinity, -1];
          for (const edit of edits) {
            const edited = editBytes(bytes, edit);
            bytes = edited.bytes;
            least = Math.min(least, edited.from);
            most = edit.kind === "truncate" || edits.length > 1
              ? Infinity
              : Math.max(most, edited.to);
          }
          story.damageRange(least, most);
          const served = await follow(
            story,
            resource as unknown as Resource<ClusterObject>,
            { ...playing, bytes, replayed: "text" },
          );
          checkServed(
            story,
            resource as unknown as Resource<ClusterObject>,
            served,
          );
        },
      ) as never,
  );
}

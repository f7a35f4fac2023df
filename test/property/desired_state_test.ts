import assert from "node:assert/strict";
import fc from "fast-check";
import {
  buildDesiredState,
  externalEndpoints,
  internalEndpoints,
  policiesWithoutEndpoints,
  reachableEndpoints,
  serviceKeyOf,
  type ServicePortState,
} from "../../proxy/desired_state.ts";
import type { Endpoint } from "../../proxy/endpoint.ts";
import { StateTracker } from "../../proxy/state_tracker.ts";
import {
  usesClusterEndpoints,
  usesLocalEndpoints,
} from "../../proxy/service_port.ts";
import {
  type ClusterObject,
  type EndpointSlice,
  type Node,
  objectKey,
  type Service,
} from "../../watch/types.ts";
import { added, deleted, modified } from "../support/objects.ts";
import {
  nodes,
  OWN_NODE,
  serviceKeys,
  services,
  sliceKeys,
  slices,
} from "../support/random_objects.ts";

/** One event of the API; a deletion of what does not exist does not happen. */
type Event =
  | { readonly type: "service"; readonly object: Service }
  | { readonly type: "slice"; readonly object: EndpointSlice }
  | { readonly type: "node"; readonly object: Node }
  | { readonly type: "no service" | "no slice"; readonly key: string }
  | { readonly type: "sync" };

const events: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 4,
    arbitrary: serviceKeys.chain(services)
      .map((object): Event => ({ type: "service", object })),
  },
  {
    weight: 6,
    arbitrary: sliceKeys.chain(slices)
      .map((object): Event => ({ type: "slice", object })),
  },
  {
    weight: 2,
    arbitrary: nodes.map((object): Event => ({ type: "node", object })),
  },
  {
    weight: 1,
    arbitrary: serviceKeys.map((key): Event => ({ type: "no service", key })),
  },
  {
    weight: 2,
    arbitrary: sliceKeys.map((key): Event => ({ type: "no slice", key })),
  },
  { weight: 4, arbitrary: fc.constant<Event>({ type: "sync" }) },
);

const histories = fc.array(events, { maxLength: 40, size: "max" });

/** What the API server holds, and how it tells of changes. */
class Objects<T extends ClusterObject> {
  readonly byKey = new Map<string, T>();

  apply(object: T) {
    const key = objectKey(object.metadata);
    const before = this.byKey.get(key);
    this.byKey.set(key, object);
    return [before === undefined ? added(object) : modified(before, object)];
  }

  delete(key: string) {
    const before = this.byKey.get(key);
    if (before === undefined) return [];
    this.byKey.delete(key);
    return [deleted(before)];
  }
}

class Cluster {
  readonly services = new Objects<Service>();
  readonly slices = new Objects<EndpointSlice>();
  zone = "";

  /** Hands an event to a tracker, as the sources would. */
  happen(event: Event, tracker: StateTracker): void {
    switch (event.type) {
      case "service":
        return tracker.applyServices(this.services.apply(event.object));
      case "slice":
        return tracker.applyEndpointSlices(this.slices.apply(event.object));
      case "no service":
        return tracker.applyServices(this.services.delete(event.key));
      case "no slice":
        return tracker.applyEndpointSlices(this.slices.delete(event.key));
      case "node":
        if (event.object.metadata.name === OWN_NODE) {
          this.zone = event.object.metadata
            .labels["topology.kubernetes.io/zone"] ?? "";
        }
        return tracker.applyNode([added(event.object)]);
      case "sync":
        tracker.takeChanges();
    }
  }

  /** Of Services that are there, and of Services that slices are for. */
  get names(): Set<string | undefined> {
    const owners = [...this.slices.byKey.values()].map(serviceKeyOf);
    return new Set([...this.services.byKey.keys(), ...owners])
      .difference(new Set([undefined]));
  }

  build() {
    return buildDesiredState(this.services.byKey.values(), {
      slices: this.slices.byKey.values(),
      node: { name: OWN_NODE, zone: this.zone },
    });
  }
}

function sorted<V>(map: ReadonlyMap<string, V>): [string, V][] {
  return [...map].sort(([a], [b]) => a < b ? -1 : 1);
}

Deno.test("[0.4, 1.52, 2.40] StateTracker ends with the state of the objects that are left, whatever happened", () => {
  fc.assert(
    fc.property(histories, (history) => {
      const [cluster, tracker] = [new Cluster(), new StateTracker(OWN_NODE)];
      for (const event of history) cluster.happen(event, tracker);
      tracker.takeChanges();
      assert.deepEqual(sorted(tracker.state), sorted(cluster.build()));
      assert.equal(tracker.size, cluster.names.size);
    }),
    { numRuns: 500 },
  );
});

Deno.test("[1.48, 1.51, 2.43] StateTracker tells every change and nothing else", () => {
  fc.assert(
    fc.property(histories, (history) => {
      const [cluster, tracker] = [new Cluster(), new StateTracker(OWN_NODE)];
      const told = new Map<string, unknown>();
      for (const event of [...history, { type: "sync" } as const]) {
        if (event.type !== "sync") {
          cluster.happen(event, tracker);
          continue;
        }
        const { changed, removed } = tracker.takeChanges();
        for (const next of changed) {
          assert.notDeepEqual(told.get(next.key), next);
          told.set(next.key, next);
        }
        for (const key of removed) assert.ok(told.delete(key), key);
        assert.deepEqual(sorted(told), sorted(cluster.build()));
      }
    }),
    { numRuns: 500 },
  );
});

const byName = {
  selector: ({ metadata }: ClusterObject) => objectKey(metadata),
  size: "max",
} as const;

/** The objects of a cluster in which a Service often has several slices. */
const clusters = fc.record({
  services: fc.uniqueArray(serviceKeys.chain(services), {
    maxLength: 4,
    ...byName,
  }),
  slices: fc.uniqueArray(sliceKeys.chain(slices), { maxLength: 6, ...byName }),
  zone: fc.constantFrom("", "a", "b"),
});

Deno.test("[2.6, 2.30, 2.40] buildDesiredState() does not depend on the order of slices, ports or endpoints", () => {
  fc.assert(
    fc.property(clusters, fc.infiniteStream(fc.nat(1000)), (given, dice) => {
      const node = { name: OWN_NODE, zone: given.zone };
      const shuffle = <T>(list: readonly T[]): T[] =>
        list.map((item) => ({ item, at: dice.next().value ?? 0 }))
          .sort((a, b) => a.at - b.at).map(({ item }) => item);
      const shuffled = shuffle(given.slices).map((slice) => ({
        ...slice,
        ports: shuffle(slice.ports),
        endpoints: shuffle(slice.endpoints),
      }));
      assert.deepEqual(
        buildDesiredState(given.services, { slices: shuffled, node }),
        buildDesiredState(given.services, { slices: given.slices, node }),
      );
    }),
    { numRuns: 500 },
  );
});

function keysOf(endpoints: readonly Endpoint[]): string[] {
  return endpoints.map(({ key }) => key);
}

function isServingTerminating({ serving, terminating }: Endpoint): boolean {
  return serving && terminating;
}

/** What holds of the endpoints of any ServicePort. */
const invariants: readonly [string, (state: ServicePortState) => void][] = [
  [
    "[2.31] lists are sorted by key, without duplicates",
    ({ endpoints, cluster, local }) => {
      for (const list of [endpoints, cluster, local]) {
        const keys = keysOf(list);
        assert.deepEqual(keys, [...new Set(keys)].sort());
      }
    },
  ],
  [
    "[5.13, 5.14] whatever is used is ready, or serves while it terminates",
    (state) => {
      for (const endpoint of reachableEndpoints(state)) {
        assert.ok(endpoint.ready || isServingTerminating(endpoint));
        assert.ok(state.endpoints.includes(endpoint));
      }
    },
  ],
  [
    "[5.5] local lists are local",
    ({ local }) => assert.ok(local.every(({ isLocal }) => isLocal)),
  ],
  [
    "[5.57] no list mixes ready endpoints with such as only terminate",
    ({ cluster, local }) => {
      for (const list of [cluster, local]) {
        assert.equal(new Set(list.map(({ ready }) => ready)).size <= 1, true);
      }
    },
  ],
  [
    "[5.2, 5.3, 5.4] cluster is empty only without need or without usable endpoint",
    ({ servicePort, cluster, endpoints }) => {
      const usable = endpoints.some((endpoint) =>
        endpoint.ready || isServingTerminating(endpoint)
      );
      assert.equal(
        cluster.length > 0,
        usable && usesClusterEndpoints(servicePort),
      );
    },
  ],
  [
    "[5.5] hasAny is whether any endpoint anywhere is usable",
    ({ hasAny, endpoints }) =>
      assert.equal(
        hasAny,
        endpoints.some((endpoint) =>
          endpoint.ready || isServingTerminating(endpoint)
        ),
      ),
  ],
  [
    "[5.4] local is empty where no policy asks for it",
    ({ servicePort, local }) =>
      assert.ok(usesLocalEndpoints(servicePort) || local.length === 0),
  ],
  [
    "[5.6] whoever comes reaches no other than the reachable endpoints",
    (state) => {
      const all = keysOf(reachableEndpoints(state));
      for (
        const list of [
          internalEndpoints(state),
          externalEndpoints(state, { fromCluster: true }),
          externalEndpoints(state, { fromCluster: false }),
        ]
      ) assert.ok(keysOf(list).every((key) => all.includes(key)));
    },
  ],
  [
    "[5.46, 5.47] clients are turned away by a policy only where it is named",
    (state) => {
      const named = policiesWithoutEndpoints(state);
      assert.equal(
        named.includes("internal"),
        state.hasAny && internalEndpoints(state).length === 0,
      );
      if (!named.includes("external")) return;
      const outside = externalEndpoints(state, { fromCluster: false });
      assert.equal(outside.length, 0);
      assert.ok(externalEndpoints(state, { fromCluster: true }).length > 0);
    },
  ],
];

for (const [name, check] of invariants) {
  Deno.test(`${name}, in any cluster`, () => {
    fc.assert(
      fc.property(clusters, ({ services, slices, zone }) => {
        const node = { name: OWN_NODE, zone };
        const state = buildDesiredState(services, { slices, node });
        for (const { ports } of state.values()) ports.forEach(check);
      }),
      { numRuns: 300 },
    );
  });
}

/**
 * Changes written one after the other against everything written at once: for
 * generated Services and any sequence of changes, a real kernel ends with the
 * same table.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { IpFamily } from "../../proxy/ip.ts";
import { NftablesProgrammer } from "../../proxy/rules/modes/nftables/nftables_programmer.ts";
import {
  type ModeInput,
  modeInput,
} from "../../proxy/rules/modes/mode_input.ts";
import { DEFAULT_MODE_SETTINGS } from "../support/mode_settings.ts";
import { StateTracker } from "../../proxy/state_tracker.ts";
import {
  type Change,
  type ClusterObject,
  type EndpointSlice,
  objectKey,
  type Service,
} from "../../watch/types.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import { type NftListing, nftListing } from "../support/nft_listing.ts";
import { added, deleted, modified, node } from "../support/objects.ts";
import {
  OWN_NODE,
  serviceKeys,
  services,
  sliceKeys,
  slices,
} from "../support/random_objects.ts";

/** Each starts `nft` some twenty times. */
const RUNS = 25;

const SIGNAL = new AbortController().signal;

/** With what only kernel modes look at. */
function servicesOf(key: string): fc.Arbitrary<Service> {
  return fc.record({
    service: services(key),
    sessionAffinity: fc.constantFrom("None", "ClientIP"),
    sessionAffinityTimeoutSeconds: fc.constantFrom(60, 10_800),
    loadBalancerSourceRanges: fc.subarray(
      ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "fd00::/16"],
    ),
  }).map(({ service, ...spec }) => ({
    ...service,
    spec: { ...service.spec, ...spec },
  }));
}

type Event =
  | { readonly type: "service"; readonly object: Service }
  | { readonly type: "slice"; readonly object: EndpointSlice }
  | { readonly type: "no service" | "no slice"; readonly key: string }
  | { readonly type: "sync" };

const events: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 5,
    arbitrary: serviceKeys.chain(servicesOf)
      .map((object): Event => ({ type: "service", object })),
  },
  {
    weight: 5,
    arbitrary: sliceKeys.chain(slices)
      .map((object): Event => ({ type: "slice", object })),
  },
  {
    weight: 1,
    arbitrary: serviceKeys.map((key): Event => ({ type: "no service", key })),
  },
  {
    weight: 1,
    arbitrary: sliceKeys.map((key): Event => ({ type: "no slice", key })),
  },
  { weight: 4, arbitrary: fc.constant<Event>({ type: "sync" }) },
);

/** What the API server holds, and how it tells of changes. */
class Objects<T extends ClusterObject> {
  readonly #byKey = new Map<string, T>();

  apply(object: T): Change<T>[] {
    const key = objectKey(object.metadata);
    const before = this.#byKey.get(key);
    this.#byKey.set(key, object);
    return [before === undefined ? added(object) : modified(before, object)];
  }

  remove(key: string): Change<T>[] {
    const before = this.#byKey.get(key);
    this.#byKey.delete(key);
    return before === undefined ? [] : [deleted(before)];
  }
}

function inputOf(tracker: StateTracker, family: IpFamily): ModeInput {
  return modeInput({
    mode: "nftables",
    family,
    state: tracker.state,
    settings: {
      ...DEFAULT_MODE_SETTINGS,
      clusterCidrs: ["10.244.0.0/16", "fd00:244::/56"],
    },
    nodeName: OWN_NODE,
    node: node(OWN_NODE, {
      addresses: [{ type: "InternalIP", address: "192.0.2.11" }],
    }),
    interfaceIps: ["192.0.2.11"],
    serviceCidrs: ["10.96.0.0/16", "fd00:96::/112"],
  });
}

async function listed(
  namespace: Namespace,
  family: IpFamily,
): Promise<NftListing> {
  const table = family === "IPv4" ? "ip" : "ip6";
  const text = await namespace.run([
    "nft",
    "list",
    "table",
    table,
    "kube-proxy",
  ]);
  return nftListing(text, table);
}

testWith(
  [netns, program("nft")],
  "[10.35, 10.39] NftablesProgrammer ends with the same table by changes as by a full write",
  async () => {
    await using net = await Network.create({ pods: 1 });
    const [other = net.node] = net.pods;
    let now = 0;
    const programmer = (namespace: Namespace, family: IpFamily) =>
      new NftablesProgrammer({
        family,
        runner: namespace.runner,
        now: () => now,
      });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom<IpFamily>("IPv4", "IPv4", "IPv6"),
        fc.array(events, { maxLength: 30, size: "max" }),
        async (family, history) => {
          const tracker = new StateTracker(OWN_NODE);
          const objects = {
            services: new Objects<Service>(),
            slices: new Objects<EndpointSlice>(),
          };
          const byChanges = programmer(net.node, family);
          await byChanges.cleanup(SIGNAL);
          await byChanges.program(inputOf(tracker, family), {
            full: true,
            changed: new Set(),
          }, SIGNAL);
          const sync = async () => {
            const { changed, removed } = tracker.takeChanges();
            const keys = [...changed.map(({ key }) => key), ...removed];
            now += 500;
            await byChanges.program(inputOf(tracker, family), {
              full: false,
              changed: new Set(keys),
            }, SIGNAL);
          };
          for (const event of history) {
            if (event.type === "service") {
              tracker.applyServices(objects.services.apply(event.object));
            } else if (event.type === "slice") {
              tracker.applyEndpointSlices(objects.slices.apply(event.object));
            } else if (event.type === "no service") {
              tracker.applyServices(objects.services.remove(event.key));
            } else if (event.type === "no slice") {
              tracker.applyEndpointSlices(objects.slices.remove(event.key));
            } else await sync();
          }
          await sync();
          now += 1_000;
          // Deletes what is empty, too.
          assert.ok(await byChanges.isIntact(SIGNAL));

          const atOnce = programmer(other, family);
          await atOnce.cleanup(SIGNAL);
          await atOnce.program(inputOf(tracker, family), {
            full: true,
            changed: new Set(),
          }, SIGNAL);
          assert.deepEqual(
            await listed(net.node, family),
            await listed(other, family),
          );
          // And over what is there already.
          await byChanges.program(inputOf(tracker, family), {
            full: true,
            changed: new Set(),
          }, SIGNAL);
          assert.deepEqual(
            await listed(net.node, family),
            await listed(other, family),
          );
        },
      ),
      { numRuns: RUNS },
    );
  },
);

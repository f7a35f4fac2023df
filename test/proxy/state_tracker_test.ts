import assert from "node:assert/strict";
import type { StateChanges } from "../../proxy/state_tracker.ts";
import { StateTracker } from "../../proxy/state_tracker.ts";
import {
  added,
  deleted,
  modified,
  node,
  service,
  slice,
} from "../support/objects.ts";

const web = service("default/web");
const webSlice = slice("default/web-1", { endpoints: ["10.1.0.1"] });

/** What changed, as keys. */
function taken(
  tracker: StateTracker,
): { changed: string[]; removed: string[] } {
  const { changed, removed }: StateChanges = tracker.takeChanges();
  return { changed: changed.map(({ key }) => key), removed: [...removed] };
}

/** Addresses that the tracker has for `default/web`. */
function ips(tracker: StateTracker, key = "default/web"): string[] {
  return (tracker.state.get(key)?.ports ?? []).flatMap((port) =>
    port.cluster.map(({ ip }) => ip)
  );
}

const NOTHING = { changed: [], removed: [] };
const WEB = { changed: ["default/web"], removed: [] };

/** A tracker that knows web and its slice, and has told so. */
function settled(): StateTracker {
  const tracker = new StateTracker("n1");
  tracker.applyServices([added(web)]);
  tracker.applyEndpointSlices([added(webSlice)]);
  tracker.takeChanges();
  return tracker;
}

Deno.test("[1.49, 1.51] StateTracker tells what is added, changed and deleted", () => {
  const tracker = new StateTracker("n1");
  assert.equal(tracker.hasChanges, false);
  tracker.applyServices([added(web)]);
  assert.equal(tracker.hasChanges, true);
  assert.deepEqual(taken(tracker), WEB);
  assert.equal(tracker.hasChanges, false);
  assert.deepEqual(taken(tracker), NOTHING);

  const moved = service("default/web", { ports: [{ port: 81 }] });
  tracker.applyServices([modified(web, moved)]);
  assert.deepEqual(taken(tracker), WEB);
  assert.deepEqual(
    tracker.state.get("default/web")?.ports.map((port) =>
      port.servicePort.portNumber
    ),
    [81],
  );

  tracker.applyServices([deleted(moved)]);
  assert.deepEqual(taken(tracker), { changed: [], removed: ["default/web"] });
  assert.equal(tracker.state.size, 0);
});

Deno.test("[1.48] StateTracker does nothing for changes that end where they began", () => {
  const tracker = settled();
  const before = tracker.state.get("default/web");
  const moved = service("default/web", { ports: [{ port: 81 }] });
  tracker.applyServices([modified(web, moved), modified(moved, web)]);
  assert.deepEqual(taken(tracker), NOTHING);
  assert.equal(tracker.state.get("default/web"), before);
});

Deno.test("[1.48] StateTracker does nothing for what comes and goes between two syncs", () => {
  const tracker = new StateTracker("n1");
  tracker.applyServices([added(web), deleted(web)]);
  assert.deepEqual(taken(tracker), NOTHING);
});

Deno.test("[1.48, 12.7] StateTracker sees one change in a Service made anew", () => {
  const tracker = settled();
  const anew = service("default/web", { clusterIP: "10.96.0.99" });
  tracker.applyServices([deleted(web), added(anew)]);
  assert.deepEqual(taken(tracker), WEB);
  assert.deepEqual(ips(tracker), ["10.1.0.1"]);
});

Deno.test("[1.50] StateTracker has changes as long as any is pending", () => {
  const tracker = settled();
  tracker.applyServices([added(service("default/b"))]);
  tracker.applyServices([]);
  assert.equal(tracker.hasChanges, true);
});

Deno.test("[1.55, 1.56, 2.45] StateTracker does nothing for labels, annotations, versions and redelivery", () => {
  const tracker = settled();
  const relabelled = service("default/web", {
    metadata: {
      resourceVersion: "2",
      labels: { app: "web" },
      annotations: { note: "x" },
    },
  });
  tracker.applyServices([modified(web, relabelled)]);
  tracker.applyEndpointSlices([modified(webSlice, webSlice)]);
  assert.deepEqual(taken(tracker), NOTHING);
});

Deno.test("[1.53, 12.13, 12.15] StateTracker follows a Service to ExternalName and back", () => {
  const tracker = settled();
  const external = service("default/web", {
    type: "ExternalName",
    clusterIP: "",
  });
  tracker.applyServices([modified(web, external)]);
  assert.deepEqual(taken(tracker), WEB);
  assert.deepEqual(tracker.state.get("default/web")?.ports, []);
  tracker.applyServices([modified(external, web)]);
  assert.deepEqual(taken(tracker), WEB);
  assert.deepEqual(ips(tracker), ["10.1.0.1"]);
});

Deno.test("[1.53, 12.14, 12.16] StateTracker follows a NodePort Service to ExternalName and back", () => {
  const tracker = new StateTracker("n1");
  const external = service("default/web", {
    type: "ExternalName",
    clusterIP: "",
  });
  const nodePort = service("default/web", {
    type: "NodePort",
    ports: [{ nodePort: 30_080 }],
  });
  const nodePorts = () => {
    tracker.takeChanges();
    const ports = tracker.state.get("default/web")?.ports ?? [];
    return ports.map(({ servicePort }) => servicePort.nodePort);
  };
  tracker.applyServices([added(external)]);
  assert.deepEqual(nodePorts(), []);
  tracker.applyServices([modified(external, nodePort)]);
  assert.deepEqual(nodePorts(), [30_080]);
  tracker.applyServices([modified(nodePort, external)]);
  assert.deepEqual(nodePorts(), []);
});

Deno.test("[2.6, 2.10, 12.56] StateTracker merges the slices of a Service and forgets each that goes", () => {
  const tracker = settled();
  const second = slice("default/web-2", { endpoints: ["10.1.0.2"] });
  tracker.applyEndpointSlices([added(second)]);
  tracker.takeChanges();
  assert.deepEqual(ips(tracker), ["10.1.0.1", "10.1.0.2"]);
  tracker.applyEndpointSlices([deleted(webSlice)]);
  tracker.takeChanges();
  assert.deepEqual(ips(tracker), ["10.1.0.2"]);
  tracker.applyEndpointSlices([deleted(second)]);
  assert.deepEqual(taken(tracker), WEB);
  assert.deepEqual(ips(tracker), []);
});

Deno.test("[2.7] StateTracker shows slices from the next takeChanges() on", () => {
  const tracker = settled();
  const second = slice("default/web-2", { endpoints: ["10.1.0.2"] });
  tracker.applyEndpointSlices([added(second)]);
  assert.deepEqual(ips(tracker), ["10.1.0.1"]);
});

Deno.test("[2.8] StateTracker does nothing for the end of a slice it never knew", () => {
  const tracker = settled();
  const unknown = slice("default/web-7", { endpoints: ["10.1.0.7"] });
  tracker.applyEndpointSlices([deleted(unknown)]);
  assert.deepEqual(taken(tracker), NOTHING);
});

Deno.test("[2.9] StateTracker does nothing for endpoints in another order", () => {
  const tracker = settled();
  const both = ["10.1.0.1", "10.1.0.2"];
  const before = slice("default/web-1", { endpoints: both });
  const after = slice("default/web-1", { endpoints: [...both].reverse() });
  tracker.applyEndpointSlices([modified(webSlice, before)]);
  assert.deepEqual(taken(tracker), WEB);
  tracker.applyEndpointSlices([modified(before, after)]);
  assert.deepEqual(taken(tracker), NOTHING);
});

Deno.test("[2.11] StateTracker moves a slice that is labelled for another Service", () => {
  const tracker = settled();
  tracker.applyServices([added(service("default/b"))]);
  tracker.takeChanges();
  const moved = slice("default/web-1", {
    service: "b",
    endpoints: ["10.1.0.1"],
  });
  tracker.applyEndpointSlices([modified(webSlice, moved)]);
  assert.deepEqual(taken(tracker).changed.sort(), ["default/b", "default/web"]);
  assert.deepEqual(ips(tracker), []);
  assert.deepEqual(ips(tracker, "default/b"), ["10.1.0.1"]);
});

Deno.test("[2.11] StateTracker drops a slice that loses its Service, and takes it back", () => {
  const tracker = settled();
  const unlabelled = slice("default/web-1", {
    endpoints: ["10.1.0.1"],
    metadata: { labels: {} },
  });
  tracker.applyEndpointSlices([modified(webSlice, unlabelled)]);
  tracker.takeChanges();
  assert.deepEqual(ips(tracker), []);
  tracker.applyEndpointSlices([modified(unlabelled, webSlice)]);
  tracker.takeChanges();
  assert.deepEqual(ips(tracker), ["10.1.0.1"]);
});

Deno.test("[2.40, 12.7] StateTracker takes slices before their Service and keeps them after it", () => {
  const tracker = new StateTracker("n1");
  tracker.applyEndpointSlices([added(webSlice)]);
  assert.deepEqual(taken(tracker), NOTHING);
  tracker.applyServices([added(web)]);
  assert.deepEqual(taken(tracker), WEB);
  assert.deepEqual(ips(tracker), ["10.1.0.1"]);
  tracker.applyServices([deleted(web)]);
  tracker.takeChanges();
  tracker.applyServices([added(web)]);
  tracker.takeChanges();
  assert.deepEqual(ips(tracker), ["10.1.0.1"]);
});

Deno.test("[1.52, 2.10] StateTracker holds nothing after everything is gone", () => {
  for (const serviceGoesFirst of [true, false]) {
    const tracker = settled();
    const goneService = () => tracker.applyServices([deleted(web)]);
    if (serviceGoesFirst) goneService();
    tracker.applyEndpointSlices([deleted(webSlice)]);
    if (!serviceGoesFirst) goneService();
    tracker.applyServices([deleted(service("default/never-known"))]);
    tracker.takeChanges();
    assert.deepEqual([tracker.size, tracker.state.size], [0, 0]);
  }
});

Deno.test("[2.43, 12.6] StateTracker computes only the Services that changed", () => {
  const tracker = settled();
  const other = service("default/b");
  tracker.applyServices([added(other)]);
  const before = tracker.state.get("default/web");
  assert.deepEqual(taken(tracker), { changed: ["default/b"], removed: [] });
  assert.equal(tracker.state.get("default/web"), before);
});

const FOR_ZONE_A = slice("default/web-1", {
  endpoints: [
    { ip: "10.1.0.1", zones: ["a"] },
    { ip: "10.1.0.2", zones: ["b"] },
  ],
});

Deno.test("[5.62, 5.63, 5.11] StateTracker follows the zone of its own node, and keeps it when the node goes", () => {
  const tracker = new StateTracker("n1");
  tracker.applyServices([added(web)]);
  tracker.applyEndpointSlices([added(FOR_ZONE_A)]);
  tracker.takeChanges();
  const plain = node("n1");
  const inA = node("n1", { zone: "a" });
  const inB = node("n1", { zone: "b" });
  const steps = [
    { change: added(plain), want: ["10.1.0.1", "10.1.0.2"] },
    { change: modified(plain, inA), want: ["10.1.0.1"] },
    { change: modified(inA, inB), want: ["10.1.0.2"] },
    { change: deleted(inB), want: ["10.1.0.2"] },
    { change: added(plain), want: ["10.1.0.1", "10.1.0.2"] },
  ];
  for (const { change, want } of steps) {
    tracker.applyNode([change]);
    tracker.takeChanges();
    assert.deepEqual(ips(tracker), want);
  }
});

Deno.test("[5.63, 5.64] StateTracker ignores other nodes and other labels", () => {
  const tracker = settled();
  tracker.applyNode([added(node("n1", { zone: "a" }))]);
  tracker.takeChanges();
  const labels = { "topology.kubernetes.io/zone": "a", app: "x" };
  tracker.applyNode([added(node("n2", { zone: "b" }))]);
  tracker.applyNode([added(node("n1", { metadata: { labels } }))]);
  assert.equal(tracker.hasChanges, false);
  assert.deepEqual(tracker.node, { name: "n1", zone: "a" });
});

Deno.test("[2.27] StateTracker takes no Node for its own while it has no name", () => {
  const tracker = new StateTracker("");
  tracker.applyNode([added(node("n1", { zone: "a" }))]);
  assert.deepEqual(tracker.node, { name: "", zone: "" });
});

Deno.test("StateTracker keeps what was served of a Service that nothing can be made of, and loses no other", () => {
  const tracker = settled();
  const broken = {
    ...web,
    get spec(): never {
      throw new TypeError("a bug");
    },
  };
  const [api, dns] = [service("default/api"), service("default/dns")];
  tracker.applyServices([added(api), modified(web, broken), added(dns)]);
  const { changed } = tracker.takeChanges();
  assert.deepEqual(changed.map(({ key, problems }) => [key, ...problems]), [
    ["default/api"],
    [
      "default/web",
      "Cannot tell what is to be served; nothing changes: TypeError: a bug",
    ],
    ["default/dns"],
  ]);
  assert.deepEqual(ips(tracker), ["10.1.0.1"]);
  tracker.applyServices([modified(web, web)]);
  assert.deepEqual(taken(tracker), WEB);
});

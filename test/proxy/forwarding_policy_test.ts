import assert from "node:assert/strict";
import { buildDesiredState } from "../../proxy/desired_state.ts";
import { forwardingPolicy } from "../../proxy/forwarding_policy.ts";
import {
  type EndpointOverrides,
  service,
  type ServiceOverrides,
  slice,
} from "../support/objects.ts";

function policy(
  given: ServiceOverrides,
  endpoints: readonly (string | EndpointOverrides)[],
) {
  const [port] = given.ports ?? [{}];
  const state = buildDesiredState([service("default/web", given)], {
    slices: [
      slice("default/web-1", {
        endpoints,
        ports: [{
          name: port?.name ?? "",
          protocol: port?.protocol ?? "TCP",
        }],
      }),
    ],
    node: { name: "n1", zone: "" },
  }).get("default/web")?.ports[0];
  assert.ok(state);
  return forwardingPolicy(state);
}

function ips(endpoints: readonly { ip: string }[]): string[] {
  return endpoints.map(({ ip }) => ip);
}

const LOCAL = { ip: "10.1.0.1", nodeName: "n1" };
const REMOTE = { ip: "10.1.0.2", nodeName: "n2" };

Deno.test("[5.49, 5.50, 5.51, 3.10] forwardingPolicy() has a list for each way in", () => {
  const reachable = { externalIPs: ["192.0.2.1"] };
  const both = ["10.1.0.1", "10.1.0.2"];
  const table: readonly [ServiceOverrides, string[], string[], string[]][] = [
    [{}, both, both, both],
    [{ internalTrafficPolicy: "Local" }, ["10.1.0.1"], both, both],
    [{ externalTrafficPolicy: "Local" }, both, ["10.1.0.1"], both],
  ];
  for (const [given, internal, external, fromCluster] of table) {
    const { endpoints } = policy({ ...reachable, ...given }, [LOCAL, REMOTE]);
    assert.deepEqual(ips(endpoints.internal), internal);
    assert.deepEqual(ips(endpoints.external), external);
    assert.deepEqual(ips(endpoints.externalFromCluster), fromCluster);
  }
});

Deno.test("[10.49, 10.55] forwardingPolicy() lets flows go on to every endpoint that serves, whatever the policy", () => {
  const { endpoints } = policy({ internalTrafficPolicy: "Local" }, [
    LOCAL,
    REMOTE,
    { ip: "10.1.0.3", ready: false, serving: true, terminating: true },
    { ip: "10.1.0.4", ready: false, serving: false, terminating: true },
    { ip: "10.1.0.5", ready: false, serving: false },
  ]);
  assert.deepEqual(ips(endpoints.serving), [
    "10.1.0.1",
    "10.1.0.2",
    "10.1.0.3",
  ]);
});

Deno.test("[5.15, 10.55] forwardingPolicy() lets flows go on to endpoints that are published before they serve", () => {
  const published = { ip: "10.1.0.1", ready: true, serving: false };
  const { endpoints } = policy({}, [published]);
  assert.deepEqual(ips(endpoints.internal), ["10.1.0.1"]);
  assert.deepEqual(ips(endpoints.serving), ["10.1.0.1"]);
});

Deno.test("[10.52] forwardingPolicy() lets no flow go on when the last endpoint has stopped to serve", () => {
  const gone = { ip: "10.1.0.1", ready: false, serving: false };
  assert.deepEqual(policy({}, [gone]).endpoints.serving, []);
});

Deno.test("[1.35, 4.1, 4.16] forwardingPolicy() has the current affinity time, in milliseconds", () => {
  assert.equal(policy({}, [LOCAL]).affinityMs, 0);
  const sticky = { sessionAffinity: "ClientIP" } as const;
  assert.equal(policy(sticky, [LOCAL]).affinityMs, 10_800_000);
  const given = { ...sticky, sessionAffinityTimeoutSeconds: 125 };
  assert.equal(policy(given, [LOCAL]).affinityMs, 125_000);
});

Deno.test("forwardingPolicy() says which port of which Service it is for", () => {
  const ports = [{ name: "dns", protocol: "UDP" }] as const;
  const { name, protocol, endpoints } = policy({ ports }, [LOCAL]);
  assert.deepEqual([name, protocol], ["default/web:dns", "UDP"]);
  assert.deepEqual(ips(endpoints.internal), ["10.1.0.1"]);
});

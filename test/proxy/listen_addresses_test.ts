import assert from "node:assert/strict";
import {
  buildDesiredState,
  type ServicePortState,
} from "../../proxy/desired_state.ts";
import {
  addressKey,
  listenAddresses,
  serviceAddresses,
} from "../../proxy/listen_addresses.ts";
import {
  type EndpointOverrides,
  service,
  type ServiceOverrides,
  slice,
} from "../support/objects.ts";

const NODE = {
  nodePortIps: ["127.0.0.1", "192.0.2.7", "::1", "fd00:2::7"],
  nodeIps: ["192.0.2.7", "fd00:2::7"],
  clusterSources: [],
};

function portStates(
  given: ServiceOverrides,
  endpoints: readonly (string | EndpointOverrides)[],
): readonly ServicePortState[] {
  const { ports } = given;
  const state = buildDesiredState([service("default/web", given)], {
    slices: [
      slice("default/web-1", {
        endpoints,
        ...(ports === undefined ? {} : {
          ports: ports.map(({ name = "", protocol = "TCP" }) => ({
            name,
            protocol,
          })),
        }),
      }),
    ],
    node: { name: "n1", zone: "" },
  });
  return state.get("default/web")?.ports ?? [];
}

function listens(
  given: ServiceOverrides,
  endpoints: readonly (string | EndpointOverrides)[],
): string[] {
  return portStates(given, endpoints)
    .flatMap((state) => listenAddresses(state, NODE))
    .map(({ address }) => addressKey(address));
}

Deno.test("listenAddresses() has the cluster IP and port of a TCP port", () => {
  const given = { ports: [{ name: "http", port: 80 }] };
  assert.deepEqual(listens(given, ["10.1.0.1"]), ["10.96.0.10:80/TCP"]);
  const [state] = portStates(given, ["10.1.0.1"]);
  assert.ok(state);
  assert.equal(
    listenAddresses(state, NODE)[0]?.address.name,
    "default/web:http",
  );
});

Deno.test("addressKey() puts IPv6 in brackets", () => {
  const given = { clusterIP: "fd00:96::10" };
  assert.deepEqual(listens(given, ["fd00:1::1"]), ["[fd00:96::10]:80/TCP"]);
});

Deno.test("[0.1, 5.45] listenAddresses() is empty without a usable endpoint", () => {
  assert.deepEqual(listens({}, []), []);
  const dead = { ip: "10.1.0.1", ready: false, serving: false };
  assert.deepEqual(listens({}, [dead]), []);
  const [state] = portStates({}, [dead]);
  assert.ok(state);
  assert.equal(serviceAddresses(state.servicePort, NODE).length, 1);
});

Deno.test("[0.2, 5.46, 12.33] listenAddresses() is empty for internal Local without a local endpoint", () => {
  const given = { internalTrafficPolicy: "Local" } as const;
  const remote = { ip: "10.1.0.1", nodeName: "n2" };
  assert.deepEqual(listens(given, [remote]), []);
  const local = { ip: "10.1.0.2", nodeName: "n1" };
  assert.deepEqual(listens(given, [remote, local]), ["10.96.0.10:80/TCP"]);
});

Deno.test("[1.27, 12.47] listenAddresses() leaves SCTP out and serves the rest of the Service", () => {
  const ports = [
    { name: "sctp", port: 38_412, protocol: "SCTP" },
    { name: "http", port: 80, protocol: "TCP" },
  ] as const;
  assert.deepEqual(listens({ ports }, ["10.1.0.1"]), ["10.96.0.10:80/TCP"]);
});

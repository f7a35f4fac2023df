import assert from "node:assert/strict";
import {
  buildDesiredState,
  externalEndpoints,
  internalEndpoints,
  localReadyCount,
  policiesWithoutEndpoints,
  serviceKeyOf,
  type ServicePortState,
} from "../../proxy/desired_state.ts";
import type { Endpoint } from "../../proxy/endpoint.ts";
import {
  type EndpointOverrides,
  service,
  type ServiceOverrides,
  slice,
  type SliceOverrides,
} from "../support/objects.ts";

const node = { name: "n1", zone: "" };

function webState(given: ServiceOverrides, slices: readonly SliceOverrides[]) {
  const state = buildDesiredState([service("default/web", given)], {
    slices: slices.map((overrides, i) => slice(`default/web-${i}`, overrides)),
    node,
  }).get("default/web");
  assert.ok(state);
  return state;
}

function portState(
  given: ServiceOverrides,
  endpoints: readonly (string | EndpointOverrides)[],
): ServicePortState {
  const [port] = webState(given, [{ endpoints }]).ports;
  assert.ok(port);
  return port;
}

function ips(endpoints: readonly Endpoint[]): string {
  return endpoints.map(({ ip }) => ip.replace("10.1.0", "")).join(" ");
}

const NODE_PORT: ServiceOverrides = {
  type: "NodePort",
  ports: [{ nodePort: 30_080 }],
};
const LOAD_BALANCER: ServiceOverrides = {
  type: "LoadBalancer",
  ingress: ["192.0.2.1"],
};
const EXTERNAL_LOCAL = { externalTrafficPolicy: "Local" } as const;
const INTERNAL_LOCAL = { internalTrafficPolicy: "Local" } as const;

/** The one endpoint on our node, and the one on another. */
const LOCAL = { ip: "10.1.0.1", nodeName: "n1" };
const REMOTE = { ip: "10.1.0.2", nodeName: "n2" };

Deno.test("[0.4, 2.40, 12.7] buildDesiredState() joins slices to Services by name, wherever each comes from", () => {
  const state = buildDesiredState(
    [service("default/web"), service("other/web")],
    {
      slices: [
        slice("other/web-1", { endpoints: ["10.1.0.2"] }),
        slice("default/web-1", { endpoints: ["10.1.0.1"] }),
        slice("default/gone-1", { endpoints: ["10.1.0.9"] }),
      ],
      node,
    },
  );
  const found = [...state.values()].map(({ key, ports }) => [
    key,
    ports.flatMap((port) => port.endpoints.map(({ ip }) => ip)),
  ]);
  assert.deepEqual(found, [
    ["default/web", ["10.1.0.1"]],
    ["other/web", ["10.1.0.2"]],
  ]);
});

Deno.test("[12.55] buildDesiredState() lets two Services have the same endpoints", () => {
  const state = buildDesiredState(
    [service("default/a"), service("default/b")],
    {
      slices: ["a", "b"].map((name) =>
        slice(`default/${name}-1`, { endpoints: ["10.1.0.1"] })
      ),
      node,
    },
  );
  for (const { ports } of state.values()) {
    assert.deepEqual(ports.map(({ cluster }) => ips(cluster)), [".1"]);
  }
});

Deno.test("[1.7, 2.2, 2.4] serviceKeyOf() reads one label and nothing else", () => {
  const labels = {
    "kubernetes.io/service-name": "web",
    "endpointslice.kubernetes.io/managed-by": "me",
    "service.kubernetes.io/service-proxy-name": "other",
  };
  const given = slice("default/any-name", { metadata: { labels } });
  assert.equal(serviceKeyOf(given), "default/web");
});

Deno.test("[2.3] serviceKeyOf() knows no Service without label, name or namespace", () => {
  const label = "kubernetes.io/service-name";
  for (
    const metadata of [
      { labels: {} },
      { labels: { [label]: "" } },
      { labels: { [label]: "web" }, name: "" },
      { labels: { [label]: "web" }, namespace: "" },
    ]
  ) {
    const given = slice("default/web-1", { metadata });
    assert.equal(serviceKeyOf(given), undefined, JSON.stringify(metadata));
  }
});

Deno.test("[1.2, 2.39] buildDesiredState() has an entry without ports for what is not proxied", () => {
  assert.deepEqual(webState({ type: "ExternalName" }, []).ports, []);
  const none = buildDesiredState([], { slices: [], node });
  assert.equal(none.size, 0);
});

Deno.test("[2.47, 1.14, 12.63] buildDesiredState() gives each family the slices of its own", () => {
  const { ports } = webState(
    { clusterIPs: ["10.96.0.10", "fd00:96::10"] },
    [{ endpoints: ["10.1.0.1"] }, { endpoints: ["fd00:1::1"] }],
  );
  assert.deepEqual(
    ports.map(({ servicePort, cluster }) => [
      servicePort.family,
      cluster.map(({ key }) => key),
    ]),
    [
      ["IPv4", ["10.1.0.1:8080"]],
      ["IPv6", ["[fd00:1::1]:8080"]],
    ],
  );
});

Deno.test("[5.45, 5.81, 12.31, 12.32] nobody is served where no endpoint is usable", () => {
  const given = {
    ...LOAD_BALANCER,
    ...NODE_PORT,
    type: "LoadBalancer",
  } as const;
  for (
    const endpoints of [
      [],
      [{ ...LOCAL, ready: false, serving: false }],
      [{ ...LOCAL, ready: false, serving: false, terminating: true }],
    ]
  ) {
    for (const policy of [{}, EXTERNAL_LOCAL, INTERNAL_LOCAL]) {
      const state = portState({ ...given, ...policy }, endpoints);
      assert.equal(state.hasAny, false);
      assert.deepEqual(internalEndpoints(state), []);
      for (const fromCluster of [true, false]) {
        assert.deepEqual(externalEndpoints(state, { fromCluster }), []);
      }
      assert.deepEqual(policiesWithoutEndpoints(state), []);
    }
  }
});

Deno.test("[5.46, 5.47, 5.48] policiesWithoutEndpoints() names the policies that have endpoints elsewhere only", () => {
  const reachable = { ...LOAD_BALANCER, ...EXTERNAL_LOCAL } as const;
  const table: readonly [ServiceOverrides, readonly string[]][] = [
    [{}, []],
    [INTERNAL_LOCAL, ["internal"]],
    [reachable, ["external"]],
    [{ ...reachable, ...INTERNAL_LOCAL }, ["internal", "external"]],
    [{ type: "NodePort", ...EXTERNAL_LOCAL }, []],
  ];
  for (const [given, want] of table) {
    const without = portState(given, [REMOTE]);
    assert.deepEqual(policiesWithoutEndpoints(without), want);
    const withLocal = portState(given, [REMOTE, LOCAL]);
    assert.deepEqual(policiesWithoutEndpoints(withLocal), []);
  }
});

Deno.test("[5.46, 12.33] internalEndpoints() is empty for internal Local without a local endpoint", () => {
  assert.deepEqual(internalEndpoints(portState(INTERNAL_LOCAL, [REMOTE])), []);
});

Deno.test("[5.47, 5.51, 5.52] externalEndpoints() of external Local: none for outsiders without a local endpoint, all for the cluster", () => {
  const state = portState({ ...LOAD_BALANCER, ...EXTERNAL_LOCAL }, [REMOTE]);
  assert.deepEqual(externalEndpoints(state, { fromCluster: false }), []);
  assert.equal(ips(externalEndpoints(state, { fromCluster: true })), ".2");
});

/** Who reaches what: policies both Cluster, external Local, internal Local. */
const matrix: readonly {
  readonly name: string;
  readonly reach: (state: ServicePortState) => readonly Endpoint[];
  readonly want: readonly [string, string, string];
}[] = [
  {
    name:
      "[5.49, 5.50, 5.65, 5.68, 5.72] internalEndpoints() follows the internal policy alone, whoever asks",
    reach: internalEndpoints,
    want: [".1 .2", ".1 .2", ".1"],
  },
  {
    name:
      "[5.51, 5.66, 5.67, 5.69, 5.70, 5.71, 6.14] externalEndpoints() gives pods and the node all endpoints",
    reach: (state) => externalEndpoints(state, { fromCluster: true }),
    want: [".1 .2", ".1 .2", ".1 .2"],
  },
  {
    name:
      "[5.49, 5.50, 5.73, 5.74, 5.75, 6.25] externalEndpoints() follows the external policy alone for outsiders",
    reach: (state) => externalEndpoints(state, { fromCluster: false }),
    want: [".1 .2", ".1", ".1 .2"],
  },
];

for (const { name, reach, want } of matrix) {
  Deno.test(name, () => {
    for (
      const reachable of [
        NODE_PORT,
        LOAD_BALANCER,
        { externalIPs: ["192.0.2.9"] },
      ]
    ) {
      const got = [{}, EXTERNAL_LOCAL, INTERNAL_LOCAL].map((policy) =>
        ips(reach(portState({ ...reachable, ...policy }, [REMOTE, LOCAL])))
      );
      assert.deepEqual(got, want, JSON.stringify(reachable));
    }
  });
}

const READY = {};
const SERVING_TERMINATING = { ready: false, serving: true, terminating: true };
const TERMINATING = { ready: false, serving: false, terminating: true };

/** Numbers 1 to 4 are on our node, 5 on another. */
function placed(number: number, conditions: Omit<EndpointOverrides, "ip">) {
  const nodeName = number === 5 ? "n2" : "n1";
  return { ip: `10.1.0.${number}`, nodeName, ...conditions };
}

const terminating: readonly {
  readonly name: string;
  readonly endpoints: readonly EndpointOverrides[];
  readonly pod: string;
  readonly outside: string;
}[] = [
  {
    name: "[5.78, 5.82] ready endpoints are preferred to terminating ones",
    endpoints: [
      placed(1, READY),
      placed(2, READY),
      placed(3, SERVING_TERMINATING),
      placed(4, TERMINATING),
      placed(5, READY),
    ],
    pod: ".1 .2 .5",
    outside: ".1 .2",
  },
  {
    name:
      "[5.57, 5.79, 5.82, 12.39, 12.40, 12.41] local terminating endpoints serve although a remote one is ready",
    endpoints: [
      placed(2, SERVING_TERMINATING),
      placed(3, SERVING_TERMINATING),
      placed(4, TERMINATING),
      placed(5, READY),
    ],
    pod: ".5",
    outside: ".2 .3",
  },
  {
    name:
      "[5.59, 5.80, 5.82, 12.41] a terminating endpoint elsewhere serves pods only",
    endpoints: [placed(5, SERVING_TERMINATING)],
    pod: ".5",
    outside: "",
  },
  {
    name: "[5.58, 5.81, 5.82] endpoints that stopped to serve are of no use",
    endpoints: [placed(1, TERMINATING), placed(5, TERMINATING)],
    pod: "",
    outside: "",
  },
];

for (const { name, endpoints, pod, outside } of terminating) {
  Deno.test(name, () => {
    /** Policies; clients of the ClusterIP, clients from outside. */
    const table: readonly [ServiceOverrides, string, string][] = [
      [{}, pod, pod],
      [EXTERNAL_LOCAL, pod, outside],
      [INTERNAL_LOCAL, outside, pod],
    ];
    for (const [policy, internal, external] of table) {
      const state = portState({ ...LOAD_BALANCER, ...policy }, endpoints);
      assert.equal(ips(internalEndpoints(state)), internal);
      assert.equal(
        ips(externalEndpoints(state, { fromCluster: false })),
        external,
      );
    }
  });
}

Deno.test("[2.41, 6.43] localReadyCount() counts distinct addresses over all ports", () => {
  const state = webState(
    { ports: [{ name: "a", port: 80 }, { name: "b", port: 81 }] },
    [{
      ports: [{ name: "a", port: 8080 }, { name: "b", port: 8081 }],
      endpoints: [LOCAL, { ip: "10.1.0.3", nodeName: "n1" }, REMOTE],
    }, {
      ports: [{ name: "a", port: 9090 }],
      endpoints: [LOCAL, { ip: "10.1.0.4", nodeName: "n1" }],
    }],
  );
  assert.equal(localReadyCount(state, "IPv4"), 3);
});

Deno.test("[6.48] localReadyCount() counts each family by itself", () => {
  const state = webState(
    { clusterIPs: ["10.96.0.10", "fd00:96::10"] },
    [
      { endpoints: [LOCAL] },
      {
        endpoints: [1, 2].map((i) => ({ ip: `fd00::${i}`, nodeName: "n1" })),
      },
    ],
  );
  assert.equal(localReadyCount(state, "IPv4"), 1);
  assert.equal(localReadyCount(state, "IPv6"), 2);
});

Deno.test("[2.41, 5.61, 12.37] localReadyCount() is 0 while local endpoints only terminate, though they serve", () => {
  const given = { ...LOAD_BALANCER, ...EXTERNAL_LOCAL } as const;
  const endpoints = [{ ...LOCAL, ...SERVING_TERMINATING }, REMOTE];
  const state = webState(given, [{ endpoints }]);
  assert.equal(localReadyCount(state, "IPv4"), 0);
  const [port] = state.ports;
  assert.ok(port);
  assert.equal(ips(externalEndpoints(port, { fromCluster: false })), ".1");
});

Deno.test("[6.43] localReadyCount() is 0 without endpoints", () => {
  assert.equal(localReadyCount(webState({}, []), "IPv4"), 0);
});

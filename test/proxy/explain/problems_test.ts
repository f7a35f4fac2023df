/** What explain says is wrong, and what it says where nothing serves. */
import assert from "node:assert/strict";
import { buildDesiredState } from "../../../proxy/desired_state.ts";
import {
  explain,
  EXPLAINED_MODES,
  type Explanation,
} from "../../../proxy/explain/mod.ts";
import { DEFAULT_MODE_SETTINGS } from "../../support/mode_settings.ts";
import type { EndpointSlice, Service } from "../../../watch/types.ts";
import { node, service, slice } from "../../support/objects.ts";

const NODE = "n1";
const PORTS = [{ name: "http", port: 80 }];

interface Cluster {
  readonly services: readonly Service[];
  readonly slices?: readonly EndpointSlice[];
}

function explained(
  { services, slices = [] }: Cluster,
  { target, from = "pod" }: { target: string; from?: string },
): Explanation[] {
  return explain({
    target,
    from,
    modes: EXPLAINED_MODES,
    family: "IPv4",
    state: buildDesiredState(services, {
      slices,
      node: { name: NODE, zone: "" },
    }),
    slices: [...slices],
    settings: { ...DEFAULT_MODE_SETTINGS, clusterCidrs: ["10.244.0.0/16"] },
    nodeName: NODE,
    node: node(NODE, {
      addresses: [{ type: "InternalIP", address: "192.0.2.11" }],
      podCIDRs: ["10.244.0.0/24"],
    }),
    interfaceIps: ["127.0.0.1", "192.0.2.11"],
    serviceCidrs: ["10.96.0.0/16"],
  });
}

const web = service("default/web", { ports: PORTS });
const offers = [{ name: "http", port: 8080 }];
const elsewhere = { ip: "10.244.1.2", nodeName: "n2" };
const here = { ip: "10.244.0.2", nodeName: NODE };

const PROBLEMS: readonly (readonly [
  name: string,
  cluster: Cluster,
  options: { target?: string; from?: string },
  want: RegExp | undefined,
])[] = [
  [
    "nothing is wrong",
    {
      services: [web],
      slices: [slice("default/web-1", { ports: offers, endpoints: [here] })],
    },
    {},
    undefined,
  ],
  [
    "no slice at all",
    { services: [web] },
    {},
    /^no endpoint: no EndpointSlice is labelled kubernetes\.io\/service-name=web/,
  ],
  [
    "an empty slice",
    {
      services: [web],
      slices: [slice("default/web-1", { ports: offers, addressType: "IPv4" })],
    },
    {},
    /^no endpoint: its slices are empty$/,
  ],
  [
    "nobody is ready",
    {
      services: [web],
      slices: [slice("default/web-1", {
        ports: offers,
        endpoints: [
          { ...here, ready: false },
          { ...elsewhere, ready: false },
        ],
      })],
    },
    {},
    /^no ready endpoint: 2 are not ready$/,
  ],
  [
    "the port's name is in no slice",
    {
      services: [web],
      slices: [slice("default/web-1", {
        ports: [{ name: "https", port: 8443 }],
        endpoints: [here],
      })],
    },
    {},
    /^port name http \(TCP\) is in no slice: they have https 8443\/TCP$/,
  ],
  [
    "endpoints of the other family",
    {
      services: [web],
      slices: [slice("default/web-1", {
        ports: offers,
        endpoints: ["fd00:244::2"],
      })],
    },
    {},
    /^no endpoint of IPv4: its slices have IPv6$/,
  ],
  [
    "internalTrafficPolicy Local, and nobody here",
    {
      services: [
        service("default/web", {
          ports: PORTS,
          internalTrafficPolicy: "Local",
        }),
      ],
      slices: [
        slice("default/web-1", { ports: offers, endpoints: [elsewhere] }),
      ],
    },
    {},
    /^internalTrafficPolicy Local and none here: 1 ready endpoint is on other nodes than n1$/,
  ],
  [
    "externalTrafficPolicy Local, and nobody here",
    {
      services: [service("default/web", {
        type: "NodePort",
        ports: [{ name: "http", port: 80, nodePort: 30_080 }],
        externalTrafficPolicy: "Local",
      })],
      slices: [
        slice("default/web-1", { ports: offers, endpoints: [elsewhere] }),
      ],
    },
    { target: "192.0.2.11:30080", from: "outside" },
    /^externalTrafficPolicy Local and none here/,
  ],
  [
    "a client outside of the source ranges",
    {
      services: [service("default/web", {
        type: "LoadBalancer",
        ports: PORTS,
        ingress: ["198.51.100.7"],
        loadBalancerSourceRanges: ["192.0.2.0/24"],
      })],
      slices: [slice("default/web-1", { ports: offers, endpoints: [here] })],
    },
    { target: "198.51.100.7:80", from: "outside" },
    /^203\.0\.113\.99 is in none of the loadBalancerSourceRanges \(192\.0\.2\.0\/24\)$/,
  ],
  [
    "only terminating endpoints are left",
    {
      services: [web],
      slices: [slice("default/web-1", {
        ports: offers,
        endpoints: [{
          ...here,
          ready: false,
          serving: true,
          terminating: true,
        }],
      })],
    },
    {},
    /^no ready endpoint is left: 1 of 1 that terminate still serve$/,
  ],
];

for (const [name, cluster, options, want] of PROBLEMS) {
  Deno.test(`explain knows what is wrong: ${name}`, () => {
    const explanations = explained(cluster, {
      target: "default/web:http",
      ...options,
    });
    for (const { problems, branches, mode } of explanations) {
      if (want === undefined) assert.deepEqual(problems, []);
      else assert.match(problems[0] ?? "", want);
      // What is said to be wrong is what the walk runs into, in every mode.
      const isServed = branches.every(({ outcome }) =>
        outcome.kind === "endpoint"
      );
      const serves = want === undefined ||
        /still serve|Local and/.test(want.source);
      if (!/Local and/.test(want?.source ?? "")) {
        assert.equal(isServed, serves, mode);
      }
    }
  });
}

const NOTHING: readonly (readonly [target: string, message: RegExp])[] = [
  ["default/nope", /there is no Service default\/nope$/],
  ["web:ftp", /the ports of default\/web are http$/],
  ["default/headless", /has no cluster IP/],
  ["10.96.0.10:81", /this address has 80\/TCP \(default\/web:http\)$/],
  ["10.96.0.99:80", /no Service has this address$/],
  [":30099", /Nothing serves 192\.0\.2\.11:30099: no Service has/],
  ["10.96.0.10:80/UDP", /10\.96\.0\.10:80\/UDP: this address has 80\/TCP/],
  ["10.96.0.10", /an address without a port: this address has 80\/TCP/],
];

for (const [target, message] of NOTHING) {
  Deno.test(`explain says why nothing serves ${target}`, () => {
    const services = [
      web,
      service("default/headless", { clusterIP: "None" }),
    ];
    assert.throws(() => explained({ services }, { target }), {
      name: "TargetError",
      message,
    });
  });
}

for (const target of [":30080", "node:30080", "node:30080/TCP"]) {
  Deno.test(`explain takes ${target} for a port of the node`, () => {
    const ports = [{ name: "http", port: 80, nodePort: 30_080 }];
    const nodePort = service("default/web", { type: "NodePort", ports });
    const [first] = explained({ services: [nodePort] }, { target });
    assert.equal(first?.kind, "NodePort");
    const { destination, port } = first.connection;
    assert.deepEqual({ destination, port }, {
      destination: "192.0.2.11",
      port: 30_080,
    });
  });
}

Deno.test("explain takes node:http for the Service of that name", () => {
  const own = service("default/node", { ports: PORTS });
  for (const target of ["node:http", "node:80"]) {
    const [first] = explained({ services: [own] }, { target });
    assert.equal(first?.servicePort, "default/node:http");
  }
});

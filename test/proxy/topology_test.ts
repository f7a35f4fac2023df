import assert from "node:assert/strict";
import {
  buildDesiredState,
  reachableEndpoints,
  type ServicePortState,
} from "../../proxy/desired_state.ts";
import { categorizeEndpoints } from "../../proxy/topology.ts";
import {
  type EndpointOverrides,
  service,
  type ServiceOverrides,
  slice,
} from "../support/objects.ts";

const PLAIN: ServiceOverrides = {};
const INTERNAL: ServiceOverrides = { internalTrafficPolicy: "Local" };
const NODE_PORT: ServiceOverrides = {
  type: "NodePort",
  ports: [{ nodePort: 30_080 }],
};
const EXTERNAL: ServiceOverrides = {
  ...NODE_PORT,
  externalTrafficPolicy: "Local",
};

interface Row {
  readonly name: string;
  readonly service: ServiceOverrides;
  /**
   * `1RSTL,z=ab,n=2`: endpoint 10.0.0.1 is ready, serving, terminating, local,
   * hinted for zones a and b and for node-2. Ready ones serve.
   */
  readonly endpoints: string;
  /** Our zone; `a` if not told. */
  readonly zone?: string;
  /** Our node; node-9 if not told. */
  readonly node?: string;
  /** Numbers of the endpoints; `all` is what any client may reach. */
  readonly cluster: string;
  readonly local: string;
  readonly all: string;
  readonly hasAny: boolean;
}

function endpointOf(text: string, node: string): EndpointOverrides {
  const [, number = "", flags = "", hints = ""] =
    /^(\d)([RSTL]*)((?:,[zn]=\w+)*)$/.exec(text) ?? assert.fail(text);
  const letters = /z=(\w+)/.exec(hints)?.[1] ?? "";
  const nodeHint = /n=(\w+)/.exec(hints)?.[1];
  return {
    ip: `10.0.0.${number}`,
    ready: flags.includes("R"),
    serving: /[RS]/.test(flags),
    terminating: flags.includes("T"),
    nodeName: flags.includes("L") ? node : "elsewhere",
    zones: [...letters],
    nodes: nodeHint === undefined ? [] : [`node-${nodeHint}`],
  };
}

function stateOf(row: Omit<Row, "cluster" | "local" | "all" | "hasAny">) {
  const node = { name: row.node ?? "node-9", zone: row.zone ?? "a" };
  const endpoints = row.endpoints.split(" ").filter((text) => text !== "")
    .map((text) => endpointOf(text, node.name));
  const state = buildDesiredState([service("default/web", row.service)], {
    slices: [slice("default/web-1", { endpoints })],
    node,
  });
  return state.get("default/web")?.ports[0] as ServicePortState;
}

function numbers(endpoints: readonly { ip: string }[]): string {
  return endpoints.map(({ ip }) => ip.split(".")[3]).join(" ");
}

const FOUR_ZONES = "1R,z=a 2R,z=b 3R,z=c 4R,z=a";
const FOUR_NODES = "1R,z=a,n=1 2R,z=b,n=2 3R,z=c,n=3 4R,z=a,n=4";
const TWO_LOCAL = "1RL,z=a 2RL,z=b 3R,z=c 4R,z=a";

const rows: readonly Row[] = [
  {
    name: "[5.1] categorizeEndpoints() makes nothing of nothing",
    service: PLAIN,
    endpoints: "",
    cluster: "",
    local: "",
    all: "",
    hasAny: false,
  },
  {
    name:
      "[5.2, 5.4, 5.7, 5.8, 5.9, 5.16, 12.74, 12.75] categorizeEndpoints() keeps to our zone if all have hints",
    service: PLAIN,
    endpoints: FOUR_ZONES,
    cluster: "1 4",
    local: "",
    all: "1 4",
    hasAny: true,
  },
  {
    name:
      "[5.5, 5.17] categorizeEndpoints() ignores hints for local endpoints (external policy)",
    service: EXTERNAL,
    endpoints: TWO_LOCAL,
    cluster: "1 4",
    local: "1 2",
    all: "1 2 4",
    hasAny: true,
  },
  {
    name:
      "[5.5, 5.18] categorizeEndpoints() ignores hints for local endpoints (internal policy)",
    service: { ...NODE_PORT, ...INTERNAL },
    endpoints: TWO_LOCAL,
    cluster: "1 4",
    local: "1 2",
    all: "1 2 4",
    hasAny: true,
  },
  {
    name:
      "[5.11, 5.19] categorizeEndpoints() ignores zone hints where our zone is not known",
    service: PLAIN,
    endpoints: "1R,z=a",
    zone: "",
    cluster: "1",
    local: "",
    all: "1",
    hasAny: true,
  },
  {
    name:
      "[5.20] categorizeEndpoints() filters nothing if no endpoint is for our zone",
    service: PLAIN,
    endpoints: "1R,z=a",
    zone: "b",
    cluster: "1",
    local: "",
    all: "1",
    hasAny: true,
  },
  {
    name: "[5.21] categorizeEndpoints() leaves an unready endpoint out",
    service: PLAIN,
    endpoints: "1R,z=a 2R,z=b 3R,z=c 4,z=a",
    cluster: "1",
    local: "",
    all: "1",
    hasAny: true,
  },
  {
    name:
      "[5.22] categorizeEndpoints() filters nothing if only unready ones are for our zone",
    service: PLAIN,
    endpoints: "1,z=a 2R,z=b 3R,z=c 4,z=a",
    cluster: "2 3",
    local: "",
    all: "2 3",
    hasAny: true,
  },
  {
    name:
      "[5.7, 5.23] categorizeEndpoints() filters nothing if one ready endpoint lacks a hint",
    service: PLAIN,
    endpoints: "1R,z=a 2R,z=b 3R 4R,z=a",
    cluster: "1 2 3 4",
    local: "",
    all: "1 2 3 4",
    hasAny: true,
  },
  {
    name: "[5.24] categorizeEndpoints() takes several zones on one endpoint",
    service: PLAIN,
    endpoints: "1R,z=abc 2R,z=bc 3R,z=bd 4R,z=c",
    zone: "c",
    cluster: "1 2 4",
    local: "",
    all: "1 2 4",
    hasAny: true,
  },
  {
    name:
      "[5.7, 5.9, 5.12, 5.25, 12.74] categorizeEndpoints() keeps to our node if all have node hints",
    service: PLAIN,
    endpoints: FOUR_NODES,
    node: "node-1",
    cluster: "1",
    local: "",
    all: "1",
    hasAny: true,
  },
  {
    name:
      "[5.26] categorizeEndpoints() filters nothing if one ready endpoint lacks both hints",
    service: PLAIN,
    endpoints: "1R,z=a,n=1 2R 3R,z=c,n=3 4R,z=a,n=4",
    node: "node-1",
    cluster: "1 2 3 4",
    local: "",
    all: "1 2 3 4",
    hasAny: true,
  },
  {
    name:
      "[5.27, 12.74] categorizeEndpoints() falls back to our zone if no endpoint is for our node",
    service: PLAIN,
    endpoints: FOUR_NODES,
    node: "node-0",
    cluster: "1 4",
    local: "",
    all: "1 4",
    hasAny: true,
  },
  {
    name:
      "[5.6, 5.28] categorizeEndpoints() reaches both lists where neither holds the other",
    service: EXTERNAL,
    endpoints: "0RL,z=a 1RL,z=b 2R,z=a 3R,z=b",
    cluster: "0 2",
    local: "0 1",
    all: "0 1 2",
    hasAny: true,
  },
  {
    name:
      "[5.29] categorizeEndpoints() makes nothing of nothing (internal policy)",
    service: INTERNAL,
    endpoints: "",
    cluster: "",
    local: "",
    all: "",
    hasAny: false,
  },
  {
    name:
      "[5.30] categorizeEndpoints() says that there are endpoints, if all are remote",
    service: INTERNAL,
    endpoints: "0R 1R",
    cluster: "",
    local: "",
    all: "",
    hasAny: true,
  },
  {
    name: "[5.31] categorizeEndpoints() takes local endpoints (all)",
    service: INTERNAL,
    endpoints: "0RL 1RL",
    cluster: "",
    local: "0 1",
    all: "0 1",
    hasAny: true,
  },
  {
    name: "[5.6, 5.32] categorizeEndpoints() takes local endpoints (some)",
    service: INTERNAL,
    endpoints: "0RL 1R",
    cluster: "",
    local: "0",
    all: "0",
    hasAny: true,
  },
  {
    name: "[5.13, 5.33] categorizeEndpoints() uses no unready endpoint",
    service: PLAIN,
    endpoints: "0 1",
    cluster: "",
    local: "",
    all: "",
    hasAny: false,
  },
  {
    name: "[5.34] categorizeEndpoints() uses the ready endpoint",
    service: PLAIN,
    endpoints: "0 1R",
    cluster: "1",
    local: "",
    all: "1",
    hasAny: true,
  },
  {
    name:
      "[5.3, 5.35, 12.38] categorizeEndpoints() falls back to terminating endpoints that serve",
    service: PLAIN,
    endpoints: "0STL 1ST",
    cluster: "0 1",
    local: "",
    all: "0 1",
    hasAny: true,
  },
  {
    name:
      "[5.36, 5.49] categorizeEndpoints() has cluster endpoints too for a reachable Service with internal Local",
    service: { ...NODE_PORT, ...INTERNAL },
    endpoints: "0RL 1R",
    cluster: "0 1",
    local: "0",
    all: "0 1",
    hasAny: true,
  },
  {
    name:
      "[5.6, 5.37] categorizeEndpoints() has cluster and local endpoints for external Local",
    service: EXTERNAL,
    endpoints: "0RL 1R",
    cluster: "0 1",
    local: "0",
    all: "0 1",
    hasAny: true,
  },
  {
    name:
      "[5.38] categorizeEndpoints() has cluster and local endpoints for both policies Local",
    service: { ...EXTERNAL, ...INTERNAL },
    endpoints: "0RL 1R",
    cluster: "0 1",
    local: "0",
    all: "0 1",
    hasAny: true,
  },
  {
    name:
      "[5.39] categorizeEndpoints() has no local endpoint where all are remote",
    service: { ...EXTERNAL, ...INTERNAL },
    endpoints: "0R 1R",
    cluster: "0 1",
    local: "",
    all: "0 1",
    hasAny: true,
  },
  {
    name:
      "[5.40, 5.59] categorizeEndpoints() falls back to remote terminating endpoints for the cluster only",
    service: { ...EXTERNAL, ...INTERNAL },
    endpoints: "0ST 1ST",
    cluster: "0 1",
    local: "",
    all: "0 1",
    hasAny: true,
  },
  {
    name: "[5.41, 5.57] categorizeEndpoints() falls back list by list",
    service: EXTERNAL,
    endpoints: "0R 1L 2STL 3ST",
    cluster: "0",
    local: "2",
    all: "0 2",
    hasAny: true,
  },
  {
    name:
      "[5.42] categorizeEndpoints() ignores external Local where nothing comes from outside",
    service: { type: "NodePort", externalTrafficPolicy: "Local" },
    endpoints: "0R 1RL",
    cluster: "0 1",
    local: "",
    all: "0 1",
    hasAny: true,
  },
  {
    name:
      "[5.43] categorizeEndpoints() has no cluster endpoints where everybody needs local ones",
    service: INTERNAL,
    endpoints: "0R 1RL",
    cluster: "",
    local: "1",
    all: "1",
    hasAny: true,
  },
  {
    name:
      "[5.14, 5.44] categorizeEndpoints() never uses what only serves, neither ready nor terminating",
    service: PLAIN,
    endpoints: "0S",
    cluster: "",
    local: "",
    all: "",
    hasAny: false,
  },
  {
    name:
      "[5.15, 12.20, 12.21] categorizeEndpoints() takes ready and terminating for ready",
    service: PLAIN,
    endpoints: "0RT 1ST",
    cluster: "0",
    local: "",
    all: "0",
    hasAny: true,
  },
  {
    name:
      "[5.10] categorizeEndpoints() goes by the node hint alone once it is chosen",
    service: PLAIN,
    endpoints: "0RL,z=a,n=2 1R,z=b,n=1",
    node: "node-1",
    cluster: "1",
    local: "",
    all: "1",
    hasAny: true,
  },
  {
    name:
      "[5.3] categorizeEndpoints() ignores hints once it falls back to terminating endpoints",
    service: PLAIN,
    endpoints: "0ST,z=a 1ST,z=b",
    cluster: "0 1",
    local: "",
    all: "0 1",
    hasAny: true,
  },
  {
    name:
      "[5.7] categorizeEndpoints() asks ready endpoints alone for hints, not terminating ones",
    service: PLAIN,
    endpoints: "0R,z=a 1R,z=b 2ST",
    cluster: "0",
    local: "",
    all: "0",
    hasAny: true,
  },
  {
    name:
      "[5.6] categorizeEndpoints() reaches cluster and local where local fell back to terminating",
    service: EXTERNAL,
    endpoints: "0R 1STL",
    cluster: "0",
    local: "1",
    all: "0 1",
    hasAny: true,
  },
  {
    name:
      "[5.58, 12.22] categorizeEndpoints() uses no terminating endpoint that has stopped to serve",
    service: EXTERNAL,
    endpoints: "0T 1TL",
    cluster: "",
    local: "",
    all: "",
    hasAny: false,
  },
  {
    name:
      "[5.7] categorizeEndpoints() ignores node hints where our node is not known",
    service: PLAIN,
    endpoints: "0R,n=1 1R,n=2",
    node: "",
    cluster: "0 1",
    local: "",
    all: "0 1",
    hasAny: true,
  },
];

for (const { name, cluster, local, all, hasAny, ...given } of rows) {
  Deno.test(name, () => {
    const state = stateOf({ name, ...given });
    assert.deepEqual({
      cluster: numbers(state.cluster),
      local: numbers(state.local),
      all: numbers(reachableEndpoints(state)),
      hasAny: state.hasAny,
    }, { cluster, local, all, hasAny });
  });
}

Deno.test("[5.7, 5.11] categorizeEndpoints() does not take an empty hint for a node or zone without a name", () => {
  const { servicePort, endpoints } = stateOf({
    name: "",
    service: PLAIN,
    endpoints: "0R 1R",
  });
  for (const kind of ["zoneHints", "nodeHints"]) {
    const hinted = endpoints.map((endpoint, i) => ({
      ...endpoint,
      [kind]: [i === 0 ? "" : "x"],
    }));
    const node = { name: "", zone: "" };
    const { cluster } = categorizeEndpoints(hinted, { servicePort, node });
    assert.equal(cluster.length, 2, kind);
  }
});

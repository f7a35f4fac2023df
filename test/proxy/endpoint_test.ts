import assert from "node:assert/strict";
import { type Endpoint, endpointsOf } from "../../proxy/endpoint.ts";
import type { ServicePortName } from "../../proxy/service_port.ts";
import {
  type EndpointOverrides,
  slice,
  type SliceOverrides,
} from "../support/objects.ts";

type Wanted = Pick<ServicePortName, "port" | "protocol" | "family">;

const UNNAMED: Wanted = { port: "", protocol: "TCP", family: "IPv4" };

function endpoints(
  slices: readonly SliceOverrides[],
  { nodeName = "", ...wanted }: Partial<Wanted> & { nodeName?: string } = {},
): Endpoint[] {
  return endpointsOf(
    slices.map((overrides, i) => slice(`default/web-${i}`, overrides)),
    { servicePort: { ...UNNAMED, ...wanted }, nodeName },
  );
}

/** Keys of the endpoints that slices give, and of their reverse. */
function keys(
  slices: readonly SliceOverrides[],
  wanted: Partial<Wanted> = {},
): string[] {
  const found = endpoints(slices, wanted).map((endpoint) => endpoint.key);
  assert.deepEqual(
    endpoints([...slices].reverse(), wanted).map((endpoint) => endpoint.key),
    found,
    "the order of slices shows",
  );
  return found;
}

/** More than the 1,000 that the API server lets into a slice. */
const MANY = Array.from(
  { length: 1_100 },
  (_, i) => `10.1.${Math.floor(i / 200)}.${i % 200}`,
);

const whichKeys: readonly {
  name: string;
  given: readonly SliceOverrides[];
  wanted?: Partial<Wanted>;
  want: readonly string[];
}[] = [
  {
    name: "[2.48] endpointsOf() gives nothing of nothing",
    given: [],
    want: [],
  },
  {
    name: "[2.1, 2.47] endpointsOf() takes slices of its family only",
    given: [
      { endpoints: ["10.1.0.1"] },
      { endpoints: ["fd00::1"] },
      { addressType: "FQDN", endpoints: ["10.1.0.3"] },
    ],
    want: ["10.1.0.1:8080"],
  },
  {
    name: "[2.1, 2.23] endpointsOf() writes IPv6 in brackets",
    given: [{ endpoints: ["10.1.0.1"] }, { endpoints: ["fd00::1"] }],
    wanted: { family: "IPv6" },
    want: ["[fd00::1]:8080"],
  },
  {
    name: "[2.6, 12.77] endpointsOf() merges all slices",
    given: [
      { endpoints: ["10.1.0.1", "10.1.0.2"] },
      { endpoints: ["10.1.0.3"] },
    ],
    want: ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"],
  },
  {
    name: "[2.6] endpointsOf() merges overlapping slices",
    given: [
      { endpoints: ["10.1.0.1", "10.1.0.2"] },
      { endpoints: ["10.1.0.2", "10.1.0.3"] },
    ],
    want: ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"],
  },
  {
    name: "[2.12] endpointsOf() does not count after the API server",
    given: [{ endpoints: MANY }],
    want: MANY.map((ip) => `${ip}:8080`).sort(),
  },
  {
    name: "[2.14] endpointsOf() skips a port without a number",
    given: [{ ports: [{ port: 0 }], endpoints: ["10.1.0.1"] }],
    want: [],
  },
  {
    name: "[1.29, 2.16] endpointsOf() finds ports by name, whatever the number",
    given: [{
      ports: [{ name: "http", port: 8080 }, { name: "https", port: 80 }],
      endpoints: ["10.1.0.1"],
    }],
    wanted: { port: "http" },
    want: ["10.1.0.1:8080"],
  },
  {
    name: "[2.16] endpointsOf() finds ports by protocol too",
    given: [{
      ports: [
        { name: "dns", port: 53, protocol: "UDP" },
        { name: "dns", port: 5353, protocol: "TCP" },
      ],
      endpoints: ["10.1.0.1"],
    }],
    wanted: { port: "dns", protocol: "UDP" },
    want: ["10.1.0.1:53"],
  },
  {
    name: "[2.17] endpointsOf() does not match a named port to an unnamed one",
    given: [{ endpoints: ["10.1.0.1"] }],
    wanted: { port: "http" },
    want: [],
  },
  {
    name: "[2.17] endpointsOf() does not match an unnamed port to a named one",
    given: [{ ports: [{ name: "http" }], endpoints: ["10.1.0.1"] }],
    want: [],
  },
  {
    name: "[2.18, 12.51] endpointsOf() takes one name with several numbers",
    given: [
      { ports: [{ name: "http", port: 8080 }], endpoints: ["10.1.0.1"] },
      { ports: [{ name: "http", port: 9090 }], endpoints: ["10.1.0.2"] },
    ],
    wanted: { port: "http" },
    want: ["10.1.0.1:8080", "10.1.0.2:9090"],
  },
  {
    name: "[2.19] endpointsOf() leaves ports of no Service port aside",
    given: [{ ports: [{}, { name: "debug" }], endpoints: ["10.1.0.1"] }],
    want: ["10.1.0.1:8080"],
  },
  {
    name: "[2.22] endpointsOf() canonicalises addresses",
    given: [{ endpoints: ["10.1.0.001"] }, { endpoints: ["10.1.0.1"] }],
    want: ["10.1.0.1:8080"],
  },
  {
    name: "[2.22] endpointsOf() ignores what is no address of the family",
    given: [{
      addressType: "IPv4",
      endpoints: ["fd00::1", "pod.example", "", "10.1.0.1"],
    }],
    want: ["10.1.0.1:8080"],
  },
  {
    name: "[2.23] endpointsOf() tells endpoints apart by port too",
    given: [
      { ports: [{ port: 8080 }], endpoints: ["10.1.0.1"] },
      { ports: [{ port: 9090 }], endpoints: ["10.1.0.1"] },
    ],
    want: ["10.1.0.1:8080", "10.1.0.1:9090"],
  },
  {
    name: "[2.26] endpointsOf() keeps endpoints that nobody may use",
    given: [{ endpoints: [{ ip: "10.1.0.1", ready: false, serving: false }] }],
    want: ["10.1.0.1:8080"],
  },
  {
    name: "[2.31] endpointsOf() sorts by the text of ip:port",
    given: [{ endpoints: ["10.0.1.1", "10.0.1.2", "10.0.1.10"] }],
    // "0" comes before ":".
    want: ["10.0.1.10:8080", "10.0.1.1:8080", "10.0.1.2:8080"],
  },
];

for (const { name, given, wanted, want } of whichKeys) {
  Deno.test(name, () => assert.deepEqual(keys(given, wanted), want));
}

Deno.test("[2.14] endpointsOf() skips a port that stands for all ports", () => {
  const all = slice("default/web-1", { endpoints: ["10.1.0.1"] });
  const ports = [{ name: "", protocol: "TCP" }] as const;
  const options = { servicePort: UNNAMED, nodeName: "" };
  assert.deepEqual(endpointsOf([{ ...all, ports }], options), []);
});

Deno.test("[2.21] endpointsOf() uses the first address only, and no endpoint without one", () => {
  const given = slice("default/web-1", { endpoints: ["10.1.0.1", "10.1.0.9"] });
  const [first, second] = given.endpoints;
  assert.ok(first && second);
  const found = endpointsOf([{
    ...given,
    endpoints: [
      { ...first, addresses: ["10.1.0.1", "10.1.0.2"] },
      { ...second, addresses: [] },
    ],
  }], { servicePort: UNNAMED, nodeName: "" });
  assert.deepEqual(found.map((endpoint) => endpoint.ip), ["10.1.0.1"]);
});

Deno.test("[2.27, 2.33, 12.61] endpointsOf() is local where the node's name is the own one", () => {
  const given: readonly SliceOverrides[] = [{
    endpoints: [
      { ip: "10.1.0.1", nodeName: "n1" },
      { ip: "10.1.0.2", nodeName: "n2" },
      { ip: "10.1.0.3" },
      // A pod in its host's network: its IP is the node's, the name decides.
      { ip: "192.168.0.1", nodeName: "n1" },
    ],
  }];
  const locals = (nodeName: string) =>
    endpoints(given, { nodeName }).map((endpoint) => endpoint.isLocal);
  assert.deepEqual(locals("n1"), [true, false, false, true]);
  assert.deepEqual(locals(""), [false, false, false, false]);
});

Deno.test("[2.24, 2.25, 2.29] endpointsOf() hands conditions and hints on, each by itself", () => {
  const [endpoint] = endpoints([{
    endpoints: [{
      ip: "10.1.0.1",
      ready: false,
      serving: true,
      terminating: true,
      nodeName: "n1",
      zones: ["a", "b"],
      nodes: ["n2"],
    }],
  }], { nodeName: "n1" });
  assert.deepEqual(endpoint, {
    key: "10.1.0.1:8080",
    ip: "10.1.0.1",
    port: 8080,
    nodeName: "n1",
    isLocal: true,
    ready: false,
    serving: true,
    terminating: true,
    zoneHints: ["a", "b"],
    nodeHints: ["n2"],
  });
});

Deno.test("[2.20] endpointsOf() has new identities after a renumbered port", () => {
  const at = (port: number) =>
    keys([{ ports: [{ port }], endpoints: ["10.1.0.1"] }]);
  assert.deepEqual([at(8080), at(9090)], [["10.1.0.1:8080"], [
    "10.1.0.1:9090",
  ]]);
});

type Duplicate = Omit<EndpointOverrides, "ip">;

/** Two entries for one address, and what stands of which of them. */
const duplicates: readonly {
  name: string;
  given: readonly [Duplicate, Duplicate];
  want: Partial<Endpoint>;
}[] = [
  {
    name: "[2.30] endpointsOf() prefers the entry that is not terminating",
    given: [
      { terminating: true, ready: true, serving: true },
      { ready: false, serving: false },
    ],
    want: { terminating: false, ready: false },
  },
  {
    name: "[2.30] endpointsOf() prefers the ready entry of two of a kind",
    given: [{ ready: false, serving: true }, { ready: true }],
    want: { ready: true },
  },
  {
    name: "[2.30] endpointsOf() prefers the serving entry of two unready ones",
    given: [
      { ready: false, serving: false, terminating: true },
      { ready: false, serving: true, terminating: true },
    ],
    want: { serving: true },
  },
  {
    name: "[2.30] endpointsOf() prefers the local entry of two equal ones",
    given: [{ nodeName: "n1" }, { nodeName: "n2" }],
    want: { nodeName: "n1", isLocal: true },
  },
  {
    name: "[2.30] endpointsOf() decides by contents between equal entries",
    given: [{ zones: ["a"] }, { zones: ["b"] }],
    want: { zoneHints: ["b"] },
  },
];

for (const { name, given, want } of duplicates) {
  Deno.test(`${name}, in one slice or two, in any order`, () => {
    const [a, b] = given.map((entry) => ({ ip: "10.1.0.1", ...entry }));
    assert.ok(a && b);
    const placings: readonly (readonly SliceOverrides[])[] = [
      [{ endpoints: [a, b] }],
      [{ endpoints: [b, a] }],
      [{ endpoints: [a] }, { endpoints: [b] }],
      [{ endpoints: [b] }, { endpoints: [a] }],
    ];
    for (const slices of placings) {
      const found = endpoints(slices, { nodeName: "n1" });
      assert.equal(found.length, 1);
      assert.deepEqual({ ...found[0], ...want }, found[0]);
    }
  });
}

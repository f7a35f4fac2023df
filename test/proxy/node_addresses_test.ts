import assert from "node:assert/strict";
import {
  nodeAddresses,
  type NodeAddressFacts,
  nodePortSelection,
  primaryIps,
} from "../../proxy/node_addresses.ts";
import { node } from "../support/objects.ts";

const INTERFACES = [
  "127.0.0.1",
  "::1",
  "192.0.2.7",
  "192.0.3.7",
  "fd00:2::7",
  "fd00:3::7",
  "fe80::1",
];
const V4 = ["127.0.0.1", "192.0.2.7", "192.0.3.7"];
const V6 = ["::1", "fd00:2::7", "fd00:3::7"];

const OWN_NODE = node("n1", {
  podCIDRs: ["10.244.0.0/24", "fd00:244::/64"],
  addresses: [
    { type: "Hostname", address: "n1" },
    { type: "ExternalIP", address: "203.0.113.7" },
    { type: "InternalIP", address: "192.0.2.7" },
    { type: "InternalIP", address: "192.0.3.7" },
  ],
});

function selection(text: string) {
  const read = nodePortSelection(text);
  if ("invalid" in read) throw new Error(`invalid: ${read.invalid}`);
  return read;
}

function served(text: string, given: Partial<NodeAddressFacts> = {}): string[] {
  const { nodePortIps } = nodeAddresses({
    selection: selection(text),
    clusterCidrs: [],
    node: OWN_NODE,
    interfaceIps: INTERFACES,
    ...given,
  });
  return [...nodePortIps];
}

const SELECTIONS: readonly [facts: string, text: string, ips: string[]][] = [
  ["6.1, 6.9, 6.10, 6.11, 6.12", "", [...V4, ...V6]],
  ["6.1", "192.0.2.0/24", ["192.0.2.7", ...V6]],
  ["6.1", "fd00:2::/64", [...V4, "fd00:2::7"]],
  ["6.2", "192.0.2.0/24,0.0.0.0/0", [...V4, ...V6]],
  ["6.2", "0.0.0.0/0,fd00:2::/64", [...V4, "fd00:2::7"]],
  ["6.3", "192.0.2.0/24,192.0.2.0/25,fd00:2::/64", ["192.0.2.7", "fd00:2::7"]],
  ["6.3", " 192.0.2.0/24 , 192.0.3.0/24", ["192.0.2.7", "192.0.3.7", ...V6]],
  ["6.4", "198.51.100.0/24,2001:db8::/64", []],
  ["6.6", "primary", ["192.0.2.7", ...V6]],
  ["6.9, 6.10", "127.0.0.0/8,fd00:2::/64", ["127.0.0.1", "fd00:2::7"]],
  ["6.11, 6.12", "192.0.2.0/24,::1/128", ["192.0.2.7", "::1"]],
  ["6.13", "localhost", ["127.0.0.1", "::1"]],
  ["6.13", "primary,localhost", ["127.0.0.1", "192.0.2.7", "::1"]],
  ["6.13", "all", [...V4, ...V6]],
];

Deno.test("[6.1, 6.2, 6.3, 6.4, 6.6, 6.8, 6.9, 6.10, 6.11, 6.12, 6.13] nodeAddresses() selects the addresses for NodePorts", () => {
  for (const [facts, text, ips] of SELECTIONS) {
    assert.deepEqual(served(text), ips, `${facts}: "${text}"`);
  }
});

Deno.test("[6.6] primary means every address where the Node has none, or only loopback", () => {
  const loopback = [{ type: "InternalIP", address: "127.0.0.1" }];
  for (
    const own of [undefined, node("n1"), node("n1", { addresses: loopback })]
  ) {
    assert.deepEqual(served("primary", { node: own }), [...V4, ...V6]);
  }
  const both = node("n1", {
    addresses: [
      { type: "InternalIP", address: "fd00:2::7" },
      { type: "InternalIP", address: "192.0.3.7" },
    ],
  });
  assert.deepEqual(served("primary", { node: both }), [
    "192.0.3.7",
    "fd00:2::7",
  ]);
});

Deno.test("[6.3, 6.8] a primary address that no interface has serves nothing", () => {
  const behindNat = node("n1", {
    addresses: [{ type: "InternalIP", address: "203.0.113.7" }],
  });
  assert.deepEqual(served("primary", { node: behindNat }), V6);
});

Deno.test("nodeAddresses() leaves out addresses that cannot be bound without their link", () => {
  assert.deepEqual(served("fe80::/10,127.0.0.0/8"), ["127.0.0.1"]);
});

Deno.test("nodePortSelection() names the part that is wrong", () => {
  assert.deepEqual(nodePortSelection("primary,nonsense"), {
    invalid: "nonsense",
  });
  assert.deepEqual(nodePortSelection("192.0.2.1"), { invalid: "192.0.2.1" });
});

Deno.test("[8.70] primaryIps() prefers internal addresses, one of each family", () => {
  const table: readonly [readonly [string, string][], string[]][] = [
    [[], []],
    [[["Hostname", "n1"]], []],
    [[["ExternalIP", "203.0.113.7"], ["InternalIP", "192.0.2.7"]], [
      "192.0.2.7",
    ]],
    [
      [["InternalIP", "192.0.2.7"], ["ExternalIP", "2001:db8::7"]],
      ["192.0.2.7", "2001:db8::7"],
    ],
    [
      [["InternalIP", "FD00:0::7"], ["InternalIP", "192.0.2.7"]],
      ["fd00::7", "192.0.2.7"],
    ],
  ];
  for (const [given, want] of table) {
    const addresses = given.map(([type, address]) => ({ type, address }));
    assert.deepEqual(primaryIps(node("n1", { addresses })), want);
  }
});

const bound: readonly [raw: string, bindAddress: string, want: string][] = [
  ["", "10.0.0.1", "10.0.0.1"],
  ["", "fd00:4321::2", "fd00:4321::2"],
  ["", "", ""],
  ["192.168.1.1", "::", "192.168.1.1"],
  ["fd00:1234::1", "0.0.0.0", "fd00:1234::1"],
  ["90.90.90.90 2001:db8::2", "::", "90.90.90.90 2001:db8::2"],
  ["2001:db8::2 90.90.90.90", "0.0.0.0", "2001:db8::2 90.90.90.90"],
  ["2001:db8::2 90.90.90.90", "80.80.80.80", "80.80.80.80 2001:db8::2"],
  ["90.90.90.90 2001:db8::2", "2001:db8::555", "2001:db8::555 90.90.90.90"],
  ["90.90.90.90 2001:db8::2", "127.0.0.1", "127.0.0.1 2001:db8::2"],
  ["90.90.90.90 2001:db8::2", "::1", "::1 90.90.90.90"],
];

for (const [raw, bindAddress, want] of bound) {
  Deno.test(`[8.74] primaryIps() of a Node with "${raw}", bound to "${bindAddress}"`, () => {
    const addresses = raw.split(" ").filter(Boolean)
      .map((address) => ({ type: "InternalIP", address }));
    assert.equal(
      primaryIps(node("n1", { addresses }), bindAddress).join(" "),
      want,
    );
  });
}

Deno.test("[5.51, 5.52] nodeAddresses() counts pods, the node and loopback as the cluster's own", () => {
  const { clusterSources } = nodeAddresses({
    selection: selection("primary"),
    clusterCidrs: ["10.244.0.0/16"],
    node: OWN_NODE,
    interfaceIps: ["127.0.0.1", "192.0.2.7", "192.0.2.7", "fe80::1"],
  });
  assert.deepEqual(clusterSources, [
    "10.244.0.0/16",
    "10.244.0.0/24",
    "127.0.0.0/8",
    "127.0.0.1/32",
    "192.0.2.7/32",
    "::1/128",
    "fd00:244::/64",
    "fe80::1/128",
  ]);
});

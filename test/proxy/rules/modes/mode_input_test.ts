import assert from "node:assert/strict";
import { buildDesiredState } from "../../../../proxy/desired_state.ts";
import {
  type ModeFacts,
  modeInput,
  type ModeSettings,
} from "../../../../proxy/rules/modes/mode_input.ts";
import { DEFAULT_MODE_SETTINGS } from "../../../support/mode_settings.ts";
import { node, service, slice } from "../../../support/objects.ts";

const OWN = node("n1", {
  addresses: ["192.0.2.7", "2001:db8::7"].map((address) => ({
    type: "InternalIP",
    address,
  })),
});

const FACTS: ModeFacts = {
  mode: "iptables",
  family: "IPv4",
  state: new Map(),
  settings: DEFAULT_MODE_SETTINGS,
  nodeName: "n1",
  node: OWN,
  interfaceIps: ["127.0.0.1", "192.0.2.7", "198.51.100.7", "::1", "fe80::1"],
  serviceCidrs: ["10.96.0.0/16", "fd00:96::/112"],
};

function input(facts: Partial<ModeFacts>, settings?: Partial<ModeSettings>) {
  return modeInput({
    ...FACTS,
    ...facts,
    settings: { ...DEFAULT_MODE_SETTINGS, ...settings },
  });
}

Deno.test("[6.1, 6.2, 6.3, 6.4, 6.6, 6.7, 6.10] modeInput() settles where NodePorts are served", () => {
  const cidrs = (...all: string[]) => ({ cidrs: all, primary: false });
  const primary = { cidrs: [], primary: true };
  const table: readonly [
    Partial<ModeFacts>,
    ModeSettings["nodePorts"],
    ips: "all" | readonly string[],
    localhost: boolean,
  ][] = [
    [{}, undefined, "all", true],
    [{ mode: "ipvs" }, undefined, "all", false],
    [{ mode: "nftables" }, undefined, ["192.0.2.7"], false],
    [{ mode: "nftables" }, cidrs("0.0.0.0/0"), "all", false],
    [{ mode: "nftables", node: undefined }, undefined, "all", false],
    [{ family: "IPv6" }, undefined, "all", false],
    [{}, cidrs("192.0.2.0/24"), ["192.0.2.7"], false],
    [{}, cidrs("203.0.113.0/24"), [], false],
    [{}, cidrs("127.0.0.0/8"), ["127.0.0.1"], true],
    [{ mode: "nftables" }, cidrs("127.0.0.0/8"), [], false],
    [{ family: "IPv6" }, cidrs("192.0.2.0/24"), "all", false],
    [{ family: "IPv6" }, cidrs("::1/128"), [], false],
    [{}, primary, ["192.0.2.7"], false],
    [{ family: "IPv6" }, primary, ["2001:db8::7"], false],
    // Rendered somewhere else: the Node's address counts all the same.
    [{ interfaceIps: [] }, primary, ["192.0.2.7"], false],
  ];
  for (const [facts, nodePorts, ips, localhost] of table) {
    const settings = nodePorts === undefined ? {} : { nodePorts };
    const { nodePortIps, localhostNodePorts } = input(facts, settings);
    const what = JSON.stringify([facts, nodePorts]);
    assert.deepEqual(nodePortIps, ips, what);
    assert.equal(localhostNodePorts, localhost, what);
  }
  const off = input({}, {
    localhostNodePorts: false,
    nodePorts: cidrs("127.0.0.0/8", "192.0.2.0/24"),
  });
  assert.deepEqual(off.nodePortIps, ["192.0.2.7"]);
});

Deno.test("[8.78] modeInput() knows how pods are told from others", () => {
  const podCIDRs = ["10.244.1.0/24", "fd00:244:1::/64"];
  const facts = { node: node("n1", { podCIDRs }) };
  const clusterCidrs = ["10.244.0.0/16"];
  const detector = (
    settings: Partial<ModeSettings>,
    family: "IPv4" | "IPv6" = "IPv4",
  ) => input({ ...facts, family }, settings).localDetector;
  assert.deepEqual(detector({}), { kind: "none" });
  assert.deepEqual(detector({ clusterCidrs }), {
    kind: "cidr",
    cidr: "10.244.0.0/16",
  });
  assert.deepEqual(detector({ clusterCidrs }, "IPv6"), { kind: "none" });
  assert.deepEqual(detector({ detectLocalMode: "NodeCIDR" }, "IPv6"), {
    kind: "cidr",
    cidr: "fd00:244:1::/64",
  });
  assert.deepEqual(
    detector({ detectLocalMode: "BridgeInterface", bridgeInterface: "cbr0" }),
    { kind: "interface", name: "cbr0" },
  );
  assert.deepEqual(
    detector({
      detectLocalMode: "InterfaceNamePrefix",
      interfaceNamePrefix: "veth",
    }),
    { kind: "interface-prefix", prefix: "veth" },
  );
});

Deno.test("[5.6, 10.28] modeInput() sorts ports of all protocols and joins their endpoints", () => {
  const services = [
    service("b/web", { clusterIPs: ["10.96.0.2", "fd00:96::2"] }),
    service("a/web", {
      ports: [
        { name: "x", port: 1, protocol: "UDP" },
        { name: "x", port: 1, protocol: "TCP" },
        { name: "s", port: 2, protocol: "SCTP" },
      ],
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      ingress: ["192.0.2.2"],
      healthCheckNodePort: 30_500,
    }),
  ];
  const slices = [
    slice("a/web-1", {
      ports: [{ name: "s", port: 22, protocol: "SCTP" }],
      endpoints: [
        { ip: "10.244.0.2", nodeName: "n1" },
        { ip: "10.244.0.10", nodeName: "n2" },
      ],
    }),
  ];
  const state = buildDesiredState(services, {
    slices,
    node: { name: "n1", zone: "" },
  });
  const { ports, healthChecks } = input({ state });
  assert.deepEqual(
    ports.map(({ servicePort }) =>
      `${servicePort.text} ${servicePort.protocol}`
    ),
    ["a/web:s SCTP", "a/web:x TCP", "a/web:x UDP", "b/web TCP"],
  );
  assert.deepEqual(ports[0]?.all.map(({ key }) => key), [
    "10.244.0.10:22",
    "10.244.0.2:22",
  ]);
  assert.deepEqual(healthChecks, [
    { service: "a/web", port: 30_500, localEndpoints: 1 },
  ]);
  assert.equal(input({ state, family: "IPv6" }).ports.length, 1);
});

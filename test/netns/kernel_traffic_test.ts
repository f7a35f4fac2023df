/**
 * Packets through each kernel mode, from everybody to everything, in both families:
 * who answers, and whose address they see. L is the endpoint on the node, R the
 * one elsewhere.
 */
import assert from "node:assert/strict";
import { buildDesiredState } from "../../proxy/desired_state.ts";
import type { IpFamily } from "../../proxy/ip.ts";
import {
  type KernelMode,
  type ModeInput,
  modeInput,
} from "../../proxy/rules/modes/mode_input.ts";
import { DEFAULT_MODE_SETTINGS } from "../support/mode_settings.ts";
import { IptablesProgrammer } from "../../proxy/rules/modes/iptables/programmer.ts";
import type { KernelProgrammer } from "../../proxy/rules/modes/kernel_programmer.ts";
import { NftablesProgrammer } from "../../proxy/rules/modes/nftables/nftables_programmer.ts";
import { answers, type Question } from "../support/answers.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import {
  node,
  service,
  type ServiceOverrides,
  slice,
} from "../support/objects.ts";
import { routePods } from "../support/route_pods.ts";

const SIGNAL = new AbortController().signal;
const NODE = "n1";
const POD_PORT = 8080;

interface Stage {
  readonly node: Namespace;
  /** The endpoint here. */
  readonly pod1: Namespace;
  readonly pod2: Namespace;
  readonly outside: Namespace;
  /** The endpoint elsewhere. */
  readonly node2: Namespace;
}

/** How a family spells the last part of an address. */
interface Addresses {
  readonly family: IpFamily;
  readonly of: (namespace: Namespace) => string;
  readonly serviceCidr: string;
  readonly podCidr: string;
  /** Cluster IPs, load-balancer IPs and external IPs of the nth Service. */
  readonly clusterIp: (n: number) => string;
  readonly balancerIp: (n: number) => string;
  readonly externalIp: (n: number) => string;
}

const IPV4: Addresses = {
  family: "IPv4",
  of: ({ ipv4 }) => ipv4,
  serviceCidr: "10.96.0.0/16",
  podCidr: "10.244.0.0/16",
  clusterIp: (n) => `10.96.0.${n}`,
  balancerIp: (n) => `203.0.113.${n}`,
  externalIp: (n) => `198.51.100.${n}`,
};

const IPV6: Addresses = {
  family: "IPv6",
  of: ({ ipv6 }) => ipv6,
  serviceCidr: "fd00:96::/112",
  podCidr: "fd00:244::/56",
  clusterIp: (n) => `fd00:96::${n}`,
  balancerIp: (n) => `fd00:71::${n}`,
  externalIp: (n) => `fd00:51::${n}`,
};

/** The Services: name → its number, and what is different about it. */
const SERVICES = {
  cluster: { n: 1 },
  "external-local": { n: 2, externalTrafficPolicy: "Local" },
  "internal-local": { n: 3, internalTrafficPolicy: "Local" },
  sticky: { n: 4, sessionAffinity: "ClientIP" },
  ranges: { n: 5 },
  empty: { n: 6 },
  "far-external": { n: 7, externalTrafficPolicy: "Local" },
  "far-internal": { n: 8, internalTrafficPolicy: "Local" },
  here: { n: 9 },
} as const satisfies Record<string, { n: number } & ServiceOverrides>;

type Name = keyof typeof SERVICES;

/** Which endpoints a Service has, where not both. */
const ENDPOINTS: Partial<Record<Name, readonly ("L" | "R")[]>> = {
  empty: [],
  "far-external": ["R"],
  "far-internal": ["R"],
  here: ["L"],
};

const names = Object.keys(SERVICES) as Name[];
const UNALLOCATED = 99;
const UNSERVED_PORT = 81;

function input(
  stage: Stage,
  { mode, addresses }: { mode: KernelMode; addresses: Addresses },
): ModeInput {
  const { clusterIp, balancerIp, externalIp, of, family } = addresses;
  const protocols = ["TCP", "UDP", "SCTP"] as const;
  const services = names.map((name) => {
    const { n, ...overrides } = SERVICES[name];
    return service(`default/${name}`, {
      type: "LoadBalancer",
      clusterIP: clusterIp(n),
      ingress: [balancerIp(n)],
      externalIPs: [externalIp(n)],
      ports: protocols.map((protocol) => ({
        name: protocol.toLowerCase(),
        protocol,
        port: 80,
        nodePort: 30_000 + n,
      })),
      loadBalancerSourceRanges: name === "ranges"
        ? [`${of(stage.outside)}/${family === "IPv4" ? 32 : 128}`]
        : [],
      ...overrides,
    });
  });
  const endpoint = {
    L: { ip: of(stage.pod1), nodeName: NODE },
    R: { ip: of(stage.node2), nodeName: "n2" },
  };
  const slices = names.map((name) =>
    slice(`default/${name}-1`, {
      service: name,
      addressType: family,
      ports: protocols.map((protocol) => ({
        name: protocol.toLowerCase(),
        protocol,
        port: POD_PORT,
      })),
      endpoints: (ENDPOINTS[name] ?? ["L", "R"]).map((each) => endpoint[each]),
    })
  );
  return modeInput({
    mode,
    family,
    state: buildDesiredState(services, {
      slices,
      node: { name: NODE, zone: "" },
    }),
    settings: { ...DEFAULT_MODE_SETTINGS, clusterCidrs: [addresses.podCidr] },
    nodeName: NODE,
    node: node(NODE, {
      addresses: [{ type: "InternalIP", address: of(stage.node) }],
    }),
    interfaceIps: [of(stage.node)],
    serviceCidrs: [addresses.serviceCidr],
  });
}

type ClientName = "pod1" | "pod2" | "node" | "outside";
type Way = "ClusterIP" | "NodePort" | "LB" | "external";

interface Row {
  readonly from: ClientName;
  readonly to: Name | "unserved port" | "unallocated";
  readonly ways: readonly Way[];
  /** Default: both. Nobody is told that a datagram was refused. */
  readonly protocols?: readonly ("tcp" | "udp")[];
  /** Default: all. Where others let it out, the network decides. */
  readonly only?: KernelMode;
  /** `L client R client`: who answers, seeing whom. */
  readonly want: string;
}

const FROM_OUTSIDE: readonly Way[] = ["NodePort", "LB", "external"];
const EVERY_WAY: readonly Way[] = ["ClusterIP", ...FROM_OUTSIDE];
const BOTH_MASKED = "L node, R node";
const BOTH = "L client, R client";

const FACTS = "[5.65, 5.66, 5.67, 5.68, 5.69, 5.71, 5.72, 5.73, 5.74]";

/** Of the table that facts 5.65–5.74 are, first; then what else there is. */
const ROWS: readonly Row[] = [
  { from: "pod2", to: "cluster", ways: ["ClusterIP"], want: BOTH },
  { from: "pod2", to: "external-local", ways: ["ClusterIP"], want: BOTH },
  {
    from: "pod2",
    to: "internal-local",
    ways: ["ClusterIP"],
    want: "L client",
  },
  { from: "pod2", to: "cluster", ways: FROM_OUTSIDE, want: BOTH_MASKED },
  { from: "pod2", to: "external-local", ways: FROM_OUTSIDE, want: BOTH },
  { from: "pod2", to: "internal-local", ways: FROM_OUTSIDE, want: BOTH_MASKED },
  { from: "node", to: "cluster", ways: EVERY_WAY, want: BOTH_MASKED },
  { from: "node", to: "external-local", ways: EVERY_WAY, want: BOTH_MASKED },
  { from: "node", to: "internal-local", ways: ["ClusterIP"], want: "L node" },
  { from: "node", to: "internal-local", ways: FROM_OUTSIDE, want: BOTH_MASKED },
  { from: "outside", to: "cluster", ways: EVERY_WAY, want: BOTH_MASKED },
  {
    from: "outside",
    to: "external-local",
    ways: ["ClusterIP"],
    want: BOTH_MASKED,
  },
  {
    from: "outside",
    to: "external-local",
    ways: FROM_OUTSIDE,
    want: "L client",
  },
  {
    from: "outside",
    to: "internal-local",
    ways: ["ClusterIP"],
    want: "L node",
  },
  {
    from: "outside",
    to: "internal-local",
    ways: FROM_OUTSIDE,
    want: BOTH_MASKED,
  },
  // Who reaches itself sees the node (fact 5.56).
  { from: "pod1", to: "here", ways: ["ClusterIP"], want: "L node" },
  // Policies without an endpoint here (facts 5.46, 5.47).
  { from: "pod2", to: "far-internal", ways: ["ClusterIP"], want: "timeout" },
  { from: "pod2", to: "far-external", ways: FROM_OUTSIDE, want: "R client" },
  { from: "node", to: "far-external", ways: FROM_OUTSIDE, want: "R node" },
  { from: "outside", to: "far-external", ways: FROM_OUTSIDE, want: "timeout" },
  // Source ranges (facts 6.15, 6.25, 6.29, 6.31).
  { from: "outside", to: "ranges", ways: EVERY_WAY, want: BOTH_MASKED },
  { from: "pod2", to: "ranges", ways: ["LB"], want: "timeout" },
  {
    from: "pod2",
    to: "ranges",
    ways: ["NodePort", "external"],
    want: BOTH_MASKED,
  },
  ...(["pod2", "node", "outside"] as const).flatMap((from): Row[] => [
    // Facts 5.45, 10.39, 10.39a.
    {
      from,
      to: "empty",
      ways: ["ClusterIP", "NodePort"],
      protocols: ["tcp"],
      want: "refused",
    },
    {
      from,
      to: "empty",
      ways: ["external"],
      protocols: ["tcp"],
      want: "refused",
      // KUBE-EXTERNAL-SERVICES is not asked by OUTPUT (fact 10.10).
      ...(from === "node" ? { only: "nftables" } : {}),
    },
    {
      from,
      to: "unserved port",
      only: "nftables",
      ways: ["ClusterIP"],
      protocols: ["tcp"],
      want: "refused",
    },
    {
      from,
      to: "unallocated",
      only: "nftables",
      ways: ["ClusterIP"],
      want: "timeout",
    },
  ]),
];

function destination(
  stage: Stage,
  { addresses, to, way }: { addresses: Addresses; to: Row["to"]; way: Way },
): { ip: string; port: number } {
  const { clusterIp, balancerIp, externalIp } = addresses;
  if (to === "unallocated") return { ip: clusterIp(UNALLOCATED), port: 80 };
  if (to === "unserved port") {
    return { ip: clusterIp(SERVICES.cluster.n), port: UNSERVED_PORT };
  }
  const { n } = SERVICES[to];
  switch (way) {
    case "ClusterIP":
      return { ip: clusterIp(n), port: 80 };
    case "LB":
      return { ip: balancerIp(n), port: 80 };
    case "external":
      return { ip: externalIp(n), port: 80 };
    case "NodePort":
      return { ip: addresses.of(stage.node), port: 30_000 + n };
  }
}

/** Others know the way to Services and pods through the node. */
async function wire(stage: Stage): Promise<void> {
  const { node, pod1, pod2, outside, node2 } = stage;
  await routePods(node, [pod1, pod2]);
  for (const host of [outside, node2]) {
    const v4 = ["10.96.0.0/16", "203.0.113.0/24", "198.51.100.0/24"];
    const v6 = ["fd00:96::/64", "fd00:71::/64", "fd00:51::/64"];
    const pods = host === node2 ? ["10.244.0.0/24", "fd00:244::/64"] : [];
    for (const to of [...v4, ...v6, ...pods]) {
      const via = to.includes(":") ? node.ipv6 : node.ipv4;
      await host.run(["ip", "route", "add", to, "via", via]);
    }
  }
}

/** The modes, the programs they need, and who writes them. */
const MODES: readonly {
  readonly mode: KernelMode;
  readonly programs: readonly string[];
  programmer(family: IpFamily, node: Namespace): KernelProgrammer;
}[] = [
  {
    mode: "nftables",
    programs: ["nft"],
    programmer: (family, { runner }) =>
      new NftablesProgrammer({ family, runner, now: () => 0 }),
  },
  {
    mode: "iptables",
    programs: ["iptables", "ip6tables"],
    programmer: (family, { runner }) => new IptablesProgrammer(family, runner),
  },
];

for (const { mode, programs, programmer } of MODES) {
  testWith(
    [netns, ...programs.map(program)],
    `${FACTS} ${mode} mode leads everybody where kube-proxy does`,
    async (t) => {
      await using stack = new AsyncDisposableStack();
      const stage = await startStage(stack);
      for (const addresses of [IPV4, IPV6]) {
        const written = programmer(addresses.family, stage.node);
        assert.equal(await written.obstacle(SIGNAL), undefined);
        await written.program(
          input(stage, { mode, addresses }),
          { full: true, changed: new Set() },
          SIGNAL,
        );
        for (const from of ["pod1", "pod2", "node", "outside"] as const) {
          const rows = ROWS.filter((row) =>
            row.from === from && (row.only ?? mode) === mode
          );
          await t.step(`${from}, ${addresses.family}`, async () => {
            const { got, want } = await ask(stage, { addresses, from, rows });
            assert.deepEqual(got, want);
          });
        }
        await t.step(`affinity, ${addresses.family}`, async () => {
          await assertSticky(stage, addresses);
        });
      }
    },
  );
}

async function startStage(stack: AsyncDisposableStack): Promise<Stage> {
  const net = stack.use(await Network.create({ hosts: ["outside", "node2"] }));
  const { node, pods: [pod1, pod2] } = net;
  assert.ok(pod1 !== undefined && pod2 !== undefined);
  const [outside, node2] = [net.host("outside"), net.host("node2")];
  const stage = { node, pod1, pod2, outside, node2 };
  await wire(stage);
  for (const [name, host] of [["L", pod1], ["R", node2]] as const) {
    const listen = [host.ipv4, host.ipv6].flatMap((ip) => [
      `tcp/${ip}/${POD_PORT}`,
      `udp/${ip}/${POD_PORT}`,
    ]);
    stack.use(await host.endpoint(listen, name));
  }
  return stage;
}

/** Both as text, a line for each way, so that a difference can be read. */
async function ask(
  stage: Stage,
  { addresses, from, rows }: {
    addresses: Addresses;
    from: ClientName;
    rows: readonly Row[];
  },
): Promise<{ got: string[]; want: string[] }> {
  const questions = rows.flatMap(({ to, ways, want, protocols }) =>
    ways.flatMap((way) =>
      (protocols ?? ["tcp", "udp"] as const).map((protocol) => ({
        name: `${to} by ${way}, ${protocol}`,
        want,
        question: {
          ...destination(stage, { addresses, to, way }),
          protocol,
          want: new Set([want]),
        } satisfies Question,
      }))
    )
  );
  const client = stage[from];
  const found = await answers(
    client,
    questions.map(({ question }) => question),
  );
  const role = (line: string) => {
    const [name = "", whom] = line.split(" saw ");
    if (whom === undefined) return name;
    return `${name} ${
      whom === addresses.of(client) && from !== "node" ? "client" : "node"
    }`;
  };
  return {
    got: questions.map(({ name }, i) =>
      `${name}: ${[...found[i] ?? []].map(role).sort().join(", ")}`
    ),
    want: questions.map(({ name, want }) => `${name}: ${want}`),
  };
}

async function assertSticky(
  stage: Stage,
  addresses: Addresses,
): Promise<void> {
  for (const protocol of ["tcp", "udp"] as const) {
    const to = "sticky";
    const questions = (["ClusterIP", "NodePort", "LB"] as const).map((way) => ({
      ...destination(stage, { addresses, to, way }),
      protocol,
      want: new Set<string>(),
    }));
    // By whatever way it comes, it is the same client (fact 4.6).
    const found = await answers(stage.outside, questions.slice(0, 1));
    found.push(...await answers(stage.outside, questions.slice(1)));
    const who = new Set(found.flatMap((each) => [...each]));
    assert.equal(who.size, 1, [...who].join(" "));
    assert.match([...who].join(), /^[LR] saw /);
  }
}

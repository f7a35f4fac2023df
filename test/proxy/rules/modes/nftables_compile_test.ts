import assert from "node:assert/strict";
import { buildDesiredState } from "../../../../proxy/desired_state.ts";
import type { IpFamily } from "../../../../proxy/ip.ts";
import {
  modeInput,
  type ModeSettings,
} from "../../../../proxy/rules/modes/mode_input.ts";
import { DEFAULT_MODE_SETTINGS } from "../../../support/mode_settings.ts";
import { compileNftables } from "../../../../proxy/rules/modes/nftables/compile.ts";
import {
  endpointBase,
  portBase,
} from "../../../../proxy/rules/modes/nftables/names.ts";
import { tableText } from "../../../../proxy/rules/modes/nftables/text.ts";
import type { EndpointSlice, Service } from "../../../../watch/types.ts";
import { type NftListing, nftListing } from "../../../support/nft_listing.ts";
import {
  node,
  service,
  type ServiceOverrides,
  slice,
} from "../../../support/objects.ts";

const NODE = "n1";

interface Given {
  readonly services: readonly Service[];
  readonly slices?: readonly EndpointSlice[];
  readonly family?: IpFamily;
  readonly settings?: Partial<ModeSettings>;
  readonly nodeIps?: readonly string[];
  readonly interfaceIps?: readonly string[];
}

/** The compiled table, as it is written. */
function compiled(
  {
    services,
    slices = [],
    family = "IPv4",
    settings,
    nodeIps = ["192.0.2.11", "fd00:2::11"],
    interfaceIps = ["127.0.0.1", "192.0.2.11", "10.244.0.1", "fd00:2::11"],
  }: Given,
): NftListing {
  const table = compileNftables(modeInput({
    mode: "nftables",
    family,
    state: buildDesiredState(services, {
      slices,
      node: { name: NODE, zone: "" },
    }),
    settings: {
      ...DEFAULT_MODE_SETTINGS,
      clusterCidrs: ["10.244.0.0/16", "fd00:244::/56"],
      ...settings,
    },
    nodeName: NODE,
    node: node(NODE, {
      addresses: nodeIps.map((address) => ({ type: "InternalIP", address })),
    }),
    interfaceIps,
    serviceCidrs: [],
  }));
  return nftListing(tableText(table), family === "IPv4" ? "ip" : "ip6");
}

const LOCAL = { ip: "10.244.0.2", nodeName: NODE };
const REMOTE = { ip: "10.244.1.2", nodeName: "n2" };
/** A Service that can be reached in every way there is. */
const EVERYWHERE: ServiceOverrides = {
  type: "LoadBalancer",
  ports: [{ nodePort: 30_080 }],
  externalIPs: ["198.51.100.1"],
  ingress: ["203.0.113.1"],
};
const BASE = portBase({
  namespace: "default",
  name: "web",
  port: "",
  protocol: "TCP",
});

/** Every element of maps and sets, as `map: element`. */
function elements(listing: NftListing): string[] {
  return Object.entries(listing).flatMap(([name, lines]) =>
    /^(map|set) /.test(name) && !name.includes("affinity-")
      ? lines.filter((line) =>
        /^[\d.a-f:]+( \.|$)|^(tcp|udp|sctp) \./.test(line)
      )
        .map((line) => `${name.split(" ")[1]}: ${line}`)
      : []
  ).filter((line) => !line.startsWith("nodeport-ips"));
}

Deno.test("[10.38] portBase() and endpointBase() are upstream's names", () => {
  const port = { namespace: "ns1", name: "svc1", port: "p80" };
  const tcp = { ...port, protocol: "TCP" as const };
  assert.equal(portBase(tcp), "ULMVA6XW-ns1/svc1/tcp/p80");
  const sticky = {
    namespace: "default",
    name: "sticky",
    port: "http",
    protocol: "TCP" as const,
  };
  assert.equal(
    endpointBase(sticky, { ip: "10.200.0.11", port: 8080 }),
    "25CLADEV-default/sticky/tcp/http__10.200.0.11/8080",
  );
  assert.match(
    endpointBase(tcp, { ip: "fd00::1", port: 8080 }),
    /^[A-Z2-7]{8}-ns1\/svc1\/tcp\/p80__fd00\.\.1\/8080$/,
  );
});

Deno.test("[10.38] portBase() cuts what is too long, and keeps it apart", () => {
  const long = (last: string) =>
    portBase({
      namespace: "n".repeat(63),
      name: "s".repeat(180),
      port: last,
      protocol: "TCP",
    });
  assert.equal(long("a").length, 240);
  assert.ok(long("a").endsWith("..."));
  assert.notEqual(long("a"), long("b"));
});

Deno.test("portBase() leaves nothing that nft does not take", () => {
  const odd = {
    namespace: "a b",
    name: 'x"; drop',
    port: "é",
    protocol: "TCP",
  };
  assert.match(portBase({ ...odd, protocol: "TCP" }), /^[\w./-]+$/);
});

Deno.test("compileNftables() leads to endpoints, or refuses, or drops", async (t) => {
  const slices = (...endpoints: (typeof LOCAL)[]) => [
    slice("default/web-1", { endpoints }),
  ];
  const table: readonly {
    name: string;
    given: Given;
    want: Readonly<Record<string, readonly string[]>>;
    elements: readonly string[];
  }[] = [
    {
      name: "[3.4] without affinity each endpoint is as likely",
      given: {
        services: [service("default/web")],
        slices: slices(LOCAL, REMOTE),
      },
      want: {
        [`chain service-${BASE}`]: [
          "meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.1.2 . 8080 }",
        ],
      },
      elements: [
        "hairpin-connections: 10.244.0.2 . 10.244.0.2 . tcp . 8080",
        "cluster-ips: 10.96.0.10",
        `service-ips: 10.96.0.10 . tcp . 80 : goto service-${BASE}`,
      ],
    },
    {
      name: "[5.45, 10.39] no endpoint at all refuses everywhere",
      given: { services: [service("default/web", EVERYWHERE)] },
      want: {},
      elements: [
        "cluster-ips: 10.96.0.10",
        ...["10.96.0.10", "198.51.100.1", "203.0.113.1"].map((ip) =>
          `no-endpoint-services: ${ip} . tcp . 80 comment "default/web" : goto reject-chain`
        ),
        'no-endpoint-nodeports: tcp . 30080 comment "default/web" : goto reject-chain',
      ],
    },
    {
      name:
        "[5.46, 5.49] internal policy Local without one here drops the ClusterIP's clients alone",
      given: {
        services: [
          service("default/web", {
            ...EVERYWHERE,
            internalTrafficPolicy: "Local",
            externalIPs: [],
          }),
        ],
        slices: slices(REMOTE),
      },
      want: {
        [`chain external-${BASE}`]: [
          'meta mark set meta mark | 0x00004000 comment "masquerade"',
          `goto service-${BASE}`,
        ],
      },
      elements: [
        "cluster-ips: 10.96.0.10",
        'no-endpoint-services: 10.96.0.10 . tcp . 80 comment "default/web" : drop',
        `service-ips: 203.0.113.1 . tcp . 80 : goto external-${BASE}`,
        `service-nodeports: tcp . 30080 : goto external-${BASE}`,
      ],
    },
    {
      name:
        "[5.47, 5.51] external policy Local without one here drops clients from outside",
      given: {
        services: [
          service("default/web", {
            ...EVERYWHERE,
            externalTrafficPolicy: "Local",
            ingress: [],
          }),
        ],
        slices: slices(REMOTE),
      },
      want: {
        [`chain external-${BASE}`]: [
          `ip saddr 10.244.0.0/16 goto service-${BASE} comment "short-circuit pod traffic"`,
          'fib saddr type local meta mark set meta mark | 0x00004000 comment "masquerade local traffic"',
          `fib saddr type local goto service-${BASE} comment "short-circuit local traffic"`,
        ],
      },
      elements: [
        "cluster-ips: 10.96.0.10",
        'no-endpoint-services: 198.51.100.1 . tcp . 80 comment "default/web" : drop',
        'no-endpoint-nodeports: tcp . 30080 comment "default/web" : drop',
        `service-ips: 10.96.0.10 . tcp . 80 : goto service-${BASE}`,
        `service-ips: 198.51.100.1 . tcp . 80 : goto external-${BASE}`,
        `service-nodeports: tcp . 30080 : goto external-${BASE}`,
      ],
    },
  ];
  for (const { name, given, want, elements: wanted } of table) {
    await t.step(name, () => {
      const listing = compiled(given);
      for (const [block, lines] of Object.entries(want)) {
        assert.deepEqual(listing[block], lines, block);
      }
      assert.deepEqual(elements(listing), wanted);
    });
  }
});

Deno.test("[4.8, 4.9, 10.38] affinity asks its sets first, and remembers", () => {
  const listing = compiled({
    services: [
      service("default/web", {
        sessionAffinity: "ClientIP",
        sessionAffinityTimeoutSeconds: 60,
        ports: [{ protocol: "UDP", port: 53 }],
      }),
    ],
    slices: [
      slice("default/web-1", {
        endpoints: [LOCAL, REMOTE],
        ports: [{ protocol: "UDP", port: 53 }],
      }),
    ],
  });
  const of = (kind: string) =>
    Object.keys(listing).filter((name) => name.startsWith(kind))
      .map((name) => name.slice(name.indexOf(" ") + 1));
  const [first = "", second = ""] = of("chain endpoint-");
  assert.deepEqual(of("set affinity-"), [
    first.replace("endpoint", "affinity"),
    second.replace("endpoint", "affinity"),
  ]);
  assert.deepEqual(listing[`set ${of("set affinity-")[0]}`], [
    "type ipv4_addr",
    "flags dynamic,timeout",
    "timeout 60s",
  ]);
  assert.deepEqual(listing[`chain ${first}`], [
    `update @${first.replace("endpoint", "affinity")} { ip saddr }`,
    "meta l4proto udp dnat to " +
    (first.includes("10.244.0.2") ? "10.244.0.2:53" : "10.244.1.2:53"),
  ]);
  const [chain = ""] = of("chain service-").filter((name) =>
    name.includes("/")
  );
  assert.equal(listing[`chain ${chain}`]?.length, 3);
  assert.match(
    listing[`chain ${chain}`]?.[2] ?? "",
    /^numgen random mod 2 vmap \{ 0 : goto endpoint-\S+, 1 : goto endpoint-\S+ \}$/,
  );
});

Deno.test("[6.29, 6.33, 6.34] source ranges guard the load-balancer IPs alone", () => {
  const ranges = (nodeIps: readonly string[]) =>
    compiled({
      services: [
        service("default/web", {
          ...EVERYWHERE,
          loadBalancerSourceRanges: ["198.51.100.0/24", "192.0.2.0/24"],
        }),
      ],
      nodeIps,
    });
  const listing = ranges(["10.0.0.1"]);
  assert.deepEqual(listing[`chain firewall-${BASE}`], [
    "ip saddr != { 192.0.2.0/24, 198.51.100.0/24 } drop",
  ]);
  assert.deepEqual(
    listing["map firewall-ips"]?.slice(2),
    [`203.0.113.1 . tcp . 80 : goto firewall-${BASE}`],
  );
  assert.deepEqual(ranges(["192.0.2.11"])[`chain firewall-${BASE}`], [
    "ip saddr != { 192.0.2.0/24, 198.51.100.0/24, 203.0.113.1 } drop",
  ]);
});

Deno.test("[1.26] SCTP is served", () => {
  const listing = compiled({
    services: [
      service("default/web", { ports: [{ protocol: "SCTP", port: 132 }] }),
    ],
    slices: [
      slice("default/web-1", {
        endpoints: [LOCAL],
        ports: [{ protocol: "SCTP", port: 132 }],
      }),
    ],
  });
  const chain =
    Object.keys(listing).find((name) => name.includes("-default/web/")) ??
      "";
  assert.deepEqual(listing[chain], [
    "meta l4proto sctp dnat ip to numgen random mod 1 map { 0 : 10.244.0.2 . 132 }",
  ]);
});

Deno.test("[6.7, 6.22, 10.37, 10.39] NodePorts are on the primary address, on those that are named, or on all", () => {
  const asked = (settings: Partial<ModeSettings>) => {
    const listing = compiled({ services: [], settings });
    return [
      listing["set nodeport-ips"]?.slice(2),
      listing["chain services"]?.at(-1),
      listing["chain nodeport-endpoints-check"],
    ];
  };
  const set = (field: string) =>
    `${field} meta l4proto . th dport vmap @no-endpoint-nodeports`;
  assert.deepEqual(asked({}), [
    ["192.0.2.11"],
    "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
    [set("ip daddr @nodeport-ips")],
  ]);
  const cidrs = ["127.0.0.0/8", "10.244.0.0/16", "192.0.2.0/24"];
  assert.deepEqual(asked({ nodePorts: { cidrs, primary: false } })[0], [
    "10.244.0.1",
    "192.0.2.11",
  ]);
  const all = { cidrs: ["0.0.0.0/0"], primary: false };
  assert.deepEqual(asked({ nodePorts: all }), [
    undefined,
    "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports",
    [set("ip daddr != 127.0.0.0/8")],
  ]);
});

Deno.test("[5.76, 10.39] cluster IPs masquerade all, those who are no pods, or nobody", () => {
  const first = (settings: Partial<ModeSettings>) =>
    compiled({ services: [], settings })["chain services"]?.slice(0, -2);
  const mark = "meta mark set meta mark | 0x00004000";
  assert.deepEqual(first({ clusterCidrs: [] }), []);
  assert.equal(first({ masqueradeAll: true })?.length, 1);
  assert.match(
    first({ masqueradeAll: true })?.[0] ?? "",
    /^ip daddr @cluster-ips meta mark set meta mark \| 0x00004000/,
  );
  const comment = 'comment "masquerade clusterIP traffic from outside cluster"';
  assert.deepEqual(
    first({ detectLocalMode: "BridgeInterface", bridgeInterface: "cbr0" }),
    [`ip daddr @cluster-ips iifname != "cbr0" ${mark} ${comment}`],
  );
  assert.deepEqual(
    first({
      detectLocalMode: "InterfaceNamePrefix",
      interfaceNamePrefix: "veth",
    }),
    [`ip daddr @cluster-ips iifname != "veth*" ${mark} ${comment}`],
  );
});

Deno.test("[8.16] another bit of the mark is used throughout", () => {
  const listing = compiled({ services: [], settings: { masqueradeBit: 31 } });
  assert.match(
    listing["chain masquerading"]?.[0] ?? "",
    /^meta mark & 0x80000000 != 0x00000000 meta mark set meta mark \^ 0x80000000 /,
  );
});

Deno.test("[6.26] an address that several Services want belongs to one, whole", () => {
  const older = { creationTimestamp: "2026-01-01T00:00:00Z" };
  const younger = { creationTimestamp: "2026-02-01T00:00:00Z" };
  const services = [
    service("default/young", {
      clusterIP: "10.96.0.1",
      externalIPs: ["198.51.100.1"],
      metadata: younger,
    }),
    service("default/old", {
      clusterIP: "10.96.0.2",
      externalIPs: ["198.51.100.1", "10.96.0.1"],
      metadata: older,
    }),
  ];
  const slices = [
    slice("default/young-1", { endpoints: [LOCAL] }),
    slice("default/old-1", { endpoints: [] }),
  ];
  const about = (services: readonly Service[], ip: string) =>
    elements(compiled({ services, slices }))
      .filter((line) => line.includes(`: ${ip} . tcp`))
      .map((line) => line.replace(/ -?\S{8}-/, " "));
  for (const order of [services, services.toReversed()]) {
    assert.deepEqual(about(order, "198.51.100.1"), [
      'no-endpoint-services: 198.51.100.1 . tcp . 80 comment "default/old" : goto reject-chain',
    ]);
    assert.match(
      about(order, "10.96.0.1").join(),
      /^service-ips: .*default\/young\/tcp\/$/,
    );
  }
});

Deno.test("IPv6 has a table of its own, with its own spelling", () => {
  const listing = compiled({
    family: "IPv6",
    services: [
      service("default/web", {
        clusterIP: "fd00:96::10",
        sessionAffinity: "ClientIP",
      }),
    ],
    slices: [
      slice("default/web-1", {
        endpoints: [{ ip: "fd00:244::2", nodeName: NODE }],
      }),
    ],
  });
  const names = Object.keys(listing);
  const chain = names.find((name) => name.startsWith("chain endpoint-")) ?? "";
  assert.match(chain, /__fd00\.244\.\.2\/8080$/);
  assert.equal(
    listing[chain]?.at(-1),
    "meta l4proto tcp dnat to [fd00:244::2]:8080",
  );
  assert.match(
    listing["chain services"]?.[0] ?? "",
    /^ip6 daddr @cluster-ips ip6 saddr != fd00:244::\/56 /,
  );
});

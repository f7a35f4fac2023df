import assert from "node:assert/strict";
import { buildDesiredState } from "../../../../../proxy/desired_state.ts";
import { compileIpvs } from "../../../../../proxy/rules/modes/ipvs/compile.ts";
import type { IpvsProgram } from "../../../../../proxy/rules/modes/ipvs/program.ts";
import {
  addressesText,
  ipsetText,
  iptablesText,
  ipvsadmText,
  scriptText,
} from "../../../../../proxy/rules/modes/ipvs/text.ts";
import {
  type ModeFacts,
  modeInput,
  type ModeSettings,
} from "../../../../../proxy/rules/modes/mode_input.ts";
import { DEFAULT_MODE_SETTINGS } from "../../../../support/mode_settings.ts";
import type { EndpointSlice, Service } from "../../../../../watch/types.ts";
import { node, service, slice } from "../../../../support/objects.ts";

const OWN = node("n1", {
  addresses: ["192.0.2.7", "2001:db8::7"].map((address) => ({
    type: "InternalIP",
    address,
  })),
});

interface Given extends Partial<ModeSettings> {
  readonly services: readonly Service[];
  readonly slices?: readonly EndpointSlice[];
  readonly family?: ModeFacts["family"];
  readonly interfaceIps?: readonly string[];
}

function compile(
  { services, slices = [], family = "IPv4", interfaceIps, ...settings }: Given,
): IpvsProgram {
  const view = { name: "n1", zone: "" };
  return compileIpvs(modeInput({
    mode: "ipvs",
    family,
    state: buildDesiredState(services, { slices, node: view }),
    settings: { ...DEFAULT_MODE_SETTINGS, ...settings },
    nodeName: "n1",
    node: OWN,
    interfaceIps: interfaceIps ?? ["127.0.0.1", "192.0.2.7", "198.51.100.7"],
    serviceCidrs: [],
  }));
}

/** Entries of the sets that have some. */
function filled({ sets }: IpvsProgram): Record<string, readonly string[]> {
  return Object.fromEntries(
    sets.filter(({ entries }) => entries.length > 0)
      .map(({ name, entries }) => [name, entries]),
  );
}

/** `-A` lines of one chain, without the comments. */
function rulesOf(program: IpvsProgram, chain: string): string[] {
  return iptablesText(program, { jumps: false }).split("\n")
    .filter((line) => line.startsWith(`-A ${chain} `))
    .map((line) => line.replace(/ -m comment --comment "[^"]*"/, ""));
}

const EVERYWHERE = [
  { ip: "10.244.0.2", nodeName: "n1" },
  { ip: "10.244.9.9", nodeName: "n2" },
];

Deno.test("[3.5, 10.41, 10.44] the article's Service: three ports are three virtual servers", () => {
  const ports = [8081, 5000, 5500].map((port) => ({
    name: `addon-nexus-tcp-${port}`,
    port,
  }));
  const program = compile({
    services: [service("default/addon-nexus", {
      clusterIP: "10.96.20.10",
      ports,
    })],
    slices: [slice("default/addon-nexus-x", { ports, endpoints: EVERYWHERE })],
  });
  assert.equal(
    ipvsadmText(program),
    [5000, 5500, 8081].map((port) =>
      [
        `-A -t 10.96.20.10:${port} -s rr\n`,
        `-a -t 10.96.20.10:${port} -r 10.244.0.2:${port} -m -w 1\n`,
        `-a -t 10.96.20.10:${port} -r 10.244.9.9:${port} -m -w 1\n`,
      ].join("")
    ).join(""),
  );
  assert.deepEqual(filled(program), {
    "KUBE-LOOP-BACK": [5000, 5500, 8081].map((port) =>
      `10.244.0.2,tcp:${port},10.244.0.2`
    ),
    "KUBE-CLUSTER-IP": [5000, 5500, 8081].map((port) =>
      `10.96.20.10,tcp:${port}`
    ),
    "KUBE-IPVS-IPS": ["10.96.20.10"],
  });
  assert.equal(
    addressesText(program),
    "link add kube-ipvs0 type dummy\n" +
      "address replace 10.96.20.10/32 dev kube-ipvs0\n",
  );
});

Deno.test("[10.40, 6.12] every kind of address is a virtual server; what the node has already is not bound", () => {
  const program = compile({
    services: [service("default/web", {
      type: "LoadBalancer",
      externalIPs: ["203.0.113.1", "198.51.100.7"],
      ingress: ["203.0.113.2"],
      ports: [{ port: 80, nodePort: 30080 }],
    })],
  });
  assert.equal(
    ipvsadmText(program),
    "-A -t 10.96.0.10:80 -s rr\n" +
      "-A -t 203.0.113.1:80 -s rr\n" +
      "-A -t 198.51.100.7:80 -s rr\n" +
      "-A -t 203.0.113.2:80 -s rr\n" +
      "-A -t 192.0.2.7:30080 -s rr\n" +
      "-A -t 198.51.100.7:30080 -s rr\n",
  );
  assert.deepEqual(program.addresses, [
    "10.96.0.10",
    "203.0.113.1",
    "203.0.113.2",
  ]);
  assert.deepEqual(filled(program), {
    "KUBE-CLUSTER-IP": ["10.96.0.10,tcp:80"],
    "KUBE-EXTERNAL-IP": ["203.0.113.1,tcp:80", "198.51.100.7,tcp:80"],
    "KUBE-LOAD-BALANCER": ["203.0.113.2,tcp:80"],
    "KUBE-NODE-PORT-TCP": ["30080"],
    "KUBE-IPVS-IPS": ["10.96.0.10", "203.0.113.1", "203.0.113.2"],
  });
});

Deno.test("[4.22, 10.41, 10.47] affinity is persistence, mh hashes ports too, and no name is checked", () => {
  const services = [
    service("default/sticky", {
      sessionAffinity: "ClientIP",
      sessionAffinityTimeoutSeconds: 125,
    }),
  ];
  for (
    const [scheduler, rest] of [
      ["rr", "-s rr -p 125"],
      ["mh", "-s mh -p 125 -b mh-port"],
      ["no-such", "-s no-such -p 125"],
    ] as const
  ) {
    const ipvs = { ...DEFAULT_MODE_SETTINGS.ipvs, scheduler };
    assert.equal(
      ipvsadmText(compile({ services, ipvs })),
      `-A -t 10.96.0.10:80 ${rest}\n`,
    );
  }
});

Deno.test("[5.60] Local without local endpoints falls back to those of the cluster", () => {
  const remote = [{ ip: "10.244.9.9", nodeName: "n2" }];
  const table: readonly [
    Parameters<typeof service>[1],
    typeof EVERYWHERE,
    Record<string, string[]>,
  ][] = [
    [{ internalTrafficPolicy: "Local" }, EVERYWHERE, {
      "10.96.0.10": ["10.244.0.2"],
    }],
    // Only its own node could serve it: no endpoint of the cluster is known.
    [{ internalTrafficPolicy: "Local" }, remote, { "10.96.0.10": [] }],
    [
      { externalTrafficPolicy: "Local", externalIPs: ["203.0.113.1"] },
      EVERYWHERE,
      {
        "10.96.0.10": ["10.244.0.2", "10.244.9.9"],
        "203.0.113.1": ["10.244.0.2"],
      },
    ],
    [
      { externalTrafficPolicy: "Local", externalIPs: ["203.0.113.1"] },
      remote,
      { "10.96.0.10": ["10.244.9.9"], "203.0.113.1": ["10.244.9.9"] },
    ],
    [
      { internalTrafficPolicy: "Local", externalIPs: ["203.0.113.1"] },
      remote,
      { "10.96.0.10": ["10.244.9.9"], "203.0.113.1": ["10.244.9.9"] },
    ],
  ];
  for (const [overrides, endpoints, want] of table) {
    const { virtualServers } = compile({
      services: [service("default/web", overrides)],
      slices: [slice("default/web-x", { endpoints })],
    });
    assert.deepEqual(
      Object.fromEntries(
        virtualServers.map(({ ip, realServers }) => [
          ip,
          realServers.map((each) => each.ip),
        ]),
      ),
      want,
      JSON.stringify(overrides),
    );
  }
});

Deno.test("[10.44] a policy of Local puts external addresses into sets of their own", () => {
  const program = compile({
    services: [service("default/web", {
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      externalIPs: ["203.0.113.1"],
      ingress: ["203.0.113.2"],
      healthCheckNodePort: 31999,
      ports: [
        { name: "t", port: 80, nodePort: 30080 },
        { name: "u", port: 53, nodePort: 30053, protocol: "UDP" },
        { name: "s", port: 90, nodePort: 30090, protocol: "SCTP" },
      ],
    })],
    interfaceIps: ["192.0.2.7"],
  });
  const of = (ip: string) => [
    `${ip},sctp:90`,
    `${ip},tcp:80`,
    `${ip},udp:53`,
  ];
  assert.deepEqual(filled(program), {
    "KUBE-CLUSTER-IP": of("10.96.0.10"),
    "KUBE-EXTERNAL-IP-LOCAL": of("203.0.113.1"),
    "KUBE-LOAD-BALANCER": of("203.0.113.2"),
    "KUBE-LOAD-BALANCER-LOCAL": of("203.0.113.2"),
    "KUBE-NODE-PORT-TCP": ["30080"],
    "KUBE-NODE-PORT-LOCAL-TCP": ["30080"],
    "KUBE-NODE-PORT-UDP": ["30053"],
    "KUBE-NODE-PORT-LOCAL-UDP": ["30053"],
    "KUBE-NODE-PORT-SCTP-HASH": ["192.0.2.7,sctp:30090"],
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": ["192.0.2.7,sctp:30090"],
    "KUBE-HEALTH-CHECK-NODE-PORT": ["31999"],
    "KUBE-IPVS-IPS": ["10.96.0.10", "203.0.113.1", "203.0.113.2"],
  });
  assert.deepEqual(rulesOf(program, "KUBE-NODE-PORT").slice(0, 6), [
    "-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN",
    "-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ",
    "-A KUBE-NODE-PORT -p udp -m set --match-set KUBE-NODE-PORT-LOCAL-UDP dst -j RETURN",
    "-A KUBE-NODE-PORT -p udp -m set --match-set KUBE-NODE-PORT-UDP dst -j KUBE-MARK-MASQ",
    "-A KUBE-NODE-PORT -p sctp -m set --match-set KUBE-NODE-PORT-LOCAL-SCTP-HASH dst,dst -j RETURN",
    "-A KUBE-NODE-PORT -p sctp -m set --match-set KUBE-NODE-PORT-SCTP-HASH dst,dst -j KUBE-MARK-MASQ",
  ]);
  assert.match(ipvsadmText(program), /^-A --sctp-service 10\.96\.0\.10:90 /m);
  assert.match(ipvsadmText(program), /^-A -u 10\.96\.0\.10:53 /m);
});

Deno.test("[6.29, 6.33, 10.45] source ranges: who is let in, and whether the node itself is", () => {
  const given = (...loadBalancerSourceRanges: string[]) =>
    compile({
      services: [service("default/lb", {
        type: "LoadBalancer",
        ingress: ["203.0.113.2"],
        loadBalancerSourceRanges,
      })],
    });
  const barred = given("198.51.100.0/24");
  assert.deepEqual(filled(barred), {
    "KUBE-CLUSTER-IP": ["10.96.0.10,tcp:80"],
    "KUBE-LOAD-BALANCER": ["203.0.113.2,tcp:80"],
    "KUBE-LOAD-BALANCER-FW": ["203.0.113.2,tcp:80"],
    "KUBE-LOAD-BALANCER-SOURCE-CIDR": ["203.0.113.2,tcp:80,198.51.100.0/24"],
    "KUBE-IPVS-IPS": ["10.96.0.10", "203.0.113.2"],
  });
  assert.deepEqual(rulesOf(barred, "KUBE-PROXY-FIREWALL"), [
    "-A KUBE-PROXY-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL",
  ]);
  assert.deepEqual(rulesOf(barred, "KUBE-SOURCE-RANGES-FIREWALL"), [
    "-A KUBE-SOURCE-RANGES-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN",
    "-A KUBE-SOURCE-RANGES-FIREWALL -j DROP",
  ]);
  assert.deepEqual(rulesOf(barred, "KUBE-IPVS-OUT-FILTER"), [
    "-A KUBE-IPVS-OUT-FILTER -s 203.0.113.2 -m ipvs --vaddr 203.0.113.2 --vproto tcp --vport 80 -j DROP",
  ]);
  const open = given("192.0.2.0/24");
  assert.deepEqual(filled(open)["KUBE-LOAD-BALANCER-SOURCE-IP"], [
    "203.0.113.2,tcp:80,203.0.113.2",
  ]);
  assert.deepEqual(rulesOf(open, "KUBE-IPVS-OUT-FILTER"), []);
});

Deno.test("[5.76, 10.45] who is masqueraded on the way to a ClusterIP", () => {
  const services = [service("default/web")];
  const table: readonly [Partial<ModeSettings>, string][] = [
    [{}, "src,dst"],
    [{ masqueradeAll: true }, "dst,dst"],
    [{ clusterCidrs: ["10.244.0.0/16"] }, "dst,dst ! -s 10.244.0.0/16"],
    [
      { detectLocalMode: "BridgeInterface", bridgeInterface: "cbr0" },
      "dst,dst ! -i cbr0",
    ],
    [
      { detectLocalMode: "InterfaceNamePrefix", interfaceNamePrefix: "veth" },
      "dst,dst ! -i veth+",
    ],
  ];
  for (const [settings, want] of table) {
    const program = compile({ services, ...settings });
    assert.deepEqual(rulesOf(program, "KUBE-SERVICES"), [
      "-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN",
      `-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP ${want} -j KUBE-MARK-MASQ`,
      "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
      "-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT",
    ]);
  }
});

Deno.test("[10.24, 10.45, 10.46] without a Service: all chains, all sets, and the rules that are always there", () => {
  const program = compile({ services: [], masqueradeBit: 31 });
  assert.equal(
    iptablesText(program, { jumps: false }),
    `*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-POSTROUTING -m mark ! --mark 0x80000000/0x80000000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x80000000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --or-mark 0x80000000
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x80000000/0x80000000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-NODE-PORT -m comment --comment "Kubernetes health check node port" -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
COMMIT
`,
  );
  assert.equal(program.sets.length, 17);
  assert.deepEqual(filled(program), {});
});

Deno.test("[10.44, 10.45] IPv6 has its own sets, loopback address and spelling", () => {
  const program = compile({
    family: "IPv6",
    services: [service("default/web", {
      clusterIP: "fd00:96::10",
      ports: [{ port: 80, nodePort: 30080 }],
      type: "NodePort",
    })],
    slices: [slice("default/web-x", {
      addressType: "IPv6",
      endpoints: [{ ip: "fd00:10::2", nodeName: "n1" }],
    })],
    interfaceIps: ["::1", "2001:db8::7", "fe80::1"],
  });
  assert.equal(
    ipvsadmText(program),
    "-A -t [fd00:96::10]:80 -s rr\n" +
      "-a -t [fd00:96::10]:80 -r [fd00:10::2]:8080 -m -w 1\n" +
      "-A -t [2001:db8::7]:30080 -s rr\n" +
      "-a -t [2001:db8::7]:30080 -r [fd00:10::2]:8080 -m -w 1\n",
  );
  assert.match(
    ipsetText(program),
    /^create KUBE-6-LOOP-BACK hash:ip,port,ip family inet6 hashsize 1024 maxelem 65536 -exist\nadd KUBE-6-LOOP-BACK fd00:10::2,tcp:8080,fd00:10::2 -exist\n/,
  );
  assert.ok(
    program.sets.some(({ name }) => name === "KUBE-6-LOAD-BALANCER-SOURCE-CID"),
    "names are cut to 31 characters",
  );
  assert.equal(
    rulesOf(program, "KUBE-SERVICES")[0],
    "-A KUBE-SERVICES -s ::1/128 -j RETURN",
  );
  assert.match(addressesText(program), /replace fd00:96::10\/128 dev/);
  assert.match(scriptText(program, { jumps: false }), /^ip6tables-restore /m);
});

Deno.test("[6.26] an address that several Services want is the oldest one's, once", () => {
  const at = (creationTimestamp: string) => ({ creationTimestamp });
  const program = compile({
    services: [
      service("default/young", {
        clusterIP: "10.96.0.11",
        externalIPs: ["203.0.113.1"],
        metadata: at("2026-02-01T00:00:00Z"),
      }),
      service("default/zold", {
        clusterIP: "10.96.0.12",
        externalIPs: ["203.0.113.1", "10.96.0.11"],
        ingress: ["203.0.113.1"],
        metadata: at("2026-01-01T00:00:00Z"),
      }),
    ],
  });
  assert.deepEqual(
    program.virtualServers.map(({ ip, service }) => `${ip} ${service}`),
    [
      "10.96.0.11 default/young",
      "10.96.0.12 default/zold",
      "203.0.113.1 default/zold",
    ],
  );
  assert.deepEqual(filled(program)["KUBE-LOAD-BALANCER"], [
    "203.0.113.1,tcp:80",
  ]);
});

Deno.test("a script loads all parts; jumps come in the order in which they are to stand", () => {
  const program = compile({ services: [service("default/web")] });
  const script = scriptText(program, { jumps: true });
  assert.deepEqual(
    [...script.matchAll(/^(.*) <<'END'$/gm)].map(([, command]) => command),
    [
      "ipset restore",
      "iptables-restore --noflush",
      "ipvsadm --restore",
      "ip -batch -",
    ],
  );
  assert.equal([...script.matchAll(/^END$/gm)].length, 4);
  // Each is put before the others.
  const inserted = [...script.matchAll(/^-I (\w+) .* -j (\S+)$/gm)].reverse()
    .map(([, from, to]) => `${from} ${to}`);
  assert.deepEqual(inserted, [
    "FORWARD KUBE-PROXY-FIREWALL",
    "FORWARD KUBE-FORWARD",
    "INPUT KUBE-IPVS-FILTER",
    "INPUT KUBE-PROXY-FIREWALL",
    "INPUT KUBE-NODE-PORT",
    "OUTPUT KUBE-IPVS-OUT-FILTER",
    "OUTPUT KUBE-SERVICES",
    "PREROUTING KUBE-SERVICES",
    "POSTROUTING KUBE-POSTROUTING",
  ]);
});

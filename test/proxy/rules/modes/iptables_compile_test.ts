import assert from "node:assert/strict";
import {
  compileIptables,
  type CompileOptions,
} from "../../../../proxy/rules/modes/iptables/compile.ts";
import {
  endpointChain,
  servicePortChains,
} from "../../../../proxy/rules/modes/iptables/names.ts";
import type { ModeSettings } from "../../../../proxy/rules/modes/mode_input.ts";
import { chainOf } from "../../../../proxy/rules/modes/iptables/program.ts";
import { programText } from "../../../../proxy/rules/modes/iptables/text.ts";
import {
  type IptablesListing,
  iptablesListing,
} from "../../../support/iptables_listing.ts";
import {
  INPUT_NODE,
  inputOf,
  type InputParts,
} from "../../../support/mode_inputs.ts";
import { service, slice } from "../../../support/objects.ts";

function compiled(
  parts: InputParts,
  options?: CompileOptions,
): IptablesListing {
  const program = compileIptables(inputOf(parts), options);
  return iptablesListing(programText(program, { jumps: true }));
}

/** The rules of a chain that say something of the Service. */
function rulesOf(
  listing: IptablesListing,
  table: string,
  chain: string,
): readonly string[] {
  return listing[table]?.[chain] ?? [];
}

Deno.test("[10.11, 10.12] chains are named as upstream names them", () => {
  const table: readonly [text: string, "TCP" | "UDP", hash: string][] = [
    ["ns1/svc1:p80", "TCP", "XPGD46QRK7WJZT7O"],
    ["default/kubernetes:https", "TCP", "NPX46M4PTMTKRN6Y"],
    ["kube-system/kube-dns:dns", "UDP", "TCOU7JCQXEZGVUNU"],
    ["ns2/svc2:p80", "TCP", "GNZBNJ2PO5MGZ6GT"],
    ["ns5/svc5:p80", "TCP", "NUKIZ6OKUXPJNT4C"],
    ["default/services-prod-6059-oms-api:http-0", "TCP", "KLU3DS3WRPTYAOLU"],
  ];
  for (const [text, protocol, hash] of table) {
    const { svc, svl, ext, fw } = servicePortChains({ text, protocol });
    assert.deepEqual([svc, svl, ext, fw], [
      `KUBE-SVC-${hash}`,
      `KUBE-SVL-${hash}`,
      `KUBE-EXT-${hash}`,
      `KUBE-FW-${hash}`,
    ]);
  }
  assert.equal(
    endpointChain({ text: "ns1/svc1:p80", protocol: "TCP" }, "10.180.0.1:80"),
    "KUBE-SEP-SXIVWICOYRO3J4NJ",
  );
});

const ENDPOINTS = [
  { ip: "10.244.0.2", nodeName: INPUT_NODE },
  { ip: "10.244.1.2", nodeName: "n2" },
  { ip: "10.244.1.3", nodeName: "n2" },
];
const SLICE = slice("default/web-1", { endpoints: ENDPOINTS });
const REMOTE = slice("default/web-1", { endpoints: ENDPOINTS.slice(1) });
const CHAINS = servicePortChains({ text: "default/web", protocol: "TCP" });

Deno.test("[3.2, 3.3, 10.22] each of n endpoints is as likely as the others", () => {
  const services = [service("default/web")];
  const input = inputOf({ services, slices: [SLICE] });
  const program = compileIptables(input);
  const chances = chainOf(program, "nat", CHAINS.svc)?.rules
    .flatMap(({ matches }) => matches)
    .flatMap((match) => match.type === "random" ? [match.probability] : []);
  assert.deepEqual(chances, [1 / 3, 1 / 2]);
  // 1/3 in ten digits is between two of the kernel's steps.
  assert.match(programText(program), /--probability 0\.33333333349 /);
  assert.match(programText(program), /--probability 0\.50000000000 /);
});

Deno.test("[4.8, 10.22, 10.23] affinity asks every endpoint's list before chance decides", () => {
  const services = [
    service("default/web", {
      sessionAffinity: "ClientIP",
      sessionAffinityTimeoutSeconds: 60,
    }),
  ];
  const listing = compiled({ services, slices: [REMOTE] });
  const rules = rulesOf(listing, "nat", CHAINS.svc);
  const [, first, second, third, last] = rules;
  for (const rule of [first, second]) {
    assert.match(
      rule ?? "",
      /recent --rcheck --seconds 60 --reap --name KUBE-/,
    );
  }
  assert.match(third ?? "", /-m statistic/);
  assert.doesNotMatch(last ?? "", /statistic|recent/);
  const chain = endpointChain(
    { text: "default/web", protocol: "TCP" },
    "10.244.1.2:8080",
  );
  assert.match(
    rulesOf(listing, "nat", chain)[1] ?? "",
    new RegExp(`-m recent --set --name ${chain} .*--to-destination 10.244.1.2`),
  );
});

Deno.test("[5.45, 5.46, 5.47, 10.16] what has no endpoints is rejected, and without local ones dropped", () => {
  const external = {
    type: "LoadBalancer",
    externalIPs: ["198.51.100.1"],
    ingress: ["203.0.113.1"],
    ports: [{ nodePort: 30_080 }],
  } as const;
  const none = compiled({ services: [service("default/web", external)] });
  assert.deepEqual(rulesOf(none, "filter", "KUBE-SERVICES"), [
    '-d 10.96.0.10/32 -p tcp -m comment --comment "default/web has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable',
  ]);
  assert.deepEqual(rulesOf(none, "filter", "KUBE-EXTERNAL-SERVICES"), [
    '-d 198.51.100.1/32 -p tcp -m comment --comment "default/web has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable',
    '-d 203.0.113.1/32 -p tcp -m comment --comment "default/web has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable',
    '-p tcp -m comment --comment "default/web has no endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j REJECT --reject-with icmp-port-unreachable',
  ]);
  assert.equal(rulesOf(none, "nat", "KUBE-SERVICES").length, 1);

  const services = [
    service("default/web", {
      ...external,
      internalTrafficPolicy: "Local",
      externalTrafficPolicy: "Local",
    }),
  ];
  const remote = compiled({ services, slices: [REMOTE] });
  const dropped = [
    ...rulesOf(remote, "filter", "KUBE-SERVICES"),
    ...rulesOf(remote, "filter", "KUBE-EXTERNAL-SERVICES"),
  ];
  assert.equal(dropped.length, 4);
  for (const rule of dropped) {
    assert.match(rule, /"default\/web has no local endpoints" .*-j DROP$/);
  }
  // Pods and the node get in all the same; nobody falls through.
  const ext = rulesOf(remote, "nat", CHAINS.ext);
  assert.deepEqual(ext.map((rule) => / -j (\S+)$/.exec(rule)?.[1]), [
    CHAINS.svc,
    "KUBE-MARK-MASQ",
    CHAINS.svc,
  ]);
  assert.deepEqual(rulesOf(remote, "nat", CHAINS.svl), []);
});

Deno.test("[5.49, 5.50, 10.14, 10.20, 10.29] policies of Local have chains of their own", () => {
  const local = { internalTrafficPolicy: "Local" } as const;
  const internal = compiled({
    services: [service("default/web", local)],
    slices: [SLICE],
  });
  const nat = internal["nat"] ?? {};
  assert.ok(CHAINS.svl in nat && !(CHAINS.svc in nat) && !(CHAINS.ext in nat));
  assert.match(
    rulesOf(internal, "nat", "KUBE-SERVICES")[0] ?? "",
    new RegExp(`-j ${CHAINS.svl}$`),
  );
  // Remote endpoints are nobody's.
  const eps = Object.keys(nat).filter((name) => name.startsWith("KUBE-SEP-"));
  assert.equal(eps.length, 1);

  const both = compiled({
    services: [
      service("default/web", {
        type: "NodePort",
        externalTrafficPolicy: "Local",
        ports: [{ nodePort: 30_080 }],
      }),
    ],
    slices: [SLICE],
  });
  assert.ok(
    [CHAINS.svc, CHAINS.svl, CHAINS.ext].every((name) =>
      name in (both["nat"] ?? {})
    ),
  );
  assert.match(rulesOf(both, "nat", CHAINS.svc)[0] ?? "", /KUBE-MARK-MASQ$/);
  assert.equal(rulesOf(both, "nat", CHAINS.svl).length, 1);
});

Deno.test("[5.75, 5.76, 8.78, 10.19] who is masqueraded follows from the detector", () => {
  const parts = { services: [service("default/web")], slices: [SLICE] };
  const masquerades = (settings: Partial<ModeSettings>) =>
    rulesOf(compiled({ ...parts, settings }), "nat", CHAINS.svc)
      .filter((rule) => rule.endsWith("-j KUBE-MARK-MASQ"))
      .map((rule) => rule.replace(/-d 10.96.0.10.*/, "…"));
  assert.deepEqual(masquerades({}), ["! -s 10.244.0.0/16 …"]);
  assert.deepEqual(masquerades({ clusterCidrs: [] }), []);
  assert.deepEqual(masquerades({ masqueradeAll: true }), ["…"]);
  assert.deepEqual(masquerades({ masqueradeAll: true, clusterCidrs: [] }), [
    "…",
  ]);
  const bridge = compiled({
    ...parts,
    settings: { detectLocalMode: "BridgeInterface", bridgeInterface: "cbr0" },
  });
  assert.match(
    rulesOf(bridge, "nat", CHAINS.svc)[0] ?? "",
    /^-d 10.96.0.10\/32 ! -i cbr0 -p tcp /,
  );
});

Deno.test("[6.33, 6.34, 10.21] source ranges let the node in by its load-balancer address too", () => {
  const services = (range: string) => [
    service("default/web", {
      type: "LoadBalancer",
      ingress: ["203.0.113.1"],
      loadBalancerSourceRanges: [range],
    }),
  ];
  const sources = (range: string) =>
    rulesOf(
      compiled({ services: services(range), slices: [SLICE] }),
      "nat",
      CHAINS.fw,
    ).map((rule) => /^-s (\S+)/.exec(rule)?.[1] ?? "the rest");
  assert.deepEqual(sources("198.51.100.0/24"), ["198.51.100.0/24", "the rest"]);
  assert.deepEqual(sources("192.0.2.0/24"), [
    "192.0.2.0/24",
    "203.0.113.1/32",
    "the rest",
  ]);
  const none = compiled({ services: services("192.0.2.0/24") });
  assert.deepEqual(rulesOf(none, "filter", "KUBE-PROXY-FIREWALL"), []);
  assert.equal(rulesOf(none, "nat", CHAINS.fw).length, 0);
});

Deno.test("[6.9, 6.11, 6.21, 10.17, 10.26, 10.27] NodePorts are where nodePortAddresses says", () => {
  const last = (parts: Partial<InputParts>) =>
    rulesOf(compiled({ services: [], ...parts }), "nat", "KUBE-SERVICES")
      .map((rule) => rule.replace(/-m comment --comment "[^"]*" /, ""));
  const to = "-j KUBE-NODEPORTS";
  const local = `-m addrtype --dst-type LOCAL ${to}`;
  assert.deepEqual(last({}), [local]);
  assert.deepEqual(last({ settings: { localhostNodePorts: false } }), [
    `! -d 127.0.0.0/8 ${local}`,
  ]);
  assert.deepEqual(last({ family: "IPv6" }), [`! -d ::1/128 ${local}`]);
  const cidrs = ["192.0.2.0/24", "127.0.0.1/32"];
  const nodePorts = { cidrs, primary: false };
  assert.deepEqual(last({ settings: { nodePorts } }), [
    `-d 127.0.0.1/32 ${to}`,
    `-d 192.0.2.11/32 ${to}`,
  ]);
  assert.deepEqual(
    last({ settings: { nodePorts, localhostNodePorts: false } }),
    [`-d 192.0.2.11/32 ${to}`],
  );
  const firewall = (settings: Partial<ModeSettings>) =>
    rulesOf(compiled({ services: [], settings }), "filter", "KUBE-FIREWALL");
  assert.equal(firewall({}).length, 1);
  assert.equal(firewall({ localhostNodePorts: false }).length, 0);
});

Deno.test("[6.50, 10.18] health check node ports are accepted, with endpoints or without", () => {
  const services = [
    service("default/web", {
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      healthCheckNodePort: 31_000,
    }),
  ];
  assert.deepEqual(
    rulesOf(compiled({ services }), "filter", "KUBE-NODEPORTS"),
    [
      '-p tcp -m comment --comment "default/web health check node port" -m tcp --dport 31000 -j ACCEPT',
    ],
  );
});

Deno.test("[1.26, 10.17] SCTP and UDP are as TCP, and nfacct counts on loopback", () => {
  const services = [
    service("default/web", {
      type: "NodePort",
      ports: [{ protocol: "SCTP", nodePort: 30_080 }],
    }),
  ];
  const slices = [
    slice("default/web-1", {
      ports: [{ protocol: "SCTP" }],
      endpoints: ENDPOINTS,
    }),
  ];
  const rules = rulesOf(
    compiled({ services, slices }, { nfacct: true }),
    "nat",
    "KUBE-NODEPORTS",
  );
  assert.match(
    rules[0] ?? "",
    /^-d 127.0.0.0\/8 -p sctp .* -m sctp --dport 30080 -m nfacct .*-j KUBE-EXT-/,
  );
  assert.match(
    rules[1] ?? "",
    /^-p sctp .* -m sctp --dport 30080 -j KUBE-EXT-/,
  );
});

Deno.test("[10.31] with more than 1000 endpoints their rules have no comments", () => {
  const services = [0, 1].map((i) =>
    service(`default/web${i}`, { clusterIP: `10.96.1.${i}` })
  );
  const slices = (count: number) =>
    [0, 1].map((i) =>
      slice(`default/web${i}-1`, {
        endpoints: Array.from(
          { length: i === 0 ? count : 1 },
          (_, n) => `10.244.${n >> 8}.${n & 255}`,
        ),
      })
    );
  const comments = (count: number) => {
    const nat = compiled({ services, slices: slices(count) })["nat"] ?? {};
    const has = (prefix: RegExp) =>
      Object.entries(nat).filter(([chain]) => prefix.test(chain))
        .flatMap(([, rules]) => rules)
        .filter((rule) =>
          rule.includes("--comment") && !rule.includes("cluster IP")
        ).length;
    return [has(/^KUBE-(SVC|SEP)-/), has(/^KUBE-SERVICES/)];
  };
  assert.deepEqual(comments(999), [3000, 1]);
  assert.deepEqual(comments(1000), [0, 1]);
});

Deno.test("[10.33] rules grow with Services and endpoints, not with their product", () => {
  const count = (services: number, endpoints: number) => {
    const nat = compiled({
      services: Array.from(
        { length: services },
        (_, i) => service(`default/w${i}`, { clusterIP: `10.96.1.${i}` }),
      ),
      slices: Array.from(
        { length: services },
        (_, i) =>
          slice(`default/w${i}-1`, {
            endpoints: Array.from(
              { length: endpoints },
              (_, n) => `10.244.0.${n}`,
            ),
          }),
      ),
    })["nat"] ?? {};
    return Object.values(nat).flat().length;
  };
  // 3 jumps, 4 to masquerade, 1 for NodePorts.
  assert.equal(count(0, 0), 8);
  assert.equal(count(10, 5), 8 + 10 * (2 + 3 * 5));
});

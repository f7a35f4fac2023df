/**
 * The chains of one ServicePort, and the sets that remember its clients (facts
 * 3.4, 4.4–4.9, 5.51–5.56, 6.29–6.34, 10.38). Pure.
 *
 * @module
 */
import type { Endpoint } from "../../../endpoint.ts";
import { cidrContains } from "../../../ip.ts";
import { isExternallyAccessible } from "../../../service_port.ts";
import { podMatch, setMark } from "./matches.ts";
import { endpointBase } from "./names.ts";
import { goTo, hasFirewall, type PortView } from "./port_view.ts";
import type { NftChain, NftMatch, NftRule, NftSet } from "./program.ts";
import type { TablePart } from "./table_parts.ts";

/** As many as its policies, affinity and source ranges ask for. */
export function portChains(view: PortView): TablePart[] {
  return [
    ...affinityParts(view),
    ...policyChains(view),
    ...externalChain(view),
    ...firewallChain(view),
  ];
}

function chainPart(chain: NftChain): TablePart {
  return { kind: "chain", key: `chain ${chain.name}`, chain };
}

/** A chain and a set for each endpoint that clients are to stay with. */
function affinityParts(
  { port, input, service, protocol }: PortView,
): TablePart[] {
  if (service.affinitySeconds === 0) return [];
  const parts: TablePart[] = [];
  for (const endpoint of port.all) {
    const base = endpointBase(service, endpoint);
    const set: NftSet = {
      name: `affinity-${base}`,
      type: [input.family === "IPv4" ? "ipv4_addr" : "ipv6_addr"],
      timeoutSeconds: service.affinitySeconds,
      elements: [],
    };
    parts.push(
      { kind: "set", key: `set ${set.name}`, set },
      chainPart({
        name: `endpoint-${base}`,
        rules: [
          { statements: [{ kind: "remember-source", set: set.name }] },
          {
            statements: [
              isProtocol(protocol),
              { kind: "dnat-to", to: endpoint },
            ],
          },
        ],
      }),
    );
  }
  return parts;
}

function isProtocol(protocol: string): NftMatch {
  return { kind: "match", fields: ["l4proto"], of: { values: [protocol] } };
}

function policyChains(view: PortView): TablePart[] {
  const { cluster, local } = view.port;
  return [
    ...cluster.length > 0 ? [policyChain("service", cluster, view)] : [],
    ...local.length > 0 ? [policyChain("local", local, view)] : [],
  ];
}

/** Which endpoint a new connection goes to. */
function policyChain(
  prefix: "service" | "local",
  endpoints: readonly Endpoint[],
  { service, base, protocol }: PortView,
): TablePart {
  const name = `${prefix}-${base}`;
  if (service.affinitySeconds === 0) {
    return chainPart({
      name,
      rules: [{
        statements: [
          isProtocol(protocol),
          { kind: "dnat", to: endpoints },
        ],
      }],
    });
  }
  const bases = endpoints.map((each) => endpointBase(service, each));
  const known = bases.map((each): NftRule => ({
    statements: [
      {
        kind: "match",
        fields: ["saddr"],
        of: { set: `affinity-${each}` },
      },
      { kind: "verdict", verdict: goTo(`endpoint-${each}`) },
    ],
  }));
  const verdicts = bases.map((each) => goTo(`endpoint-${each}`));
  return chainPart({
    name,
    rules: [...known, { statements: [{ kind: "choose", verdicts }] }],
  });
}

/** Where clients of the NodePort, external and load-balancer IPs come first. */
function externalChain(view: PortView): TablePart[] {
  const { port, input, service, base, outside } = view;
  if (!port.hasAny || !isExternallyAccessible(service)) return [];
  const isLocal: NftMatch = {
    kind: "match",
    fields: ["saddr type"],
    of: { values: ["local"] },
  };
  const pod = podMatch(input.localDetector);
  const cluster = {
    kind: "verdict",
    verdict: goTo(`service-${base}`),
  } as const;
  const rules: NftRule[] = service.externalPolicyLocal
    ? [
      ...pod === undefined ? [] : [{
        statements: [pod, cluster],
        comment: "short-circuit pod traffic",
      }],
      {
        statements: [isLocal, setMark(input)],
        comment: "masquerade local traffic",
      },
      {
        statements: [isLocal, cluster],
        comment: "short-circuit local traffic",
      },
    ]
    : [{ statements: [setMark(input)], comment: "masquerade" }];
  if (outside.length > 0) {
    const prefix = service.externalPolicyLocal ? "local" : "service";
    const verdict = goTo(`${prefix}-${base}`);
    rules.push({ statements: [{ kind: "verdict", verdict }] });
  }
  return [chainPart({ name: `external-${base}`, rules })];
}

/**
 * Who may use the load-balancer IPs. This node, where it may, also when its
 * packets leave from such an address because it has it (fact 6.33).
 */
function firewallChain({ input, service, base }: PortView): TablePart[] {
  if (!hasFirewall(service)) return [];
  const nodeIp = input.node.ip;
  const isNodeAllowed = nodeIp !== undefined &&
    service.sourceRanges.some((cidr) => cidrContains(cidr, nodeIp));
  const values = [
    ...service.sourceRanges,
    ...isNodeAllowed ? service.loadBalancerIPs : [],
  ].sort();
  return [chainPart({
    name: `firewall-${base}`,
    rules: [{
      statements: [
        { kind: "match", fields: ["saddr"], isNot: true, of: { values } },
        { kind: "verdict", verdict: { verdict: "drop" } },
      ],
    }],
  })];
}

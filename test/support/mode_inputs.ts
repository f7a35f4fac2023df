/**
 * Kernel mode inputs for tests: from a few objects, or at random.
 *
 * @module
 */
import fc from "fast-check";
import { buildDesiredState } from "../../proxy/desired_state.ts";
import type { IpFamily } from "../../proxy/ip.ts";
import {
  type KernelMode,
  type ModeInput,
  modeInput,
  type ModeSettings,
} from "../../proxy/rules/modes/mode_input.ts";
import { DEFAULT_MODE_SETTINGS } from "./mode_settings.ts";
import type { EndpointSlice, Service } from "../../watch/types.ts";
import { node, service, slice } from "./objects.ts";

/** The own Node in every input. */
export const INPUT_NODE = "n1";

export interface InputParts {
  readonly services: readonly Service[];
  readonly slices?: readonly EndpointSlice[];
  readonly mode?: KernelMode;
  readonly family?: IpFamily;
  readonly settings?: Partial<ModeSettings>;
  readonly interfaceIps?: readonly string[];
}

/** The own Node has 192.0.2.11 and fd00:2::11; pods are in 10.244.0.0/16. */
export function inputOf(
  {
    services,
    slices = [],
    mode = "iptables",
    family = "IPv4",
    settings,
    interfaceIps = ["127.0.0.1", "192.0.2.11", "::1", "fd00:2::11"],
  }: InputParts,
): ModeInput {
  return modeInput({
    mode,
    family,
    state: buildDesiredState(services, {
      slices,
      node: { name: INPUT_NODE, zone: "" },
    }),
    settings: {
      ...DEFAULT_MODE_SETTINGS,
      clusterCidrs: ["10.244.0.0/16", "fd00:244::/56"],
      ...settings,
    },
    nodeName: INPUT_NODE,
    node: node(INPUT_NODE, {
      addresses: ["192.0.2.11", "fd00:2::11"].map((address) => ({
        type: "InternalIP",
        address,
      })),
    }),
    interfaceIps,
    serviceCidrs: ["10.96.0.0/16", "fd00:96::/112"],
  });
}

const endpoints = fc.array(
  fc.record({
    host: fc.integer({ min: 1, max: 9 }),
    isReady: fc.boolean(),
    isTerminating: fc.boolean(),
    isLocal: fc.boolean(),
  }),
  { maxLength: 4 },
);

const clusters = fc.record({
  type: fc.constantFrom("ClusterIP", "NodePort", "LoadBalancer"),
  protocol: fc.constantFrom("TCP", "UDP", "SCTP"),
  internalTrafficPolicy: fc.constantFrom("Cluster", "Local"),
  externalTrafficPolicy: fc.constantFrom("Cluster", "Local"),
  sessionAffinity: fc.constantFrom("None", "ClientIP"),
  hasExternalIp: fc.boolean(),
  hasRanges: fc.boolean(),
  endpoints,
});

/**
 * One Service for each element, all different, in both families: every kind of
 * address, policy and endpoint that decides something. Its addresses follow
 * from its index.
 */
export const serviceClusters: fc.Arbitrary<
  { services: Service[]; slices: EndpointSlice[] }
> = fc.array(clusters, { minLength: 1, maxLength: 6 }).map((all) => ({
  services: all.map((each, i) =>
    service(`default/web-${i}`, {
      type: each.type,
      clusterIPs: [`10.96.1.${i}`, `fd00:96::1:${i}`],
      ports: [{
        name: "main",
        port: 80,
        protocol: each.protocol,
        nodePort: each.type === "ClusterIP" ? 0 : 30_000 + i,
      }],
      internalTrafficPolicy: each.internalTrafficPolicy,
      externalTrafficPolicy: each.externalTrafficPolicy,
      sessionAffinity: each.sessionAffinity,
      externalIPs: each.hasExternalIp
        ? [`198.51.100.${i}`, `2001:db8:1::${i}`]
        : [],
      ...(each.type !== "LoadBalancer" ? {} : {
        ingress: [`203.0.113.${i}`, `2001:db8:2::${i}`],
        healthCheckNodePort: 31_000 + i,
        loadBalancerSourceRanges: each.hasRanges
          ? ["192.0.2.0/24", "fd00:2::/64"]
          : [],
      }),
    })
  ),
  slices: all.flatMap((each, i) =>
    ["10.244.1.", "fd00:244::1:"].map((net, family) =>
      slice(`default/s-${i}-${family}`, {
        service: `web-${i}`,
        addressType: family === 0 ? "IPv4" : "IPv6",
        ports: [{ name: "main", port: 8080, protocol: each.protocol }],
        endpoints: each.endpoints.map((endpoint) => ({
          ip: `${net}${endpoint.host}`,
          ready: endpoint.isReady,
          serving: endpoint.isReady || endpoint.isTerminating,
          terminating: endpoint.isTerminating,
          nodeName: endpoint.isLocal ? INPUT_NODE : "n2",
        })),
      })
    )
  ),
}));

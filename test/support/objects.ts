/**
 * Kubernetes objects for tests: each builder gives a complete object of
 * `watch/types.ts`, as the API server would have defaulted it, and takes what
 * the test is about.
 *
 * @module
 */
import { ipFamily } from "../../proxy/ip.ts";
import type {
  Change,
  ClusterObject,
  EndpointSlice,
  EndpointSlicePort,
  Node,
  ObjectMeta,
  Service,
  ServicePortSpec,
  ServiceSpec,
  SliceEndpoint,
} from "../../watch/types.ts";
import { objectKey } from "../../watch/types.ts";

export interface ServiceOverrides extends Partial<Omit<ServiceSpec, "ports">> {
  readonly ports?: readonly Partial<ServicePortSpec>[];
  /** Of the status: an address is one with `ipMode: VIP`. */
  readonly ingress?: readonly (string | {
    readonly ip: string;
    readonly ipMode: "VIP" | "Proxy";
  })[];
  readonly metadata?: Partial<ObjectMeta>;
}

/**
 * A Service; unless told otherwise of type ClusterIP at 10.96.0.10 with one
 * unnamed port, 80/TCP. `clusterIPs` and `ipFamilies` follow `clusterIP`.
 */
export function service(
  key: string,
  { ports, ingress = [], metadata, ...overrides }: ServiceOverrides = {},
): Service {
  const clusterIP = overrides.clusterIP ?? overrides.clusterIPs?.[0] ??
    "10.96.0.10";
  const clusterIPs = overrides.clusterIPs ??
    (clusterIP === "" ? [] : [clusterIP]);
  return {
    kind: "Service",
    metadata: { ...meta(key), ...metadata },
    spec: {
      type: "ClusterIP",
      ipFamilies: clusterIPs.filter((ip) => ip !== "None").map(ipFamily),
      externalIPs: [],
      loadBalancerSourceRanges: [],
      sessionAffinity: "None",
      sessionAffinityTimeoutSeconds: 10_800,
      internalTrafficPolicy: "Cluster",
      externalTrafficPolicy: "Cluster",
      healthCheckNodePort: 0,
      ...overrides,
      clusterIP,
      clusterIPs,
      ports: (ports ?? [{}]).map((port) => ({
        name: "",
        protocol: "TCP",
        port: 80,
        nodePort: 0,
        ...port,
      })),
    },
    status: {
      loadBalancer: {
        ingress: ingress.map((entry) =>
          typeof entry === "string" ? { ip: entry, ipMode: "VIP" } : entry
        ),
      },
    },
  };
}

export interface EndpointOverrides {
  readonly ip: string;
  readonly ready?: boolean;
  readonly serving?: boolean;
  readonly terminating?: boolean;
  readonly nodeName?: string;
  readonly zones?: readonly string[];
  readonly nodes?: readonly string[];
}

export interface SliceOverrides {
  /** The Service's name; as the slice's, without `-suffix`, if not told. */
  readonly service?: string;
  readonly addressType?: string;
  readonly ports?: readonly Partial<EndpointSlicePort>[];
  /** An address is a ready endpoint. */
  readonly endpoints?: readonly (string | EndpointOverrides)[];
  readonly metadata?: Partial<ObjectMeta>;
}

/**
 * An EndpointSlice; unless told otherwise of one unnamed port, 8080/TCP, of the
 * family of its first endpoint, and empty.
 */
export function slice(
  key: string,
  { ports, endpoints = [], ...overrides }: SliceOverrides = {},
): EndpointSlice {
  const metadata = meta(key);
  const offered = endpoints.map(sliceEndpoint);
  return {
    kind: "EndpointSlice",
    metadata: {
      ...metadata,
      labels: {
        "kubernetes.io/service-name": overrides.service ??
          metadata.name.replace(/-[^-]*$/, ""),
      },
      ...overrides.metadata,
    },
    addressType: overrides.addressType ??
      ipFamily(offered[0]?.addresses[0] ?? ""),
    ports: (ports ?? [{}]).map((port) => ({
      name: "",
      protocol: "TCP",
      port: 8080,
      ...port,
    })),
    endpoints: offered,
  };
}

function sliceEndpoint(given: string | EndpointOverrides): SliceEndpoint {
  const { ip, ...more } = typeof given === "string" ? { ip: given } : given;
  return {
    addresses: [ip],
    conditions: {
      ready: more.ready ?? true,
      serving: more.serving ?? more.ready ?? true,
      terminating: more.terminating ?? false,
    },
    nodeName: more.nodeName ?? "",
    hints: { forZones: more.zones ?? [], forNodes: more.nodes ?? [] },
  };
}

export interface NodeOverrides {
  /** The zone label; none if not told. */
  readonly zone?: string;
  readonly taints?: readonly string[];
  readonly podCIDRs?: readonly string[];
  readonly addresses?: Node["status"]["addresses"];
  readonly metadata?: Partial<ObjectMeta>;
}

/** A Node with nothing but a name, unless told otherwise. */
export function node(name: string, overrides: NodeOverrides = {}): Node {
  const labels = overrides.zone === undefined
    ? {}
    : { "topology.kubernetes.io/zone": overrides.zone };
  return {
    kind: "Node",
    metadata: { ...meta(name), labels, ...overrides.metadata },
    spec: {
      podCIDRs: overrides.podCIDRs ?? [],
      taints: (overrides.taints ?? []).map((key) => ({ key })),
    },
    status: { addresses: overrides.addresses ?? [] },
  };
}

function meta(key: string): ObjectMeta {
  const [name = "", namespace = ""] = key.split("/").reverse();
  return {
    name,
    namespace,
    uid: `uid-of-${key}`,
    resourceVersion: "1",
    creationTimestamp: "2026-01-01T00:00:00Z",
    labels: {},
    annotations: {},
  };
}

/** The change that brings the object into being. */
export function added<T extends ClusterObject>(after: T): Change<T> {
  return { key: objectKey(after.metadata), after };
}

/** The change from one state of an object to another. */
export function modified<T extends ClusterObject>(
  before: T,
  after: T,
): Change<T> {
  return { key: objectKey(after.metadata), before, after };
}

/** The change that ends the object. */
export function deleted<T extends ClusterObject>(before: T): Change<T> {
  return { key: objectKey(before.metadata), before };
}

/**
 * Kubernetes objects at random, for property tests: few names, so that they
 * meet, and every policy, condition and hint that decides something.
 *
 * @module
 */
import fc from "fast-check";
import type { EndpointSlice, Node, Service } from "../../watch/types.ts";
import {
  type EndpointOverrides,
  node,
  service,
  type ServiceOverrides,
  slice,
} from "./objects.ts";

/** The own node in every property; `n2` is another one. */
export const OWN_NODE = "n1";

/** Mostly the first, so that most Services find endpoints of theirs. */
function mostly<const T>(first: T, ...others: readonly T[]): fc.Arbitrary<T> {
  return fc.oneof(
    { weight: 6, arbitrary: fc.constant(first) },
    { weight: 1, arbitrary: fc.constantFrom(...others) },
  );
}

const namespaces = mostly("default", "kube-system");
const names = fc.constantFrom("web", "api");
const portNames = mostly("", "http");
const protocols = mostly("TCP", "UDP", "SCTP");
const policies = fc.constantFrom("Cluster", "Local");

const CLUSTER_IPS: [ServiceOverrides, ...ServiceOverrides[]] = [
  {},
  { clusterIP: "None" },
  { clusterIP: "" },
  { clusterIP: "fd00:96::10" },
  { clusterIPs: ["10.96.0.10", "fd00:96::10"] },
  { clusterIPs: ["fd00:96::11", "10.96.0.011"] },
  { clusterIPs: ["10.96.0.10"], ipFamilies: ["IPv4", "IPv6"] },
];

/** `namespace/name` of a Service. */
export const serviceKeys: fc.Arbitrary<string> = fc.tuple(namespaces, names)
  .map((parts) => parts.join("/"));

/** A Service of the given name. */
export function services(key: string): fc.Arbitrary<Service> {
  return fc.record({
    addresses: mostly(...CLUSTER_IPS),
    type: mostly("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
    ports: fc.uniqueArray(
      fc.record({
        name: portNames,
        protocol: protocols,
        nodePort: fc.constantFrom(0, 30_080),
      }),
      {
        minLength: 1,
        maxLength: 3,
        selector: ({ name, protocol }) => name + protocol,
      },
    ),
    externalIPs: fc.subarray(["192.0.2.1", "2001:db8::1"]),
    ingress: fc.subarray(["192.0.2.2", "2001:db8::2"]),
    internalTrafficPolicy: policies,
    externalTrafficPolicy: policies,
    resourceVersion: fc.constantFrom("1", "2"),
  }).map(({ addresses, resourceVersion, ...overrides }) =>
    service(key, {
      ...overrides,
      ...addresses,
      metadata: { resourceVersion },
    })
  );
}

const endpoints: fc.Arbitrary<EndpointOverrides> = fc.record({
  ip: fc.oneof(
    {
      weight: 4,
      arbitrary: fc.constantFrom("10.1.0.1", "10.1.0.2", "10.1.0.10"),
    },
    { weight: 1, arbitrary: fc.constantFrom("fd00:1::1", "not an ip") },
  ),
  ready: fc.boolean(),
  serving: fc.boolean(),
  terminating: fc.boolean(),
  nodeName: mostly(OWN_NODE, "n2", ""),
  zones: fc.constantFrom<readonly string[]>(["a"], ["b"], ["a", "b"], []),
  nodes: mostly<readonly string[]>([], [OWN_NODE], ["n2"]),
});

/** `namespace/name` of an EndpointSlice; its name says nothing of its Service. */
export const sliceKeys: fc.Arbitrary<string> = fc
  .tuple(namespaces, fc.constantFrom("s1", "s2", "s3"))
  .map((parts) => parts.join("/"));

/** An EndpointSlice of the given name, for any Service or none. */
export function slices(key: string): fc.Arbitrary<EndpointSlice> {
  return fc.record({
    service: fc.oneof({ weight: 7, arbitrary: names }, fc.constant("")),
    addressType: mostly("IPv4", "IPv6", "FQDN"),
    ports: fc.array(
      fc.record({
        name: portNames,
        protocol: protocols,
        port: mostly(8080, 53, 0),
      }),
      { minLength: 1, maxLength: 3 },
    ),
    endpoints: fc.array(endpoints, { maxLength: 4, size: "max" }),
  }).map((overrides) => slice(key, overrides));
}

/** The own Node or another one, with or without a zone. */
export const nodes: fc.Arbitrary<Node> = fc.record({
  name: mostly(OWN_NODE, "n2"),
  zone: fc.constantFrom("a", "b", "", undefined),
}).map(({ name, zone }) => node(name, zone === undefined ? {} : { zone }));

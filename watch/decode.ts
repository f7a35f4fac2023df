/**
 * Unknown JSON → the objects of types.ts: picks the fields that are read, fills
 * in the API's defaults (pkg/apis/core/v1/defaults.go, discovery/v1 types), so
 * that hand-written YAML and old servers mean the same as a current one, and
 * lets go of everything else. Addresses stay as they are spelt: what `010.0.0.1`
 * means is decided where addresses are compared.
 *
 * @module
 */
import {
  each,
  FieldError,
  type Fields,
  flag,
  inside,
  isFields,
  oneOf,
  someText,
  text,
  textRecord,
  texts,
  unfit,
  whole,
} from "./field_reader.ts";
import {
  type EndpointSlice,
  type EndpointSlicePort,
  type Node,
  type ObjectKey,
  objectKey,
  type ObjectMeta,
  type Protocol,
  type Service,
  type ServicePortSpec,
  type ServiceSpec,
  type SliceEndpoint,
  type Status,
} from "./types.ts";

/** An object is not what its kind should be; the message names both. */
export class DecodeError extends Error {
  override readonly name = "DecodeError";

  /** @param key whose object it is, if that could be read */
  constructor(message: string, readonly key: ObjectKey | undefined) {
    super(message);
  }
}

/** Seconds; `v1.DefaultClientIPServiceAffinitySeconds`. */
const DEFAULT_AFFINITY_SECONDS = 10_800;
const LONGEST_AFFINITY_SECONDS = 86_400;
const HIGHEST_PORT = 65_535;
const PROTOCOLS: readonly Protocol[] = ["TCP", "UDP", "SCTP"];
/** What `kubectl apply` leaves: the whole object once more, as text. */
const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/** @throws {DecodeError} */
export function decodeService(value: unknown): Service {
  return decode("Service", value, (from) => ({
    kind: "Service",
    metadata: inside(from, "metadata", (metadata) => decodeMeta(metadata)),
    spec: inside(from, "spec", decodeServiceSpec),
    status: inside(from, "status", (status) => ({
      loadBalancer: inside(status, "loadBalancer", decodeLoadBalancer),
    })),
  }));
}

/** @throws {DecodeError} */
export function decodeEndpointSlice(value: unknown): EndpointSlice {
  return decode("EndpointSlice", value, (from) => ({
    kind: "EndpointSlice",
    metadata: inside(from, "metadata", (metadata) => decodeMeta(metadata)),
    addressType: someText(from, "addressType"),
    ports: each(from, "ports", decodeSlicePort),
    endpoints: each(from, "endpoints", decodeEndpoint),
  }));
}

/** @throws {DecodeError} */
export function decodeNode(value: unknown): Node {
  return decode("Node", value, (from) => ({
    kind: "Node",
    metadata: inside(
      from,
      "metadata",
      (metadata) => decodeMeta(metadata, { clusterWide: true }),
    ),
    spec: inside(from, "spec", decodeNodeSpec),
    status: inside(from, "status", (status) => ({
      addresses: each(status, "addresses", (address) => ({
        type: text(address, "type"),
        address: text(address, "address"),
      })),
    })),
  }));
}

/**
 * Reads a Status as well as it can be read: it explains a failure, so it must
 * not become one.
 *
 * @param code what to take where the object has none
 */
export function decodeStatus(value: unknown, code = 0): Status {
  const from = isFields(value) ? value : {};
  const details = isFields(from.details) ? from.details : {};
  const seconds = details.retryAfterSeconds;
  return {
    kind: "Status",
    code: typeof from.code === "number" ? from.code : code,
    reason: typeof from.reason === "string" ? from.reason : "",
    message: typeof from.message === "string" ? from.message : "",
    ...(typeof seconds === "number" && seconds > 0
      ? { retryAfterSeconds: seconds }
      : {}),
  };
}

/** The key of an object that may not be readable otherwise. */
export function decodeKey(value: unknown): ObjectKey | undefined {
  const metadata = isFields(value) ? value.metadata : undefined;
  if (!isFields(metadata)) return undefined;
  const { name, namespace } = metadata;
  if (typeof name !== "string" || name === "") return undefined;
  return objectKey({
    name,
    namespace: typeof namespace === "string" ? namespace : "",
  });
}

/** The resourceVersion of an object, list or bookmark; empty if it has none. */
export function decodeVersion(value: unknown): string {
  const metadata = isFields(value) ? value.metadata : undefined;
  const version = isFields(metadata) ? metadata.resourceVersion : undefined;
  return typeof version === "string" ? version : "";
}

function decode<T>(kind: string, value: unknown, read: (from: Fields) => T): T {
  try {
    if (!isFields(value)) throw unfit("it", value, "an object");
    return read(value);
  } catch (error) {
    if (!(error instanceof FieldError)) throw error;
    const key = decodeKey(value);
    throw new DecodeError(
      `Cannot read ${kind} ${key ?? "without a name"}: ${error.message}`,
      key,
    );
  }
}

function decodeMeta(
  from: Fields,
  options: { readonly clusterWide?: boolean } = {},
): ObjectMeta {
  const { [LAST_APPLIED]: _, ...annotations } = textRecord(from, "annotations");
  const deletionTimestamp = text(from, "deletionTimestamp");
  return {
    name: someText(from, "name"),
    namespace: options.clusterWide ? "" : someText(from, "namespace"),
    uid: text(from, "uid"),
    resourceVersion: text(from, "resourceVersion"),
    creationTimestamp: text(from, "creationTimestamp"),
    ...(deletionTimestamp === "" ? {} : { deletionTimestamp }),
    labels: textRecord(from, "labels"),
    annotations,
  };
}

function decodeServiceSpec(from: Fields): ServiceSpec {
  const listed = texts(from, "clusterIPs");
  // The API server keeps the two equal; a hand-written file gives either.
  const clusterIP = text(from, "clusterIP") || (listed[0] ?? "");
  return {
    type: oneOf(from, "type", {
      words: ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
      missing: "ClusterIP",
    }),
    clusterIP,
    clusterIPs: listed.length > 0 || clusterIP === "" ? listed : [clusterIP],
    ipFamilies: ipFamilies(from),
    ports: each(from, "ports", decodeServicePort),
    externalIPs: texts(from, "externalIPs"),
    loadBalancerSourceRanges: texts(from, "loadBalancerSourceRanges"),
    // kube-proxy asks "is it Local", "is it ClientIP": a word it does not know
    // means the default, and so it does here.
    sessionAffinity: text(from, "sessionAffinity") === "ClientIP"
      ? "ClientIP"
      : "None",
    sessionAffinityTimeoutSeconds: inside(
      from,
      "sessionAffinityConfig",
      (config) => inside(config, "clientIP", decodeAffinitySeconds),
    ),
    internalTrafficPolicy: trafficPolicy(from, "internalTrafficPolicy"),
    externalTrafficPolicy: trafficPolicy(from, "externalTrafficPolicy"),
    healthCheckNodePort: whole(from, "healthCheckNodePort", {
      most: HIGHEST_PORT,
      missing: 0,
    }),
  };
}

function decodeAffinitySeconds(from: Fields): number {
  return whole(from, "timeoutSeconds", {
    most: LONGEST_AFFINITY_SECONDS,
    missing: DEFAULT_AFFINITY_SECONDS,
  });
}

function ipFamilies(from: Fields): readonly ("IPv4" | "IPv6")[] {
  return texts(from, "ipFamilies").map((family, index) => {
    if (family === "IPv4" || family === "IPv6") return family;
    throw unfit(`ipFamilies[${index}]`, family, "one of IPv4, IPv6");
  });
}

function trafficPolicy(from: Fields, field: string): "Cluster" | "Local" {
  return text(from, field) === "Local" ? "Local" : "Cluster";
}

function decodeServicePort(from: Fields): ServicePortSpec {
  return {
    name: text(from, "name"),
    protocol: oneOf(from, "protocol", { words: PROTOCOLS, missing: "TCP" }),
    port: whole(from, "port", { most: HIGHEST_PORT }),
    nodePort: whole(from, "nodePort", { most: HIGHEST_PORT, missing: 0 }),
  };
}

function decodeLoadBalancer(from: Fields): Service["status"]["loadBalancer"] {
  return {
    ingress: each(from, "ingress", (entry) => ({
      ip: text(entry, "ip"),
      ipMode: text(entry, "ipMode", "VIP") === "VIP" ? "VIP" : "Proxy",
    })),
  };
}

function decodeSlicePort(from: Fields): EndpointSlicePort {
  const port = whole(from, "port", { most: HIGHEST_PORT, missing: 0 });
  return {
    name: text(from, "name"),
    protocol: oneOf(from, "protocol", { words: PROTOCOLS, missing: "TCP" }),
    ...(port === 0 ? {} : { port }),
  };
}

function decodeEndpoint(from: Fields): SliceEndpoint {
  return {
    addresses: texts(from, "addresses"),
    conditions: inside(from, "conditions", (conditions) => ({
      ready: flag(conditions, "ready", true),
      serving: flag(conditions, "serving", true),
      terminating: flag(conditions, "terminating", false),
    })),
    nodeName: text(from, "nodeName"),
    hints: inside(from, "hints", (hints) => ({
      forZones: each(hints, "forZones", (zone) => text(zone, "name")),
      forNodes: each(hints, "forNodes", (node) => text(node, "name")),
    })),
  };
}

function decodeNodeSpec(from: Fields): Node["spec"] {
  const listed = texts(from, "podCIDRs");
  const only = text(from, "podCIDR");
  return {
    podCIDRs: listed.length > 0 || only === "" ? listed : [only],
    taints: each(from, "taints", (taint) => ({ key: text(taint, "key") })),
  };
}

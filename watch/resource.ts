/**
 * What can be listed and watched, as data: where it is, which of its objects
 * are asked for, and how one is read. The reflector and the poller work on any
 * of these and know none.
 *
 * The selectors are kube-proxy's (cmd/kube-proxy/app/server.go, 1.36). What a
 * selector leaves out is left out once more on arrival, by `selects`: YAML files
 * have no API server in front, and servers before 1.31 do not know
 * `spec.clusterIP` as a field to select by.
 *
 * @module
 */
import { decodeEndpointSlice, decodeNode, decodeService } from "./decode.ts";
import type {
  ClusterObject,
  EndpointSlice,
  Node,
  ObjectMeta,
  Service,
} from "./types.ts";

export interface Resource<T extends ClusterObject> {
  /** Plural, as in URLs and in logs: `services`. */
  readonly name: string;
  readonly kind: T["kind"];
  /** As objects say it: `v1`, `discovery.k8s.io/v1`. */
  readonly apiVersion: string;
  /** Absolute path of the list over all namespaces. */
  readonly path: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /**
   * Ask without the field selector where the server refuses it with 400: then
   * `selects` alone decides.
   */
  readonly fieldSelectorOptional?: boolean;
  /** A server that does not have this resource (404) has none of its objects. */
  readonly optional?: boolean;
  /** @throws {DecodeError} */
  readonly decode: (value: unknown) => T;
  /** What the selectors say, of an object that is here. */
  readonly selects: (object: T) => boolean;
}

const PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name";
const HEADLESS_LABEL = "service.kubernetes.io/headless";

/** Services, but for headless ones and those of another proxy. */
export const SERVICES: Resource<Service> = {
  name: "services",
  kind: "Service",
  apiVersion: "v1",
  path: "/api/v1/services",
  labelSelector: `!${PROXY_NAME_LABEL}`,
  fieldSelector: "spec.clusterIP!=None",
  fieldSelectorOptional: true,
  decode: decodeService,
  selects: ({ metadata, spec }) =>
    !hasLabel(metadata, PROXY_NAME_LABEL) && spec.clusterIP !== "None",
};

/** EndpointSlices, but for those of headless Services. */
export const ENDPOINT_SLICES: Resource<EndpointSlice> = {
  name: "endpointslices",
  kind: "EndpointSlice",
  apiVersion: "discovery.k8s.io/v1",
  path: "/apis/discovery.k8s.io/v1/endpointslices",
  labelSelector: `!${HEADLESS_LABEL}`,
  decode: decodeEndpointSlice,
  selects: ({ metadata }) => !hasLabel(metadata, HEADLESS_LABEL),
};

/** The one Node of this name: a list of one object, or of none. */
export function nodeNamed(name: string): Resource<Node> {
  return {
    name: "nodes",
    kind: "Node",
    apiVersion: "v1",
    path: "/api/v1/nodes",
    fieldSelector: `metadata.name=${name}`,
    decode: decodeNode,
    selects: ({ metadata }) => metadata.name === name,
  };
}

function hasLabel(metadata: ObjectMeta, label: string): boolean {
  return Object.hasOwn(metadata.labels, label);
}

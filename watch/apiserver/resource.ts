/**
 * What the server has to know of a resource to serve it. The store, the
 * requests, watches, patches and tables work on any `ResourceDefinition`;
 * what is particular about Services or Nodes is in that resource's own file.
 *
 * @module
 */
import type { ObjectSchema } from "./schema.ts";
import type { FieldError, ResourceName } from "./status.ts";

/** An object as it is stored and sent: complete, as it was given. */
export interface KubeObject {
  kind: string;
  apiVersion: string;
  metadata: KubeMetadata;
  [field: string]: unknown;
}

export interface KubeMetadata {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  [field: string]: unknown;
}

/** What the server adds to an object that is to be written. */
export interface Admission {
  /** What is stored now; `undefined` when the object is new. */
  readonly previous: KubeObject | undefined;
}

/** One column of `kubectl get`. */
export interface Column {
  readonly name: string;
  readonly type?: "string" | "integer";
  /** Shown with `-o wide` only. */
  readonly wide?: true;
  /** @param nowMs milliseconds since 1970, for ages */
  cell(object: KubeObject, nowMs: number): string | number;
}

export interface ResourceDefinition extends ResourceName {
  readonly version: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
  readonly schema: ObjectSchema;
  /** There is a `/status` of its own, and writing the object leaves it alone. */
  readonly hasStatus: boolean;
  /** A status given when the object is created is dropped. */
  readonly createsWithoutStatus?: true;
  /** metadata.generation counts the changes outside of metadata. */
  readonly hasGeneration?: true;
  /** PUT of a missing object creates it. */
  readonly createsOnUpdate?: true;
  /** DELETE answers with the object, not with a Status. */
  readonly returnsDeleted?: true;
  /** More of them push out the oldest. */
  readonly maxObjects?: number;
  /** What a name may be. */
  readonly nameRule: "label" | "label1035" | "subdomain";
  readonly columns: readonly Column[];
  /** What the real server's empty object has beside metadata: bookmarks. */
  readonly emptyFields: Readonly<Record<string, unknown>>;
  /** Values a field selector can ask for beside metadata.name and namespace. */
  fields(object: KubeObject): Readonly<Record<string, string>>;
  /** Fills in what was left out. Changes the object. */
  setDefaults(object: KubeObject, admission: Admission): void;
  validate(object: KubeObject, admission: Admission): FieldError[];
  /** Gives out addresses and ports, once all is valid. Changes the object. */
  allocate?(object: KubeObject, admission: Admission): FieldError[];
  /** The write took place (`next` undefined: it is deleted). */
  written?(
    previous: KubeObject | undefined,
    next: KubeObject | undefined,
  ): void;
  /** Why this object can't be deleted, after "is forbidden: ". */
  refusesDelete?(object: KubeObject): string | undefined;
}

/** The verbs of a resource that takes every kind of request. */
export const ALL_VERBS: readonly string[] = [
  "create",
  "delete",
  "deletecollection",
  "get",
  "list",
  "patch",
  "update",
  "watch",
];

/** `v1`, `discovery.k8s.io/v1`. */
export function apiVersion(
  definition: Pick<ResourceDefinition, "group" | "version">,
): string {
  return definition.group === ""
    ? definition.version
    : `${definition.group}/${definition.version}`;
}

/** Where a resource is kept in the store: `default/web`, or `node-1`. */
export function storeKey(metadata: {
  readonly namespace?: string;
  readonly name: string;
}): string {
  return metadata.namespace === undefined || metadata.namespace === ""
    ? metadata.name
    : `${metadata.namespace}/${metadata.name}`;
}

/** A field that holds an object; an empty one where it does not. */
export function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Record<string, unknown>
    : {};
}

/** A field that holds a list of objects. */
export function records(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.map(record) : [];
}

/** A field that holds a list of strings. */
export function texts(value: unknown): string[] {
  return Array.isArray(value)
    ? value.filter((item) => typeof item === "string")
    : [];
}

/** A field that holds a string; empty where it does not. */
export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

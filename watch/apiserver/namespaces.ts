/**
 * Namespaces: there so that `kubectl -n` works. One comes into being with the
 * first object in it, and takes its objects along when it is deleted.
 *
 * @module
 */
import { ageCell } from "./columns.ts";
import {
  ALL_VERBS,
  record,
  type ResourceDefinition,
  text,
} from "./resource.ts";
import { any, kubeObject, list, object, string, strings } from "./schema.ts";

/** These can't be deleted, and are there from the start. */
export const FIXED_NAMESPACES: readonly string[] = ["default", "kube-system"];

export const namespaces: ResourceDefinition = {
  group: "",
  version: "v1",
  plural: "namespaces",
  singular: "namespace",
  kind: "Namespace",
  shortNames: ["ns"],
  namespaced: false,
  verbs: ALL_VERBS.filter((verb) => verb !== "deletecollection"),
  schema: kubeObject({
    spec: object({ finalizers: strings }),
    status: object({
      phase: string,
      conditions: list(any, { mergeKey: "type" }),
    }),
  }),
  hasStatus: true,
  createsWithoutStatus: true,
  nameRule: "label",
  emptyFields: { spec: {}, status: {} },
  fields: ({ status }) => ({ "status.phase": text(record(status).phase) }),
  setDefaults(namespace) {
    const { metadata } = namespace;
    metadata.labels = {
      ...metadata.labels,
      "kubernetes.io/metadata.name": metadata.name,
    };
    namespace.spec = record(namespace.spec);
    namespace.status = { phase: "Active", ...record(namespace.status) };
  },
  validate: () => [],
  refusesDelete: ({ metadata }) =>
    FIXED_NAMESPACES.includes(metadata.name)
      ? "this namespace may not be deleted"
      : undefined,
  columns: [
    { name: "Name", cell: (namespace) => namespace.metadata.name },
    { name: "Status", cell: ({ status }) => text(record(status).phase) },
    { name: "Age", cell: ageCell },
  ],
};

/**
 * Pods: there are none, and none can be made. kubectl asks for them when it
 * describes a Node, and fails where there is no such resource.
 *
 * @module
 */
import { ageCell } from "./columns.ts";
import { record, type ResourceDefinition, text } from "./resource.ts";
import { kubeObject } from "./schema.ts";

export const pods: ResourceDefinition = {
  group: "",
  version: "v1",
  plural: "pods",
  singular: "pod",
  kind: "Pod",
  shortNames: ["po"],
  namespaced: true,
  verbs: ["get", "list", "watch"],
  schema: kubeObject({}),
  hasStatus: false,
  nameRule: "subdomain",
  emptyFields: { spec: { containers: null }, status: {} },
  fields: ({ spec, status }) => ({
    "spec.nodeName": text(record(spec).nodeName),
    "status.phase": text(record(status).phase),
  }),
  setDefaults: () => {},
  validate: () => [],
  columns: [
    { name: "Name", cell: (pod) => pod.metadata.name },
    { name: "Age", cell: ageCell },
  ],
};

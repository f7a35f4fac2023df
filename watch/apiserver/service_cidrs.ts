/**
 * ServiceCIDRs: one object, `kubernetes`, that tells which CIDRs the server
 * hands out ClusterIPs from. It is made at start, and only read.
 *
 * @module
 */
import { ageCell } from "./columns.ts";
import { record, type ResourceDefinition, texts } from "./resource.ts";
import { any, kubeObject, list, object, strings } from "./schema.ts";

export const serviceCIDRs: ResourceDefinition = {
  group: "networking.k8s.io",
  version: "v1",
  plural: "servicecidrs",
  singular: "servicecidr",
  kind: "ServiceCIDR",
  shortNames: [],
  namespaced: false,
  verbs: ["get", "list", "watch"],
  schema: kubeObject({
    spec: object({ cidrs: strings }),
    status: object({ conditions: list(any, { mergeKey: "type" }) }),
  }),
  hasStatus: false,
  nameRule: "subdomain",
  emptyFields: { spec: {}, status: {} },
  fields: () => ({}),
  setDefaults: () => {},
  validate: () => [],
  columns: [
    { name: "Name", cell: (cidr) => cidr.metadata.name },
    {
      name: "CIDRs",
      cell: ({ spec }) => texts(record(spec).cidrs).join(","),
    },
    { name: "Age", cell: ageCell },
  ],
};

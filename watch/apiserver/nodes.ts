/**
 * Nodes: their fields, defaults, what is valid as far as a proxy cares (pod
 * CIDRs and addresses; pkg/apis/core/validation), and their row in `kubectl
 * get`. Unlike a real cluster's they are only what somebody wrote: no kubelet
 * reports, so nothing turns one NotReady.
 *
 * @module
 */
import { isCIDR } from "./addresses.ts";
import { ageCell } from "./columns.ts";
import {
  type Admission,
  ALL_VERBS,
  type KubeObject,
  record,
  records,
  type ResourceDefinition,
  text,
  texts,
} from "./resource.ts";
import {
  any,
  boolean,
  kubeObject,
  list,
  object,
  string,
  stringMap,
} from "./schema.ts";
import { type FieldError, fieldError } from "./status.ts";

const { invalid, forbidden, required } = fieldError;
const ROLE_LABEL = "node-role.kubernetes.io/";

const schema = kubeObject({
  spec: object({
    podCIDR: string,
    podCIDRs: list(string, { isSet: true }),
    providerID: string,
    unschedulable: boolean,
    taints: list(object({
      key: string,
      value: string,
      effect: string,
      timeAdded: string,
    })),
    configSource: any,
    externalID: string,
  }),
  status: object({
    capacity: any,
    allocatable: any,
    phase: string,
    conditions: list(any, { mergeKey: "type" }),
    addresses: list(object({ type: string, address: string }), {
      mergeKey: "type",
    }),
    daemonEndpoints: any,
    nodeInfo: stringMap,
    images: list(any),
    volumesInUse: list(any),
    volumesAttached: list(any),
    config: any,
    runtimeHandlers: list(any),
    features: any,
    declaredFeatures: list(any),
  }),
});

export const nodes: ResourceDefinition = {
  group: "",
  version: "v1",
  plural: "nodes",
  singular: "node",
  kind: "Node",
  shortNames: ["no"],
  namespaced: false,
  verbs: ALL_VERBS,
  schema,
  hasStatus: true,
  nameRule: "subdomain",
  emptyFields: { spec: {}, status: {} },
  fields: ({ spec }) => ({
    "spec.unschedulable": String(record(spec).unschedulable === true),
  }),
  setDefaults,
  validate,
  columns: [
    { name: "Name", cell: (node) => node.metadata.name },
    { name: "Status", cell: statusCell },
    { name: "Roles", cell: rolesCell },
    { name: "Age", cell: ageCell },
    { name: "Version", cell: (node) => info(node, "kubeletVersion") },
    { name: "Internal-IP", wide: true, cell: (node) => ip(node, "InternalIP") },
    { name: "External-IP", wide: true, cell: (node) => ip(node, "ExternalIP") },
    {
      name: "OS-Image",
      wide: true,
      cell: (node) => info(node, "osImage") || "<unknown>",
    },
    {
      name: "Kernel-Version",
      wide: true,
      cell: (node) => info(node, "kernelVersion") || "<unknown>",
    },
    {
      name: "Container-Runtime",
      wide: true,
      cell: (node) => info(node, "containerRuntimeVersion") || "<unknown>",
    },
  ],
};

function setDefaults(node: KubeObject): void {
  const spec = record(node.spec);
  node.spec = spec;
  node.status = record(node.status);
  const cidrs = texts(spec.podCIDRs);
  if (text(spec.podCIDR) !== "" && cidrs.length === 0) {
    spec.podCIDRs = [spec.podCIDR];
  } else if (cidrs[0] !== undefined) {
    spec.podCIDR ??= cidrs[0];
  }
}

function validate(node: KubeObject, { previous }: Admission): FieldError[] {
  const spec = record(node.spec);
  const errors: FieldError[] = [];
  const cidrs = texts(spec.podCIDRs);
  for (const [index, cidr] of cidrs.entries()) {
    if (isCIDR(cidr)) continue;
    const why =
      "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    errors.push(invalid(`spec.podCIDRs[${index}]`, cidr, why));
  }
  if (cidrs.length > 0 && cidrs[0] !== spec.podCIDR) {
    const why = "first value must match `podCIDR`";
    errors.push(invalid("spec.podCIDRs", cidrs, why));
  }
  const before = texts(record(previous?.spec).podCIDRs);
  if (before.length > 0 && before.join() !== cidrs.join()) {
    const why = 'node updates may not change podCIDR except from "" to valid';
    errors.push(forbidden("spec.podCIDRs", why));
  }
  for (const [index, taint] of records(spec.taints).entries()) {
    if (text(taint.key) === "") {
      errors.push(required(`spec.taints[${index}].key`));
    }
  }
  return errors;
}

function statusCell({ spec, status }: KubeObject): string {
  const ready = records(record(status).conditions)
    .find((condition) => condition.type === "Ready");
  const word = ready === undefined
    ? "Unknown"
    : ready.status === "True"
    ? "Ready"
    : "NotReady";
  return record(spec).unschedulable === true
    ? `${word},SchedulingDisabled`
    : word;
}

function rolesCell({ metadata }: KubeObject): string {
  const labels = metadata.labels ?? {};
  const roles = Object.keys(labels).filter((key) => key.startsWith(ROLE_LABEL))
    .map((key) => key.slice(ROLE_LABEL.length)).sort();
  return roles.join(",") || "<none>";
}

function info({ status }: KubeObject, name: string): string {
  return text(record(record(status).nodeInfo)[name]);
}

function ip({ status }: KubeObject, type: string): string {
  const address = records(record(status).addresses)
    .find((address) => address.type === type);
  return text(address?.address) || "<none>";
}

/**
 * Events (core/v1): what the proxy reports about a Service, and `kubectl
 * describe` shows below it. Only the latest are kept.
 *
 * @module
 */
import { sinceCell } from "./columns.ts";
import {
  ALL_VERBS,
  type KubeObject,
  record,
  type ResourceDefinition,
  text,
} from "./resource.ts";
import { any, integer, kubeObject, object, string } from "./schema.ts";
import { fieldError } from "./status.ts";

const MAX_EVENTS = 1000;

export const events: ResourceDefinition = {
  group: "",
  version: "v1",
  plural: "events",
  singular: "event",
  kind: "Event",
  shortNames: ["ev"],
  namespaced: true,
  verbs: ALL_VERBS,
  schema: kubeObject({
    involvedObject: object({
      kind: string,
      namespace: string,
      name: string,
      uid: string,
      apiVersion: string,
      resourceVersion: string,
      fieldPath: string,
    }),
    reason: string,
    message: string,
    source: object({ component: string, host: string }),
    firstTimestamp: string,
    lastTimestamp: string,
    count: integer,
    type: string,
    eventTime: string,
    series: any,
    action: string,
    related: any,
    reportingComponent: string,
    reportingInstance: string,
  }),
  hasStatus: false,
  createsOnUpdate: true,
  maxObjects: MAX_EVENTS,
  nameRule: "subdomain",
  emptyFields: { involvedObject: {}, source: {} },
  fields,
  setDefaults(event) {
    event.involvedObject = record(event.involvedObject);
    event.source = record(event.source);
  },
  validate(event) {
    const { namespace } = record(event.involvedObject);
    const wanted = text(namespace) || "default";
    return wanted === event.metadata.namespace ? [] : [
      fieldError.invalid(
        "involvedObject.namespace",
        text(namespace),
        "does not match event.namespace",
      ),
    ];
  },
  columns: [
    {
      name: "Last Seen",
      cell: (event, nowMs) => sinceCell(lastSeen(event), nowMs),
    },
    { name: "Type", cell: (event) => text(event.type) },
    { name: "Reason", cell: (event) => text(event.reason) },
    { name: "Object", cell: objectCell },
    {
      name: "Subobject",
      wide: true,
      cell: (event) => text(record(event.involvedObject).fieldPath),
    },
    { name: "Source", wide: true, cell: component },
    { name: "Message", cell: (event) => text(event.message).trim() },
    {
      name: "First Seen",
      wide: true,
      cell: (event, nowMs) =>
        sinceCell(event.firstTimestamp ?? event.eventTime, nowMs),
    },
    {
      name: "Count",
      wide: true,
      type: "integer",
      cell: (event) => typeof event.count === "number" ? event.count : 1,
    },
    { name: "Name", wide: true, cell: (event) => event.metadata.name },
  ],
};

function fields(event: KubeObject): Record<string, string> {
  const involved = record(event.involvedObject);
  const result: Record<string, string> = {
    reason: text(event.reason),
    type: text(event.type),
    source: component(event),
    reportingComponent: text(event.reportingComponent),
  };
  for (
    const name of [
      "kind",
      "namespace",
      "name",
      "uid",
      "apiVersion",
      "resourceVersion",
      "fieldPath",
    ]
  ) result[`involvedObject.${name}`] = text(involved[name]);
  return result;
}

function component(event: KubeObject): string {
  return text(record(event.source).component) || text(event.reportingComponent);
}

function lastSeen(event: KubeObject): unknown {
  return record(event.series).lastObservedTime ?? event.lastTimestamp ??
    event.eventTime ?? event.metadata.creationTimestamp;
}

function objectCell(event: KubeObject): string {
  const { kind, name } = record(event.involvedObject);
  return `${text(kind).toLowerCase()}/${text(name)}`;
}

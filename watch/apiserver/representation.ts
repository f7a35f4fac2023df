/**
 * The forms an answer can take, by the request's Accept header: objects as
 * they are, the rows `kubectl get` prints, or their metadata alone; in JSON
 * or YAML. Content goes in as objects and comes out as a value to write.
 *
 * @module
 */
import type { Column, KubeObject, ResourceDefinition } from "./resource.ts";
import { apiVersion } from "./resource.ts";
import { notAcceptable } from "./status.ts";

export interface Representation {
  readonly format: "json" | "yaml";
  readonly as: "Object" | "Table" | "PartialObjectMetadata";
  /** Of the form, not of the objects: `v1` or `v1beta1`. */
  readonly version: string;
  /** What a Table's rows carry beside their cells. */
  readonly include: "None" | "Metadata" | "Object";
}

export interface ListMetadata {
  resourceVersion: string;
  continue?: string;
  remainingItemCount?: number;
}

/**
 * The first of the accepted forms that can be given.
 *
 * @param accept the header; an empty one accepts everything
 * @throws {StatusError} 406
 */
export function representationOf(
  accept: string,
  query: URLSearchParams,
): Representation {
  const include = query.get("includeObject");
  const base: Representation = {
    format: "json",
    as: "Object",
    version: "v1",
    include: include === "None" || include === "Object" ? include : "Metadata",
  };
  if (accept.trim() === "") return base;
  for (const clause of accept.split(",")) {
    const [type = "", ...parameters] = clause.trim().split(";");
    const format = formatOf(type.trim().toLowerCase());
    if (format === undefined) continue;
    const values = new Map(parameters.map((parameter) => {
      const [name = "", value = ""] = parameter.trim().split("=");
      return [name.toLowerCase(), value] as const;
    }));
    const as = (values.get("as") ?? "Object").replace(/List$/, "");
    if (as === "Object") return { ...base, format };
    const version = values.get("v") ?? "v1";
    const known = values.get("g") === "meta.k8s.io" &&
      (version === "v1" || version === "v1beta1");
    if (known && (as === "Table" || as === "PartialObjectMetadata")) {
      return { ...base, format, as, version };
    }
  }
  throw notAcceptable();
}

function formatOf(type: string): "json" | "yaml" | undefined {
  switch (type) {
    case "application/json":
    case "application/*":
    case "*/*":
      return "json";
    case "application/yaml":
      return "yaml";
    default:
      return undefined;
  }
}

/** One object, in the form that was asked for. */
export function oneOf(
  object: KubeObject,
  definition: ResourceDefinition,
  form: Representation,
  nowMs: number,
): unknown {
  if (form.as === "Object") return object;
  if (form.as === "PartialObjectMetadata") return partial(object, form.version);
  const { resourceVersion } = object.metadata;
  const metadata = resourceVersion === undefined ? {} : { resourceVersion };
  return table([object], definition, form, { metadata, nowMs });
}

/** A list of objects, in the form that was asked for. */
export function listOf(
  objects: readonly KubeObject[],
  definition: ResourceDefinition,
  form: Representation,
  options: { metadata: ListMetadata; nowMs: number },
): unknown {
  const { metadata } = options;
  if (form.as === "Table") return table(objects, definition, form, options);
  if (form.as === "PartialObjectMetadata") {
    return {
      kind: "PartialObjectMetadataList",
      apiVersion: `meta.k8s.io/${form.version}`,
      metadata,
      items: objects.map((object) => partial(object, form.version)),
    };
  }
  return {
    kind: `${definition.kind}List`,
    apiVersion: apiVersion(definition),
    metadata,
    items: objects.map(withoutType),
  };
}

/** Items of a list say neither kind nor apiVersion: the list does. */
function withoutType(object: KubeObject): Partial<KubeObject> {
  const { kind: _kind, apiVersion: _version, ...rest } = object;
  return rest;
}

function partial(object: KubeObject, version: string) {
  return {
    kind: "PartialObjectMetadata",
    apiVersion: `meta.k8s.io/${version}`,
    metadata: object.metadata,
  };
}

function table(
  objects: readonly KubeObject[],
  definition: ResourceDefinition,
  form: Representation,
  options: { metadata: Partial<ListMetadata>; nowMs: number },
) {
  return {
    kind: "Table",
    apiVersion: `meta.k8s.io/${form.version}`,
    metadata: options.metadata,
    columnDefinitions: definition.columns.map(columnDefinition),
    rows: objects.map((object) => ({
      cells: definition.columns.map((column) =>
        column.cell(object, options.nowMs)
      ),
      ...(form.include === "None" ? {} : {
        object: form.include === "Object"
          ? object
          : partial(object, form.version),
      }),
    })),
  };
}

function columnDefinition(column: Column) {
  return {
    name: column.name,
    type: column.type ?? "string",
    format: column.name === "Name" ? "name" : "",
    description: "",
    priority: column.wide ? 1 : 0,
  };
}

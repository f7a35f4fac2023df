/**
 * The shape of the API's objects: which fields there are, of which type, and
 * how a strategic merge treats their lists. One description serves decoding
 * (a wrong type is a 400), strict field validation (an unknown field is named,
 * but kept) and patching. It knows nothing of what values are sensible.
 *
 * @module
 */
import { badRequest } from "./status.ts";

export type Schema =
  | { readonly type: "string" | "boolean" | "integer" | "intOrString" | "any" }
  | { readonly type: "map"; readonly values: Schema }
  | ObjectSchema
  | ListSchema;

export interface ObjectSchema {
  readonly type: "object";
  readonly fields: Readonly<Record<string, Schema>>;
}

export interface ListSchema {
  readonly type: "list";
  readonly items: Schema;
  /** Go's `patchMergeKey`: items with the same value of it are the same item. */
  readonly mergeKey?: string;
  /** Go's `patchStrategy: merge` on plain values: the list is a set. */
  readonly isSet?: true;
  /** `x-kubernetes-list-map-keys`, where server-side apply has more keys. */
  readonly applyKeys?: readonly string[];
}

export const string: Schema = { type: "string" };
export const boolean: Schema = { type: "boolean" };
export const integer: Schema = { type: "integer" };
export const intOrString: Schema = { type: "intOrString" };
export const any: Schema = { type: "any" };
export const strings: Schema = { type: "list", items: string };
export const stringMap: Schema = { type: "map", values: string };

export function object(fields: Readonly<Record<string, Schema>>): ObjectSchema {
  return { type: "object", fields };
}

export function list(
  items: Schema,
  options: Omit<ListSchema, "type" | "items"> = {},
): ListSchema {
  return { type: "list", items, ...options };
}

/** metadata of every object, in the order the real server writes it. */
const metadata = object({
  name: string,
  generateName: string,
  namespace: string,
  selfLink: string,
  uid: string,
  resourceVersion: string,
  generation: integer,
  creationTimestamp: string,
  deletionTimestamp: string,
  deletionGracePeriodSeconds: integer,
  labels: stringMap,
  annotations: stringMap,
  ownerReferences: list(
    object({
      apiVersion: string,
      kind: string,
      name: string,
      uid: string,
      controller: boolean,
      blockOwnerDeletion: boolean,
    }),
    { mergeKey: "uid" },
  ),
  finalizers: list(string, { isSet: true }),
  managedFields: list(any),
});

/** A whole object: `kind`, `apiVersion`, `metadata` and what is its own. */
export function kubeObject(
  fields: Readonly<Record<string, Schema>>,
): ObjectSchema {
  return object({ kind: string, apiVersion: string, metadata, ...fields });
}

export interface Decoded {
  readonly value: Record<string, unknown>;
  /** Paths of fields the schema does not know, as `spec.prots`. */
  readonly unknown: readonly string[];
}

/**
 * Copies a value into the schema's form: known fields first, in its order,
 * then unknown ones; fields that are `null` are gone, as in Go's decoding.
 *
 * @param value from JSON or YAML; it is not changed, and shares nothing with
 *   the result
 * @param kind for the message: `Service`
 * @throws {StatusError} 400, a field is of the wrong type
 */
export function decode(
  value: Readonly<Record<string, unknown>>,
  schema: ObjectSchema,
  options: { kind: string; version: string },
): Decoded {
  const decoder = new Decoder(options.kind, options.version);
  return {
    value: decoder.copyObject(value, schema, "", 0),
    unknown: decoder.unknown,
  };
}

const MAX_DEPTH = 100;
/** YAML aliases can make a large value of a few bytes; 3 MiB of JSON cannot. */
const MAX_VALUES = 2_000_000;

class Decoder {
  readonly unknown: string[] = [];
  #count = 0;

  constructor(readonly kind: string, readonly version: string) {}

  copyObject(
    value: Readonly<Record<string, unknown>>,
    schema: ObjectSchema,
    path: string,
    depth: number,
  ): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    for (const [name, field] of Object.entries(schema.fields)) {
      const item = Object.hasOwn(value, name) ? value[name] : undefined;
      if (item === undefined || item === null) continue;
      result[name] = this.#copy(item, field, join(path, name), depth + 1);
    }
    for (const name of Object.keys(value)) {
      if (Object.hasOwn(schema.fields, name)) continue;
      this.unknown.push(join(path, name));
      set(result, name, this.#any(value[name], depth + 1));
    }
    return result;
  }

  #copy(value: unknown, schema: Schema, path: string, depth: number): unknown {
    this.#guard(depth);
    switch (schema.type) {
      case "object":
        if (!isRecord(value)) throw this.#wrong(value, path, "an object");
        return this.copyObject(value, schema, path, depth);
      case "map":
        return this.#map(value, schema.values, path, depth);
      case "list":
        if (!Array.isArray(value)) throw this.#wrong(value, path, "a list");
        return value.map((item, index) =>
          item === null
            ? empty(schema.items)
            : this.#copy(item, schema.items, `${path}[${index}]`, depth + 1)
        );
      case "any":
        return this.#any(value, depth);
      case "intOrString":
        if (typeof value === "string" || isInt32(value)) return value;
        throw this.#wrong(value, path, "int32 or string");
      case "integer":
        if (isInteger(value)) return value;
        throw this.#wrong(value, path, "int32");
      case "boolean":
        if (typeof value === "boolean") return value;
        throw this.#wrong(value, path, "bool");
      case "string":
        if (typeof value === "string") return value;
        throw this.#wrong(value, path, "string");
    }
  }

  #map(value: unknown, values: Schema, path: string, depth: number) {
    if (!isRecord(value)) throw this.#wrong(value, path, "an object");
    const result: Record<string, unknown> = {};
    for (const [name, item] of Object.entries(value)) {
      const copy = item === null
        ? empty(values)
        : this.#copy(item, values, join(path, name), depth + 1);
      set(result, name, copy);
    }
    return result;
  }

  #any(value: unknown, depth: number): unknown {
    this.#guard(depth);
    if (Array.isArray(value)) {
      return value.map((item) => this.#any(item, depth + 1));
    }
    if (value instanceof Date) return value.toISOString(); // a YAML timestamp
    if (!isRecord(value)) return value;
    const result: Record<string, unknown> = {};
    for (const [name, item] of Object.entries(value)) {
      set(result, name, this.#any(item, depth + 1));
    }
    return result;
  }

  #guard(depth: number): void {
    if (depth > MAX_DEPTH || ++this.#count > MAX_VALUES) {
      throw badRequest("the object provided is too large or too deeply nested");
    }
  }

  #wrong(value: unknown, path: string, wanted: string) {
    const given = Array.isArray(value)
      ? "array"
      : isRecord(value)
      ? "object"
      : typeof value === "boolean"
      ? "bool"
      : typeof value === "number"
      ? `number ${value}`
      : typeof value;
    const field = path.replaceAll(/\[\d+\]/g, ""); // Go's has no index
    return badRequest(
      `${this.kind} in version "${this.version}" cannot be handled as a ${this.kind}: ` +
        `json: cannot unmarshal ${given} into Go struct field ${this.kind}.${field} of type ${wanted}`,
    );
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
    !(value instanceof Date);
}

/** As an own property even if it is `__proto__`. */
function set(target: Record<string, unknown>, name: string, value: unknown) {
  Object.defineProperty(target, name, {
    value,
    enumerable: true,
    writable: true,
    configurable: true,
  });
}

function join(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function isInteger(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value);
}

function isInt32(value: unknown): value is number {
  return isInteger(value) && value === (value | 0);
}

function empty(schema: Schema): unknown {
  switch (schema.type) {
    case "string":
      return "";
    case "list":
      return [];
    case "object":
    case "map":
      return {};
    default:
      return schema.type === "boolean" ? false : 0;
  }
}

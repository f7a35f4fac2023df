/**
 * From a request's body to an object of a resource: is it of that kind, do its
 * fields have the right types, and what about those nobody knows.
 *
 * @module
 */
import {
  apiVersion,
  type KubeObject,
  type ResourceDefinition,
} from "./resource.ts";
import { decode, isRecord } from "./schema.ts";
import { badRequest } from "./status.ts";

export interface DecodeOptions {
  /** What to do about unknown fields; they are kept in either case. */
  fieldValidation?: "Ignore" | "Warn" | "Strict";
  /** Takes what is to be told to the user. */
  warn?: (warning: string) => void;
}

/**
 * A request's body as an object of the resource, with kind, apiVersion and a
 * name (that may be empty).
 *
 * @throws {StatusError} 400, it is of another type, or of the wrong shape
 */
export function decodeObject(
  definition: ResourceDefinition,
  given: unknown,
  options: DecodeOptions,
): KubeObject {
  const version = apiVersion(definition);
  if (!isRecord(given)) {
    throw badRequest(
      `the object provided is unrecognized (must be of type ${definition.kind}): not an object`,
    );
  }
  checkType(definition, given, version);
  const { value, unknown } = decode(given, definition.schema, {
    kind: definition.kind,
    version: definition.version,
  });
  checkUnknown(definition, unknown, options);
  value.kind = definition.kind;
  value.apiVersion = version;
  value.metadata ??= {};
  const object = value as KubeObject;
  object.metadata.name ??= "";
  return object;
}

function checkUnknown(
  definition: ResourceDefinition,
  unknown: readonly string[],
  options: DecodeOptions,
): void {
  if (unknown.length === 0 || options.fieldValidation === "Ignore") return;
  const sentences = unknown.map((path) => `unknown field "${path}"`);
  if (options.fieldValidation === "Strict") {
    throw badRequest(
      `${definition.kind} in version "${definition.version}" cannot be handled as a ${definition.kind}: strict decoding error: ${
        sentences.join(", ")
      }`,
    );
  }
  for (const sentence of sentences) options.warn?.(sentence);
}

function checkType(
  definition: ResourceDefinition,
  given: Record<string, unknown>,
  version: string,
): void {
  const { kind, apiVersion: own } = given;
  if (own !== undefined && own !== null && own !== "" && own !== version) {
    throw badRequest(
      `the API version in the data (${own}) does not match the expected API version (${version})`,
    );
  }
  if (
    kind !== undefined && kind !== null && kind !== "" &&
    kind !== definition.kind
  ) {
    throw badRequest(
      `the object provided is unrecognized (must be of type ${definition.kind}): it is a ${kind}`,
    );
  }
}

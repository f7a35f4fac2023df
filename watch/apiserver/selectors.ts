/**
 * Which objects a list or a watch asked for: `labelSelector` and
 * `fieldSelector`, read from the query into one predicate.
 *
 * @module
 */
import type { KubeObject, ResourceDefinition } from "./resource.ts";
import { badRequest } from "./status.ts";

/** Is the object one of those that were asked for? */
export type Selector = (object: KubeObject) => boolean;

type Labels = Readonly<Record<string, string>>;

/**
 * @returns `undefined`: everything is asked for
 * @throws {StatusError} 400, one of them can't be read
 */
export function selectorOf(
  query: URLSearchParams,
  definition: ResourceDefinition,
): Selector | undefined {
  const labels = query.get("labelSelector")?.trim() ?? "";
  const fields = query.get("fieldSelector")?.trim() ?? "";
  if (labels === "" && fields === "") return undefined;
  const byLabel = labels === "" ? [] : labelRequirements(labels);
  const byField = fields === "" ? [] : fieldRequirements(fields, definition);
  return (object) => {
    const own = object.metadata.labels ?? {};
    if (!byLabel.every((matches) => matches(own))) return false;
    if (byField.length === 0) return true;
    const values: Labels = {
      "metadata.name": object.metadata.name,
      "metadata.namespace": object.metadata.namespace ?? "",
      ...definition.fields(object),
    };
    return byField.every((matches) => matches(values));
  };
}

const KEY = String
  .raw`(?:[A-Za-z0-9.-]+\/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?`;
const VALUE = String.raw`(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?`;
const EXISTS = new RegExp(`^(!?)\\s*(${KEY})$`);
const EQUALS = new RegExp(`^(${KEY})\\s*(==|=|!=)\\s*(${VALUE})$`);
const IN = new RegExp(`^(${KEY})\\s+(in|notin)\\s*\\(([^()]*)\\)$`);
const COMPARES = new RegExp(`^(${KEY})\\s*([<>])\\s*(-?\\d+)$`);

function labelRequirements(text: string) {
  // A comma inside brackets is a value's, not a requirement's.
  return text.split(/,(?![^(]*\))/).map((part) =>
    labelRequirement(part.trim())
  );
}

function labelRequirement(text: string): (labels: Labels) => boolean {
  const exists = EXISTS.exec(text);
  if (exists !== null) {
    const [, not, key = ""] = exists;
    return (labels) => Object.hasOwn(labels, key) === (not === "");
  }
  const equals = EQUALS.exec(text);
  if (equals !== null) {
    const [, key = "", operator, value = ""] = equals;
    return (labels) => (own(labels, key) === value) === (operator !== "!=");
  }
  const among = IN.exec(text);
  if (among !== null) {
    const [, key = "", operator, list = ""] = among;
    const values = new Set(list.split(",").map((value) => value.trim()));
    return (labels) => {
      const value = own(labels, key);
      return (value !== undefined && values.has(value)) === (operator === "in");
    };
  }
  const compares = COMPARES.exec(text);
  if (compares !== null) {
    const [, key = "", operator, limit] = compares;
    return (labels) => {
      const value = Number(own(labels, key) ?? NaN);
      return operator === "<" ? value < Number(limit) : value > Number(limit);
    };
  }
  throw badRequest(
    `unable to parse requirement: couldn't parse the selector string "${text}"`,
  );
}

function own(labels: Labels, key: string): string | undefined {
  return Object.hasOwn(labels, key) ? labels[key] : undefined;
}

function fieldRequirements(text: string, definition: ResourceDefinition) {
  const empty = {
    kind: "",
    apiVersion: "",
    metadata: { name: "", namespace: "" },
  };
  const known = new Set([
    "metadata.name",
    "metadata.namespace",
    ...Object.keys(definition.fields(empty)),
  ]);
  return text.split(",").map((part) => {
    const match = /^([^=!]+?)\s*(==|=|!=)(.*)$/.exec(part.trim());
    if (match === null) {
      throw badRequest(
        `invalid selector: '${text}'; can't understand '${part}'`,
      );
    }
    const [, field = "", operator, value = ""] = match;
    if (!known.has(field)) {
      throw badRequest(`field label not supported: ${field}`);
    }
    return (values: Labels) =>
      (values[field] === value) === (operator !== "!=");
  });
}

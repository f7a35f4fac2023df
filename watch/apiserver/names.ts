/**
 * What Kubernetes allows as a name, a label or an annotation, and the
 * sentences it answers with otherwise (apimachinery/pkg/util/validation).
 *
 * @module
 */
import type { KubeMetadata, ResourceDefinition } from "./resource.ts";
import { type FieldError, fieldError } from "./status.ts";

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const LABEL_1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN =
  /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED_NAME = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const PORT_NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;

const LABEL_TEXT =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035_TEXT =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_TEXT =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED_TEXT =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_TEXT =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

type Rule = ResourceDefinition["nameRule"];

const RULES: Readonly<Record<Rule, readonly [RegExp, number, string]>> = {
  label: [LABEL, 63, LABEL_TEXT],
  label1035: [LABEL_1035, 63, LABEL_1035_TEXT],
  subdomain: [SUBDOMAIN, 253, SUBDOMAIN_TEXT],
};

/** Errors of a name by one of the rules. */
export function nameErrors(
  field: string,
  name: string,
  rule: Rule,
): FieldError[] {
  const [pattern, length, sentence] = RULES[rule];
  return checked(field, name, pattern, length, sentence);
}

/** `http`, `dns-tcp`: a port's name as a container port has it. */
export function isPortName(name: string): boolean {
  return name.length <= 15 && PORT_NAME.test(name) && /[a-z]/.test(name) &&
    !name.includes("--");
}

/** Errors in the parts of metadata that every object has. */
export function metadataErrors(
  metadata: KubeMetadata,
  definition: Pick<ResourceDefinition, "nameRule">,
): FieldError[] {
  const errors = metadata.name === ""
    ? [fieldError.required("metadata.name", "name or generateName is required")]
    : nameErrors("metadata.name", metadata.name, definition.nameRule);
  if (metadata.namespace !== undefined && metadata.namespace !== "") {
    errors.push(
      ...nameErrors("metadata.namespace", metadata.namespace, "label"),
    );
  }
  for (const [key, value] of Object.entries(metadata.labels ?? {})) {
    errors.push(...keyErrors("metadata.labels", key));
    errors.push(
      ...checked("metadata.labels", value, LABEL_VALUE, 63, LABEL_VALUE_TEXT),
    );
  }
  for (const key of Object.keys(metadata.annotations ?? {})) {
    errors.push(...keyErrors("metadata.annotations", key.toLowerCase()));
  }
  return errors;
}

/** `example.com/name`: an optional subdomain, and a name. */
function keyErrors(field: string, key: string): FieldError[] {
  const slash = key.indexOf("/");
  const prefix = slash < 0 ? undefined : key.slice(0, slash);
  const name = key.slice(slash + 1);
  if (prefix !== undefined && !SUBDOMAIN.test(prefix)) {
    return [
      fieldError.invalid(field, key, `prefix part ${SUBDOMAIN_TEXT}`),
    ];
  }
  if (name.length > 63) {
    const why = "name part must be no more than 63 characters";
    return [fieldError.invalid(field, key, why)];
  }
  return QUALIFIED_NAME.test(name)
    ? []
    : [fieldError.invalid(field, key, QUALIFIED_TEXT)];
}

function checked(
  field: string,
  value: string,
  pattern: RegExp,
  length: number,
  sentence: string,
): FieldError[] {
  const errors: FieldError[] = [];
  if (value.length > length) {
    const why = `must be no more than ${length} characters`;
    errors.push(fieldError.invalid(field, value, why));
  }
  if (!pattern.test(value)) {
    errors.push(fieldError.invalid(field, value, sentence));
  }
  return errors;
}

/**
 * The API's own word for a refusal: meta/v1 Status, worded and shaped as
 * kube-apiserver's apimachinery/pkg/api/errors does, since kubectl prints it
 * as it is. Everything in this folder refuses by throwing a `StatusError`.
 *
 * @module
 */

/** Names a resource in messages: `services`, `endpointslices.discovery.k8s.io`. */
export interface ResourceName {
  readonly group: string;
  readonly plural: string;
  readonly kind: string;
}

/** One thing that is wrong with one field (apimachinery field.Error). */
export interface FieldError {
  /** Path as `spec.ports[0].port`. */
  readonly field: string;
  /** `FieldValueInvalid`, `FieldValueRequired` … */
  readonly reason: string;
  /** With the value in it: `Invalid value: 0: must be between …`. */
  readonly message: string;
}

export interface StatusBody {
  readonly kind: "Status";
  readonly apiVersion: "v1";
  readonly metadata: { readonly continue?: string };
  readonly status: "Failure";
  readonly message: string;
  readonly reason?: string;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly code: number;
}

export interface StatusOptions {
  reason?: string;
  details?: Readonly<Record<string, unknown>>;
  /** A token to go on with, although the one given has expired. */
  continue?: string;
  headers?: Readonly<Record<string, string>>;
}

/** Thrown to answer a request with a Status; nothing was changed. */
export class StatusError extends Error {
  override readonly name = "StatusError";
  readonly body: StatusBody;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: number, message: string, options: StatusOptions = {}) {
    super(message);
    this.headers = options.headers ?? {};
    this.body = {
      kind: "Status",
      apiVersion: "v1",
      metadata: options.continue === undefined
        ? {}
        : { continue: options.continue },
      status: "Failure",
      message,
      ...(options.reason === undefined ? {} : { reason: options.reason }),
      ...(options.details === undefined ? {} : { details: options.details }),
      code,
    };
  }

  get code(): number {
    return this.body.code;
  }
}

function qualified(resource: ResourceName): string {
  return resource.group === ""
    ? resource.plural
    : `${resource.plural}.${resource.group}`;
}

function details(resource: ResourceName, name: string, kind = resource.plural) {
  return {
    ...(name === "" ? {} : { name }),
    ...(resource.group === "" ? {} : { group: resource.group }),
    kind,
  };
}

export function notFound(resource: ResourceName, name: string): StatusError {
  return new StatusError(404, `${qualified(resource)} "${name}" not found`, {
    reason: "NotFound",
    details: details(resource, name),
  });
}

export function pathNotFound(): StatusError {
  return new StatusError(
    404,
    "the server could not find the requested resource",
    { reason: "NotFound", details: {} },
  );
}

export function alreadyExists(
  resource: ResourceName,
  name: string,
): StatusError {
  return new StatusError(
    409,
    `${qualified(resource)} "${name}" already exists`,
    { reason: "AlreadyExists", details: details(resource, name) },
  );
}

const MODIFIED =
  "the object has been modified; please apply your changes to the latest version and try again";

/** @param cause after the colon; by default, that the object was modified */
export function conflict(
  resource: ResourceName,
  name: string,
  cause = MODIFIED,
): StatusError {
  return new StatusError(
    409,
    `Operation cannot be fulfilled on ${
      qualified(resource)
    } "${name}": ${cause}`,
    { reason: "Conflict", details: details(resource, name) },
  );
}

/** 422; a single error stands alone in the message, several in brackets. */
export function invalid(
  resource: ResourceName,
  name: string,
  errors: readonly FieldError[],
): StatusError {
  const texts = errors.map((error) => `${error.field}: ${error.message}`);
  const kind = resource.group === ""
    ? resource.kind
    : `${resource.kind}.${resource.group}`;
  const list = texts.length === 1 ? texts[0] : `[${texts.join(", ")}]`;
  return new StatusError(422, `${kind} "${name}" is invalid: ${list}`, {
    reason: "Invalid",
    details: {
      ...details(resource, name, resource.kind),
      causes: errors.map(({ reason, message, field }) => ({
        reason,
        message,
        field,
      })),
    },
  });
}

export function forbidden(
  resource: ResourceName,
  name: string,
  cause: string,
): StatusError {
  return new StatusError(
    403,
    `${qualified(resource)} "${name}" is forbidden: ${cause}`,
    { reason: "Forbidden", details: details(resource, name) },
  );
}

export function badRequest(message: string): StatusError {
  return new StatusError(400, message, { reason: "BadRequest" });
}

export function expired(message: string, options: StatusOptions = {}) {
  return new StatusError(410, message, { ...options, reason: "Expired" });
}

export function methodNotAllowed(): StatusError {
  return new StatusError(
    405,
    "the server does not allow this method on the requested resource",
    { reason: "MethodNotAllowed", details: {} },
  );
}

export function unsupportedMediaType(accepted: readonly string[]) {
  return new StatusError(
    415,
    "the body of the request was in an unknown format - accepted media types include: " +
      accepted.join(", "),
    { reason: "UnsupportedMediaType" },
  );
}

export function notAcceptable(): StatusError {
  return new StatusError(
    406,
    "only the following media types are accepted: application/json, application/yaml, application/json;stream=watch",
    { reason: "NotAcceptable", details: {} },
  );
}

export function tooLarge(limitBytes: number): StatusError {
  return new StatusError(
    413,
    `Request entity too large: limit is ${limitBytes}`,
    { reason: "RequestEntityTooLarge", details: {} },
  );
}

/** A value as Go's `%v` and JSON agree to show it in a field error. */
function shown(value: unknown): string {
  if (Array.isArray(value)) {
    return `[]string{${value.map((item) => JSON.stringify(item)).join(", ")}}`;
  }
  return value === undefined ? '""' : JSON.stringify(value);
}

/** Makers of the field errors that validation needs. */
export const fieldError = {
  invalid: (field: string, value: unknown, why: string): FieldError => ({
    field,
    reason: "FieldValueInvalid",
    message: `Invalid value: ${shown(value)}: ${why}`,
  }),
  required: (field: string, why = ""): FieldError => ({
    field,
    reason: "FieldValueRequired",
    message: "Required value" + (why === "" ? "" : `: ${why}`),
  }),
  duplicate: (field: string, value: unknown): FieldError => ({
    field,
    reason: "FieldValueDuplicate",
    message: `Duplicate value: ${shown(value)}`,
  }),
  forbidden: (field: string, why: string): FieldError => ({
    field,
    reason: "FieldValueForbidden",
    message: `Forbidden: ${why}`,
  }),
  notSupported: (
    field: string,
    value: unknown,
    supported: readonly string[],
  ): FieldError => ({
    field,
    reason: "FieldValueNotSupported",
    message: `Unsupported value: ${shown(value)}: supported values: ` +
      supported.map((item) => JSON.stringify(item)).join(", "),
  }),
  tooMany: (field: string, count: number, limit: number): FieldError => ({
    field,
    reason: "FieldValueTooMany",
    message: `Too many: ${count}: must have at most ${limit} items`,
  }),
};

/**
 * JSON merge patch (RFC 7396) and JSON patch (RFC 6902), on plain values. The
 * strategic merge patch, which knows the API's lists, is in
 * `strategic_merge.ts`.
 *
 * @module
 */
import { isRecord } from "./schema.ts";
import { badRequest, StatusError } from "./status.ts";

/** RFC 7396. Neither argument is changed; parts of both are in the result. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return patch;
  const result: Record<string, unknown> = isRecord(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(result[name], value);
  }
  return result;
}

/** More of them in one request are refused, as the real server does. */
const MAX_OPERATIONS = 10_000;

/**
 * RFC 6902: all operations or none.
 *
 * @param target is changed, also when an operation fails
 * @throws {StatusError} 400 when the patch is none; 422 when it does not fit
 */
export function jsonPatch(target: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) {
    throw badRequest(
      "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch",
    );
  }
  if (patch.length > MAX_OPERATIONS) {
    throw new StatusError(
      413,
      `Request entity too large: The allowed maximum operations in a JSON patch is ${MAX_OPERATIONS}, got ${patch.length}`,
      { reason: "RequestEntityTooLarge" },
    );
  }
  // An array around it makes the whole document an ordinary member.
  const root = [target];
  for (const operation of patch) apply(root, operation);
  return root[0];
}

function apply(root: unknown[], operation: unknown): void {
  if (!isRecord(operation)) throw badRequest("error decoding patch");
  const { op, path, from, value } = operation;
  switch (op) {
    case "add":
      return add(root, path, value);
    case "remove":
      return void remove(root, path);
    case "replace":
      remove(root, path, true);
      return add(root, path, value, true);
    case "move":
      return add(root, path, remove(root, from));
    case "copy":
      return add(root, path, structuredClone(get(root, from)));
    case "test":
      if (!isEqual(get(root, path), value)) {
        throw misfit(`testing path ${path} failed`);
      }
      return;
    default:
      throw misfit(`Unexpected kind: ${String(op)}`);
  }
}

type Place = { parent: Record<string, unknown> | unknown[]; key: string };

function locate(root: unknown[], pointer: unknown): Place {
  if (typeof pointer !== "string" || pointer !== "" && pointer[0] !== "/") {
    throw misfit(`"${String(pointer)}" is not a JSON pointer`);
  }
  const keys = ["0", ...pointer.split("/").slice(1).map(unescape)];
  const last = keys.pop()!;
  let parent: unknown = root;
  for (const key of keys) {
    parent = Array.isArray(parent)
      ? parent[index(parent, key)]
      : isRecord(parent) && Object.hasOwn(parent, key)
      ? parent[key]
      : undefined;
  }
  if (Array.isArray(parent) || isRecord(parent)) return { parent, key: last };
  throw misfit(`the path ${pointer} does not exist`);
}

function unescape(key: string): string {
  return key.replaceAll("~1", "/").replaceAll("~0", "~");
}

function index(items: unknown[], key: string): number {
  const number = /^(0|[1-9]\d{0,8})$/.test(key) ? Number(key) : -1;
  if (number < 0 || number >= items.length) {
    throw misfit(`invalid array index ${key}`);
  }
  return number;
}

function get(root: unknown[], pointer: unknown): unknown {
  const { parent, key } = locate(root, pointer);
  if (Array.isArray(parent)) return parent[index(parent, key)];
  return Object.hasOwn(parent, key) ? parent[key] : undefined;
}

/** @param keep the member stays, `add` replaces it; it has to be there */
function remove(root: unknown[], pointer: unknown, keep = false): unknown {
  const { parent, key } = locate(root, pointer);
  if (Array.isArray(parent)) {
    const at = index(parent, key);
    const value = parent[at];
    if (!keep) parent.splice(at, 1);
    return value;
  }
  if (!Object.hasOwn(parent, key)) {
    throw misfit(`Unable to remove nonexistent key: ${key}`);
  }
  const value = parent[key];
  if (!keep) delete parent[key];
  return value;
}

function add(
  root: unknown[],
  pointer: unknown,
  value: unknown,
  replace = false,
): void {
  const { parent, key } = locate(root, pointer);
  if (!Array.isArray(parent)) {
    if (key === "__proto__") throw misfit("invalid key __proto__");
    parent[key] = value;
  } else if (replace || parent === root) {
    parent[index(parent, key)] = value;
  } else if (key === "-") {
    parent.push(value);
  } else {
    const at = Number(key) === parent.length
      ? parent.length
      : index(parent, key);
    parent.splice(at, 0, value);
  }
}

/** @returns are they the same JSON, whatever the order of their fields? */
export function isEqual(a: unknown, b: unknown): boolean {
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length &&
      a.every((item, index) => isEqual(item, b[index]));
  }
  if (!isRecord(a) || !isRecord(b)) return a === b;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && isEqual(a[key], b[key]));
}

/** The real server keeps the reason to itself. */
function misfit(why: string): StatusError {
  return new StatusError(
    422,
    "the server rejected our request due to an error in our request",
    {
      reason: "Invalid",
      details: {
        causes: [{ reason: "FieldValueInvalid", message: why, field: "patch" }],
      },
    },
  );
}

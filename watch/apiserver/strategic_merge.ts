/**
 * Strategic merge patch: a merge patch that knows which lists of the API are
 * really maps or sets, and its directives `$patch`, `$retainKeys`,
 * `$setElementOrder/…` and `$deleteFromPrimitiveList/…`
 * (apimachinery/pkg/util/strategicpatch). And its younger sister, the merge
 * that server-side apply does.
 *
 * @module
 */
import { isEqual } from "./patch.ts";
import {
  any,
  isRecord,
  type ListSchema,
  type ObjectSchema,
  type Schema,
} from "./schema.ts";
import { badRequest } from "./status.ts";

type Fields = Record<string, unknown>;

const ORDER = "$setElementOrder/";
const DELETE_ITEMS = "$deleteFromPrimitiveList/";
const UNKNOWN_LIST: ListSchema = { type: "list", items: any };

/**
 * @returns the patched object; parts of both arguments are in it
 * @throws {StatusError} 400, a directive is misused
 */
export function strategicMerge(
  target: Fields,
  patch: Fields,
  schema: ObjectSchema,
): Fields {
  return mergeObject(target, patch, schema);
}

function fieldSchema(schema: Schema, name: string): Schema {
  if (schema.type === "map") return schema.values;
  if (schema.type !== "object") return any;
  return Object.hasOwn(schema.fields, name) ? schema.fields[name]! : any;
}

function mergeObject(target: Fields, patch: Fields, schema: Schema): Fields {
  const { $patch, $retainKeys, ...rest } = patch;
  if ($patch === "replace") return withoutDirectives(rest) as Fields;
  if ($patch === "delete") return {};
  if ($patch !== undefined && $patch !== "merge") {
    throw badRequest(`Unknown patch type found: ${String($patch)}`);
  }
  const result: Fields = { ...target };
  if (Array.isArray($retainKeys)) {
    for (const name of Object.keys(result)) {
      if (!$retainKeys.includes(name)) delete result[name];
    }
  }
  for (const [name, value] of Object.entries(rest)) {
    if (name.startsWith(DELETE_ITEMS)) {
      const list = name.slice(DELETE_ITEMS.length);
      result[list] = without(result[list], value);
    }
  }
  for (const [name, value] of Object.entries(rest)) {
    if (name.startsWith("$")) continue;
    const order = rest[ORDER + name];
    mergeField(result, name, value, fieldSchema(schema, name), order);
  }
  for (const [name, order] of Object.entries(rest)) {
    const list = name.slice(ORDER.length);
    if (!name.startsWith(ORDER) || Object.hasOwn(rest, list)) continue;
    const items = result[list];
    const field = fieldSchema(schema, list);
    if (Array.isArray(items) && Array.isArray(order)) {
      result[list] = ordered(items, items, order, keyOf(field));
    }
  }
  return result;
}

function mergeField(
  result: Fields,
  name: string,
  value: unknown,
  schema: Schema,
  order: unknown,
): void {
  const before = result[name];
  if (value === null) delete result[name];
  else if (isRecord(value)) {
    result[name] = mergeObject(isRecord(before) ? before : {}, value, schema);
  } else if (Array.isArray(value)) {
    const list = schema.type === "list" ? schema : UNKNOWN_LIST;
    const items = Array.isArray(before) ? before : [];
    result[name] = mergeList(items, value, list, order);
  } else result[name] = value;
}

/** What makes two items of the list the same one; `undefined`: nothing. */
type KeyOf = ((item: unknown) => unknown) | undefined;

function keyOf(schema: Schema): KeyOf {
  if (schema.type !== "list") return undefined;
  if (schema.isSet) return (item) => item;
  const { mergeKey } = schema;
  if (mergeKey === undefined) return undefined;
  return (item) => isRecord(item) ? item[mergeKey] : undefined;
}

function mergeList(
  target: unknown[],
  patch: unknown[],
  schema: ListSchema,
  order: unknown,
): unknown[] {
  const key = keyOf(schema);
  if (key === undefined) return patch.map(withoutDirectives);
  const replaces = patch.some((item) =>
    isRecord(item) && item.$patch === "replace"
  );
  if (replaces) {
    return patch.filter((item) => isRecord(item) && item.$patch === undefined)
      .map(withoutDirectives);
  }
  let result = [...target];
  for (const item of patch) {
    if (!isRecord(item)) {
      if (!result.includes(item)) result.push(item);
      continue;
    }
    if (key(item) === undefined) {
      throw badRequest(
        `map: ${
          JSON.stringify(item)
        } does not contain declared merge key: ${schema.mergeKey}`,
      );
    }
    if (item.$patch === "delete") {
      result = result.filter((own) => key(own) !== key(item));
      continue;
    }
    const at = sameItem(result, item, key);
    const own = result[at];
    if (at < 0) result.push(mergeObject({}, item, schema.items));
    else result[at] = mergeObject(isRecord(own) ? own : {}, item, schema.items);
  }
  return Array.isArray(order) ? ordered(result, target, order, key) : result;
}

/**
 * A Service's ports merge by `port` alone, although 53/TCP and 53/UDP are two.
 * Where several have the number, the one of the same protocol is meant.
 */
function sameItem(items: unknown[], item: Fields, key: KeyOf & object): number {
  const same = items.flatMap((own, index) =>
    key(own) === key(item) ? [index] : []
  );
  if (same.length < 2 || item.protocol === undefined) return same[0] ?? -1;
  return same.find((index) => {
    const own = items[index];
    return isRecord(own) && own.protocol === item.protocol;
  }) ?? -1;
}

/**
 * The items named in `order` in that order; those that only the server knows
 * keep their place between the neighbours they had.
 */
function ordered(
  items: unknown[],
  before: unknown[],
  order: unknown[],
  key: KeyOf,
): unknown[] {
  if (key === undefined) return items;
  const wanted = order.map(key);
  const named = items.filter((item) => wanted.includes(key(item)));
  named.sort((a, b) => wanted.indexOf(key(a)) - wanted.indexOf(key(b)));
  const others = items.filter((item) => !wanted.includes(key(item)));
  const placeOf = (item: unknown) =>
    before.findIndex((own) => key(own) === key(item));
  const result: unknown[] = [];
  while (named.length > 0 && others.length > 0) {
    const place = placeOf(named[0]);
    const next = place >= 0 && placeOf(others[0]) < place ? others : named;
    result.push(next.shift());
  }
  return [...result, ...named, ...others];
}

function without(items: unknown, unwanted: unknown): unknown {
  if (!Array.isArray(items) || !Array.isArray(unwanted)) return items;
  return items.filter((item) => !unwanted.includes(item));
}

/** What a patch says of something that was not there before. */
function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.filter((item) => !isRecord(item) || item.$patch === undefined)
      .map(withoutDirectives);
  }
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, item]) => !name.startsWith("$") && item !== null)
      .map(([name, item]) => [name, withoutDirectives(item)]),
  );
}

/**
 * Server-side apply of one manager's intent: its fields are set, and what it
 * applied before but no longer does is gone. Conflicts between managers are
 * not looked for: the last one wins, as with `--force-conflicts`.
 *
 * @param last what the same manager applied before; empty at first
 * @returns the object; parts of `live` and `next` are in it
 */
export function applyMerge(
  live: Fields,
  last: Fields,
  next: Fields,
  schema: ObjectSchema,
): Fields {
  return applyObject(live, last, next, schema);
}

function applyObject(
  live: Fields,
  last: Fields,
  next: Fields,
  schema: Schema,
): Fields {
  const result: Fields = { ...live };
  for (const name of Object.keys(last)) {
    if (Object.hasOwn(next, name)) continue;
    const old = last[name];
    const own = result[name];
    if (isRecord(old) && isRecord(own)) {
      // Others may have fields of their own inside: those stay.
      const rest = applyObject(own, old, {}, fieldSchema(schema, name));
      if (Object.keys(rest).length > 0) {
        result[name] = rest;
        continue;
      }
    }
    delete result[name];
  }
  for (const [name, value] of Object.entries(next)) {
    const before = result[name];
    const field = fieldSchema(schema, name);
    if (isRecord(value) && isRecord(before)) {
      const previous = last[name];
      const old = isRecord(previous) ? previous : {};
      result[name] = applyObject(before, old, value, field);
    } else if (Array.isArray(value) && Array.isArray(before)) {
      const previous = last[name];
      const old = Array.isArray(previous) ? previous : [];
      result[name] = applyList(before, old, value, field);
    } else result[name] = value;
  }
  return result;
}

function applyList(
  live: unknown[],
  last: unknown[],
  next: unknown[],
  schema: Schema,
): unknown[] {
  if (schema.type !== "list") return next;
  const isSame = sameApplied(schema);
  if (isSame === undefined) return next;
  const find = (items: unknown[], item: unknown) =>
    items.find((own) => isSame(own, item));
  const merged = next.map((item) => {
    const own = find(live, item);
    if (!isRecord(item) || !isRecord(own)) return item;
    const before = find(last, item);
    const old = isRecord(before) ? before : {};
    return applyObject(own, old, item, schema.items);
  });
  const others = live.filter((item) =>
    find(next, item) === undefined && find(last, item) === undefined
  );
  return [...merged, ...others];
}

function sameApplied(
  schema: ListSchema,
): ((a: unknown, b: unknown) => boolean) | undefined {
  if (schema.isSet) return isEqual;
  const keys = schema.applyKeys ??
    (schema.mergeKey === undefined ? [] : [schema.mergeKey]);
  if (keys.length === 0) return undefined;
  return (a, b) =>
    isRecord(a) && isRecord(b) &&
    keys.every((key) => keyValue(a, key) === keyValue(b, key));
}

/** A manifest leaves out the protocol that the live object has by default. */
function keyValue(item: Fields, key: string): unknown {
  return item[key] ?? (key === "protocol" ? "TCP" : undefined);
}

/**
 * Reading fields out of unknown JSON, with the path in the message when one is
 * not what it should be. Paths are put together while the error climbs, so that
 * the usual case, ten thousand good objects, builds no strings.
 *
 * @module
 */

/** A JSON object whose fields nobody has looked at. */
export type Fields = Readonly<Record<string, unknown>>;

/** One field is not what it should be: `spec.ports[0].port is "http", want …`. */
export class FieldError extends Error {
  override readonly name = "FieldError";

  constructor(readonly path: string, readonly problem: string) {
    super(`${path} ${problem}`);
  }
}

/** The error for a field whose value is not `want`. */
export function unfit(field: string, value: unknown, want: string): FieldError {
  return new FieldError(field, `is ${shown(value)}, want ${want}`);
}

/** An object; missing and `null` read as an empty one, as the API means them. */
function fields(from: Fields, field: string): Fields {
  const value = from[field];
  if (value === undefined || value === null) return {};
  if (!isFields(value)) throw unfit(field, value, "an object");
  return value;
}

/** What `read` makes of an object; missing and `null` are an empty one. */
export function inside<T>(
  from: Fields,
  field: string,
  read: (inner: Fields) => T,
): T {
  const inner = fields(from, field);
  return within(field, () => read(inner));
}

/** Text; missing and `null` read as `missing`. */
export function text(from: Fields, field: string, missing = ""): string {
  const value = from[field];
  if (value === undefined || value === null) return missing;
  if (typeof value !== "string") throw unfit(field, value, "text");
  return value;
}

/** Text that has to be there. */
export function someText(from: Fields, field: string): string {
  const value = text(from, field);
  if (value === "") throw unfit(field, from[field], "text");
  return value;
}

/** One of a few words; missing, `null` and empty read as `missing`. */
export function oneOf<Word extends string>(
  from: Fields,
  field: string,
  options: { readonly words: readonly Word[]; readonly missing?: Word },
): Word {
  const value = from[field];
  if (value === undefined || value === null || value === "") {
    if (options.missing !== undefined) return options.missing;
  } else if ((options.words as readonly unknown[]).includes(value)) {
    return value as Word;
  }
  throw unfit(field, value, `one of ${options.words.join(", ")}`);
}

/** A boolean; missing and `null` read as `missing`. */
export function flag(from: Fields, field: string, missing: boolean): boolean {
  const value = from[field];
  if (value === undefined || value === null) return missing;
  if (typeof value !== "boolean") throw unfit(field, value, "true or false");
  return value;
}

/** A whole number up to `most`; missing and `null` read as `missing`, if given. */
export function whole(
  from: Fields,
  field: string,
  options: { readonly most: number; readonly missing?: number },
): number {
  const value = from[field];
  if (
    (value === undefined || value === null) && options.missing !== undefined
  ) {
    return options.missing;
  }
  if (
    !Number.isInteger(value) || (value as number) < 0 ||
    (value as number) > options.most
  ) {
    throw unfit(field, value, `a whole number 0–${options.most}`);
  }
  return value as number;
}

/** The objects of a list; missing and `null` read as an empty list. */
export function each<T>(
  from: Fields,
  field: string,
  read: (item: Fields) => T,
): T[] {
  return list(from, field).map((item, index) =>
    within(`${field}[${index}]`, () => {
      if (!isFields(item)) throw unfit("", item, "an object");
      return read(item);
    })
  );
}

/** A list of texts; missing and `null` read as an empty list. */
export function texts(from: Fields, field: string): readonly string[] {
  const items = list(from, field);
  const wrong = items.findIndex((item) => typeof item !== "string");
  if (wrong !== -1) throw unfit(`${field}[${wrong}]`, items[wrong], "text");
  return items as readonly string[];
}

/** Texts by name (labels); missing and `null` read as none. */
export function textRecord(
  from: Fields,
  field: string,
): Readonly<Record<string, string>> {
  const record = fields(from, field);
  for (const name in record) {
    if (typeof record[name] !== "string") {
      throw unfit(`${field}[${JSON.stringify(name)}]`, record[name], "text");
    }
  }
  return record as Readonly<Record<string, string>>;
}

/** Puts `path` before the path of an error that `read` throws. */
function within<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FieldError)) throw error;
    const joined = error.path === "" || error.path.startsWith("[")
      ? path + error.path
      : `${path}.${error.path}`;
    throw new FieldError(joined, error.problem);
  }
}

export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function list(from: Fields, field: string): readonly unknown[] {
  const value = from[field];
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw unfit(field, value, "a list");
  return value;
}

function shown(value: unknown): string {
  if (value === undefined) return "missing";
  const json = JSON.stringify(value);
  return json.length > 60 ? json.slice(0, 60) + "…" : json;
}

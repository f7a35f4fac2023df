/**
 * What `@std/yaml` is bound to in deno.json: the two functions this project
 * calls, over js-yaml, which the standard library's own YAML is a port of.
 * Where the JSR registry answers, `jsr:@std/yaml@^1` is a drop-in.
 *
 * @module
 */
import { dump, loadAll } from "js-yaml";

export interface ParseOptions {
  /** Of a key that is there twice the last one counts; else it is an error. */
  readonly allowDuplicateKeys?: boolean;
}

/**
 * Reads one YAML document (a file with several is split by the caller).
 *
 * @returns plain objects, arrays and scalars; `null` for an empty document
 * @throws {Error} a `YAMLException`, whose message names line and column, or a
 *   `SyntaxError` where there are several documents
 */
export function parse(text: string, options: ParseOptions = {}): unknown {
  // `load` would throw for an empty text, where `@std/yaml` answers null.
  const documents: unknown[] = loadAll(text, {
    json: options.allowDuplicateKeys ?? false,
  });
  if (documents.length > 1) {
    throw new SyntaxError(
      `Cannot parse YAML as one document: it has ${documents.length}`,
    );
  }
  return documents[0] ?? null;
}

/** Writes `value` as one YAML document, without line folding. */
export function stringify(value: unknown): string {
  return dump(value, { lineWidth: -1, noRefs: true });
}

/**
 * A file of manifests, as text, becomes the values written in it: YAML with
 * any number of documents, or JSON. It knows nothing of Kubernetes objects;
 * who reads the values says what they have to be.
 *
 * @module
 */
import { parse } from "@std/yaml";

/** One document of a file. */
export type YamlDocument =
  | {
    /** 1 for the file's first line: where the document begins. */
    readonly line: number;
    readonly value: unknown;
    readonly error?: undefined;
  }
  | {
    readonly line: number;
    /** One line; a position it names is the file's, not the document's. */
    readonly error: string;
  };

/**
 * Reads every document of a file. Documents are separated as Kubernetes
 * separates them: by a line `---`, with nothing but a comment behind it.
 *
 * 1. Documents come in the file's order; empty ones are left out.
 * 2. One that can't be read is an entry with `error`, and the others are read.
 * 3. It never throws.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { yamlDocuments } from "./yaml_documents.ts";
 * assert.deepEqual(yamlDocuments("a: 1\n---\nb: 2\n"), [
 *   { line: 1, value: { a: 1 } },
 *   { line: 3, value: { b: 2 } },
 * ]);
 * ```
 */
export function yamlDocuments(text: string): YamlDocument[] {
  const source = text.replace(/^\uFEFF/, "").replaceAll("\r\n", "\n");
  const json = jsonDocument(source);
  if (json !== undefined) return [json];
  const documents: YamlDocument[] = [];
  for (const { line, lines } of split(source)) {
    const document = read(lines.join("\n"), line);
    if (document !== undefined) documents.push(document);
  }
  return documents;
}

/**
 * JSON is YAML too, but not all of it (a tab may indent), and reading it as
 * what it is takes a tenth of the time.
 */
function jsonDocument(source: string): YamlDocument | undefined {
  if (!/^\s*[{[]/.test(source)) return undefined;
  try {
    return { line: 1, value: JSON.parse(source) };
  } catch {
    return undefined; // flow style YAML, or the YAML parser's error is clearer
  }
}

function split(source: string): { line: number; lines: string[] }[] {
  let current = { line: 1, lines: [] as string[] };
  const parts = [current];
  for (const [index, text] of source.split("\n").entries()) {
    if (/^---\s*(#.*)?$/.test(text)) {
      current = { line: index + 2, lines: [] };
      parts.push(current);
    } else {
      current.lines.push(text);
    }
  }
  return parts;
}

function read(text: string, line: number): YamlDocument | undefined {
  if (!/^[^\S\n]*[^\s#]/m.test(text)) return undefined;
  try {
    const value = parse(text);
    return value === undefined || value === null ? undefined : { line, value };
  } catch {
    return { line, error: reason(text, line) };
  }
}

/** Read once more, below as many empty lines as stand above it in the file. */
function reason(text: string, line: number): string {
  try {
    parse("\n".repeat(line - 1) + text);
    return "Cannot read the document";
  } catch (error) {
    // The lines after the first show the place in the text.
    const message = error instanceof Error ? error.message : String(error);
    return message.split("\n")[0] ?? message;
  }
}

import assert from "node:assert/strict";
import fc from "fast-check";
import { stringify } from "@std/yaml";
import { yamlDocuments } from "../../watch/yaml_documents.ts";

const TABLE: { name: string; text: string; want: unknown[] }[] = [
  { name: "reads nothing from an empty text", text: "", want: [] },
  { name: "leaves out comments", text: "# a\n---\n# b\n", want: [] },
  {
    name: "tells where each document begins",
    text: "---\na: 1\n--- # next\n\nb: 2\n---\n",
    want: [{ line: 2, value: { a: 1 } }, { line: 4, value: { b: 2 } }],
  },
  {
    name: "takes carriage returns and a byte order mark",
    text: "\uFEFFa: 1\r\n---\r\nb: 2\r\n",
    want: [{ line: 1, value: { a: 1 } }, { line: 3, value: { b: 2 } }],
  },
  {
    name: "keeps dashes that are content",
    text: "a: |\n  ---\n  b\nc: x---\n",
    want: [{ line: 1, value: { a: "---\nb\n", c: "x---" } }],
  },
  {
    name: "reads JSON, indented by tabs",
    text: '{\n\t"a": [1]\n}\n',
    want: [{ line: 1, value: { a: [1] } }],
  },
  {
    name: "reads flow style that is not JSON",
    text: "{a: 1}\n---\n{b: 2}\n",
    want: [{ line: 1, value: { a: 1 } }, { line: 3, value: { b: 2 } }],
  },
  {
    name: "reads words as YAML 1.2 does",
    text: "a: yes\nb: 0755\n",
    want: [{ line: 1, value: { a: "yes", b: 755 } }],
  },
];

for (const { name, text, want } of TABLE) {
  Deno.test(`yamlDocuments() ${name}`, () => {
    assert.deepEqual(yamlDocuments(text), want);
  });
}

Deno.test("yamlDocuments() reads what stands beside a bad document", () => {
  const documents = yamlDocuments("a: 1\n---\nb: 1\nb: [2\n---\nc: 3\n");
  assert.deepEqual(documents[0], { line: 1, value: { a: 1 } });
  assert.deepEqual(documents[2], { line: 6, value: { c: 3 } });
  const error = documents[1]?.error ?? "";
  assert.match(error, /\b[45]:/, "names the line of the file");
  assert.doesNotMatch(error, /\n/);
});

Deno.test("yamlDocuments() reads back what stringify() wrote", () => {
  fc.assert(
    fc.property(
      fc.array(fc.dictionary(fc.string(), fc.jsonValue()), { minLength: 1 }),
      (values) => {
        const text = values.map((value) => `---\n${stringify(value)}`).join("");
        assert.deepEqual(
          yamlDocuments(text).map((document) =>
            JSON.stringify("value" in document ? document.value : document)
          ),
          values.map((value) => JSON.stringify(value)),
        );
      },
    ),
    { numRuns: 100 },
  );
});

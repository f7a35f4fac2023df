/** The two functions that `@std/yaml` is bound to. */
import { parse, stringify } from "@std/yaml";
import assert from "node:assert/strict";

const documents: readonly { text: string; want: unknown }[] = [
  { text: "", want: null },
  { text: "# only a comment\n", want: null },
  { text: "---\n", want: null },
  { text: "a: 1\nb: [x, y]\n", want: { a: 1, b: ["x", "y"] } },
  { text: "---\nmode: 0755\non: yes\n", want: { mode: 755, on: "yes" } },
];

for (const { text, want } of documents) {
  Deno.test(`parse() reads ${JSON.stringify(text)}`, () => {
    assert.deepEqual(parse(text), want);
  });
}

Deno.test("parse() names the place of a mistake", () => {
  assert.throws(() => parse("a: 1\nb: [\n"), /\(\d+:\d+\)/);
});

Deno.test("parse() refuses several documents", () => {
  assert.throws(() => parse("a: 1\n---\nb: 2\n"), SyntaxError);
});

Deno.test("stringify() writes what parse() reads", () => {
  const value = { a: [1, "two", null], long: "x ".repeat(200).trim() };
  assert.deepEqual(parse(stringify(value)), value);
  assert.equal(stringify(value).includes(">-"), false);
});

Deno.test("parse() refuses a key that is there twice, unless told to take the last", () => {
  assert.throws(() => parse("a: 1\na: 2\n"), /duplicated mapping key/);
  assert.deepEqual(parse("a: 1\na: 2\n", { allowDuplicateKeys: true }), {
    a: 2,
  });
});

import assert from "node:assert/strict";
import {
  BEHAVIOURS,
  behaviours,
  factsNamedIn,
  parseFacts,
  unknownFacts,
} from "./behaviours.ts";

const MAKE = "deno run --allow-read --allow-write test/behaviours.ts";

Deno.test("proxy/BEHAVIOURS.md is what the tests say", () => {
  const current = Deno.readTextFileSync(BEHAVIOURS) === behaviours();
  assert.ok(current, `proxy/BEHAVIOURS.md is out of date: run ${MAKE}`);
});

Deno.test("tests name no fact that does not exist", () => {
  assert.deepEqual(unknownFacts(), []);
});

Deno.test("factsNamedIn() reads numbers at the start of a name, and nothing else", () => {
  const source = [
    'Deno.test("[1.1] f() does", () => {});',
    "Deno.test(`[1.1, 5.16] f() ${x}`, () => {});",
    '{ name: "[10.2] g()" }',
    '{ facts: "8.1, 8.2", given: 1 }',
    'const list = [1.5, 2.5]; const text = "see [3.1]"; // [4.1] no',
  ].join("\n");
  assert.deepEqual(factsNamedIn(source), ["1.1", "5.16", "10.2", "8.1", "8.2"]);
});

Deno.test("parseFacts() refuses a line that is no fact", () => {
  const lines = "1.1\tU\tText\tdiffers: why\n2.1\tU\tText\tnot ours: whose\n";
  assert.deepEqual(parseFacts(lines), [
    { number: "1.1", tag: "U", text: "Text", differs: "why", notOurs: "" },
    { number: "2.1", tag: "U", text: "Text", differs: "", notOurs: "whose" },
  ]);
  assert.throws(() => parseFacts("1.1 U Text\n"), SyntaxError);
  assert.throws(() => parseFacts("1.1\tU\tText\twhy\n"), SyntaxError);
});

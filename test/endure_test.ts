/** The tests that ENDURE.md names are there, and README leads to it. */
import assert from "node:assert/strict";

const page = Deno.readTextFileSync(new URL("ENDURE.md", import.meta.url));

interface Named {
  readonly file: string;
  readonly name: string;
}

/** `[unit](watch/x_test.ts): "a", "b"; [e2e](e2e/y_test.ts): "c"`. */
function namedTests(text: string): Named[] {
  return [...text.matchAll(/\[[^\]]*\]\(([^)]+\.ts)\): ((?:"[^"]+"(?:, )?)+)/g)]
    .flatMap(([, file = "", names = ""]) =>
      [...names.matchAll(/"([^"]+)"/g)].map(([, name = ""]) => ({ file, name }))
    );
}

Deno.test("ENDURE.md names tests that exist, in every row", () => {
  const named = namedTests(page);
  const missing = named.filter(({ file, name }) => {
    const source = Deno.readTextFileSync(new URL(file, import.meta.url));
    return !source.replaceAll("\\", "").includes(name);
  });
  assert.deepEqual(missing, []);
  const rows = page.split("\n").filter((line) =>
    line.startsWith("| ") && !line.startsWith("| fault") &&
    !line.startsWith("| -")
  );
  assert.ok(rows.length > 0);
  assert.deepEqual(
    rows.filter((row) => namedTests(row).length === 0),
    [],
    "rows without a test",
  );
});

Deno.test("README leads to ENDURE.md", () => {
  const readme = Deno.readTextFileSync(
    new URL("../README.md", import.meta.url),
  );
  assert.ok(readme.includes("(test/ENDURE.md)"));
});

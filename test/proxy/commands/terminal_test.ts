import assert from "node:assert/strict";
import { errorLine, UserError } from "../../../proxy/commands/errors.ts";
import { table } from "../../../proxy/commands/terminal.ts";

Deno.test("table() lines its columns up and leaves no space at the end", () => {
  assert.equal(
    table(["NAME", "ADDRESS"], [["default/web", "10.96.0.1"], ["x", ""]]),
    [
      "NAME         ADDRESS",
      "default/web  10.96.0.1",
      "x",
      "",
    ].join("\n"),
  );
});

Deno.test("table() has its headings although there are no rows", () => {
  assert.equal(table(["NAME", "ADDRESS"], []), "NAME  ADDRESS\n");
});

const TERMINAL = new URL(
  "../../../proxy/commands/terminal.ts",
  import.meta.url,
);

/** A program that has `print` and `printError`, its output in pipes. */
function program(code: string): Deno.ChildProcess {
  const text = `import { print, printError } from "${TERMINAL}"; ${code}`;
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      `data:application/typescript,${encodeURIComponent(text)}`,
    ],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

Deno.test("print() and printError() write all of a text that is larger than a pipe", async () => {
  const child = program(
    'print("ä".repeat(500_000) + "\\n"); printError("b\\n");',
  );
  const { success, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assert.ok(success, text(stderr));
  assert.equal(text(stdout), "ä".repeat(500_000) + "\n");
  assert.equal(text(stderr), "b\n");
});

Deno.test("print() does not fail when its reader has gone", async () => {
  const child = program(
    `for (let i = 0; i < 100; i++) print("x".repeat(100_000));
     printError("still here\\n");`,
  );
  await child.stdout.cancel();
  const stderr = await new Response(child.stderr).text();
  assert.ok((await child.status).success, stderr);
  assert.equal(stderr, "still here\n");
});

Deno.test("errorLine() is one line, with causes that add something", () => {
  const cause = new Error("no route\n  to host");
  const table: readonly [unknown, string][] = [
    [new UserError("Cannot dial"), "Cannot dial"],
    [new Error("Cannot dial", { cause }), "Cannot dial: no route to host"],
    [
      new Error("Cannot dial: no route to host", { cause }),
      "Cannot dial: no route to host",
    ],
    [new TypeError(), "TypeError"],
    ["text\nof two lines", "text of two lines"],
  ];
  for (const [given, want] of table) assert.equal(errorLine(given), want);
});

/** The kernel's parameter while listeners are closed, and after. */
import assert from "node:assert/strict";
import { passQueuesOn } from "../../../proxy/commands/pass_queues_on.ts";
import { CommandError } from "../../../proxy/rules/command.ts";

/** Far less than a test may take. */
const SHORT_MS = 50;

/** What was done, in order, where the parameter is `value`. */
async function done(
  { value, write = () => Promise.resolve("") }: {
    value?: string;
    write?: (value: string | undefined) => Promise<string>;
  },
): Promise<string[]> {
  const steps: string[] = [];
  const passing = await passQueuesOn({
    run([program, ...args]) {
      if (program !== "cat") {
        steps.push(`write ${args[3]}`);
        return write(args[3]);
      }
      return value === undefined
        ? Promise.reject(new CommandError("No such file", { command: [] }))
        : Promise.resolve(`${value}\n`);
    },
  }, SHORT_MS);
  steps.push("close");
  await passing.end();
  return steps;
}

Deno.test("passQueuesOn() puts back what there was, and changes nothing it need not", async () => {
  assert.deepEqual(await done({ value: "0" }), ["write 1", "close", "write 0"]);
  assert.deepEqual(await done({ value: "1" }), ["close"]);
  // An older kernel.
  assert.deepEqual(await done({}), ["close"]);
});

Deno.test("passQueuesOn() lets go on where nothing can be written", async () => {
  const refused = () =>
    Promise.reject(new CommandError("Read-only file system", { command: [] }));
  assert.deepEqual(await done({ value: "0", write: refused }), [
    "write 1",
    "close",
  ]);
});

Deno.test("passQueuesOn() waits for no program that hangs, and puts back what it has written", async () => {
  const hanging = Promise.withResolvers<string>();
  const written: (string | undefined)[] = [];
  const write = (value: string | undefined) => {
    written.push(value);
    return value === "1" ? hanging.promise : Promise.resolve("");
  };
  assert.deepEqual(await done({ value: "0", write }), ["write 1", "close"]);
  hanging.reject(new DOMException("late", "TimeoutError"));
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(written, ["1", "0"]);
});

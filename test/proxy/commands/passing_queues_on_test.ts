/** The kernel's parameter while listeners are closed, and after. */
import assert from "node:assert/strict";
import { passingQueuesOn } from "../../../proxy/commands/passing_queues_on.ts";
import { CommandError } from "../../../proxy/rules/command.ts";

/** What was done, in order, where the parameter is `value`. */
async function done(
  { value, write = () => Promise.resolve("") }: {
    value?: string;
    write?: () => Promise<string>;
  },
): Promise<string[]> {
  const steps: string[] = [];
  await passingQueuesOn({
    run([program, ...args]) {
      if (program !== "cat") {
        steps.push(`write ${args[3]}`);
        return write();
      }
      return value === undefined
        ? Promise.reject(new CommandError("No such file", { command: [] }))
        : Promise.resolve(`${value}\n`);
    },
  }, () => {
    steps.push("close");
    return Promise.resolve();
  });
  return steps;
}

Deno.test("passingQueuesOn() puts back what there was, and changes nothing it need not", async () => {
  assert.deepEqual(await done({ value: "0" }), ["write 1", "close", "write 0"]);
  assert.deepEqual(await done({ value: "1" }), ["close"]);
  // An older kernel.
  assert.deepEqual(await done({}), ["close"]);
  let isClosed = false;
  await passingQueuesOn(undefined, () => {
    isClosed = true;
    return Promise.resolve();
  });
  assert.ok(isClosed);
});

Deno.test("passingQueuesOn() closes also where nothing can be written", async () => {
  const refused = () =>
    Promise.reject(new CommandError("Read-only file system", { command: [] }));
  assert.deepEqual(await done({ value: "0", write: refused }), [
    "write 1",
    "close",
  ]);
});

Deno.test("passingQueuesOn() closes where a write takes too long, and puts back what may be written", async () => {
  const late = () => Promise.reject(new DOMException("late", "TimeoutError"));
  assert.deepEqual(await done({ value: "0", write: late }), [
    "write 1",
    "close",
    "write 0",
  ]);
});

Deno.test("passingQueuesOn() puts back what there was where closing fails", async () => {
  const steps: string[] = [];
  const runner = {
    run([program, ...args]: readonly string[]) {
      if (program === "cat") return Promise.resolve("0");
      steps.push(`write ${args[3]}`);
      return Promise.resolve("");
    },
  };
  const fail = () => Promise.reject(new Error("cannot close"));
  await assert.rejects(passingQueuesOn(runner, fail), /cannot close/);
  assert.deepEqual(steps, ["write 1", "write 0"]);
});

import assert from "node:assert/strict";
import {
  CommandError,
  isProgramMissing,
  systemRunner,
} from "../../../proxy/rules/command.ts";

const { signal } = new AbortController();

Deno.test("systemRunner gives input to the program and returns its output", async () => {
  const stdin = "line\n".repeat(200_000);
  assert.equal(await systemRunner.run(["cat"], { signal, stdin }), stdin);
});

Deno.test("systemRunner does not mind a program that reads no input", async () => {
  const stdin = "line\n".repeat(200_000);
  assert.equal(await systemRunner.run(["true"], { signal, stdin }), "");
});

Deno.test("systemRunner says what failed, in one line", async () => {
  const script = "echo first >&2; echo second >&2; exit 3";
  const run = systemRunner.run(["sh", "-c", script], { signal });
  await assert.rejects(run, (error: unknown) => {
    assert.ok(error instanceof CommandError);
    assert.equal(error.exitCode, 3);
    assert.equal(error.stderr, "first\nsecond\n");
    assert.deepEqual(error.command, ["sh", "-c", script]);
    assert.equal(error.message, `Cannot run "sh -c ${script}": first`);
    assert.ok(!isProgramMissing(error));
    return true;
  });
  await assert.rejects(systemRunner.run(["false"], { signal }), {
    message: 'Cannot run "false": it exited with code 1',
  });
});

Deno.test("systemRunner knows a missing program", async () => {
  const run = systemRunner.run(["no-such-program"], { signal });
  await assert.rejects(run, (error: unknown) => {
    assert.ok(isProgramMissing(error));
    return error instanceof CommandError && error.exitCode === undefined;
  });
});

Deno.test({
  name: "systemRunner names the flag that is missing",
  permissions: { run: false },
  async fn() {
    await assert.rejects(systemRunner.run(["ip", "route"], { signal }), {
      name: "CommandError",
      message:
        'Cannot run "ip": start with --allow-run=ip, with "ip" on the PATH',
    });
  },
});

Deno.test("systemRunner kills the program when aborted", async () => {
  const stop = new AbortController();
  const run = systemRunner.run(["sleep", "60"], { signal: stop.signal });
  const reason = new Error("enough");
  stop.abort(reason);
  await assert.rejects(run, reason);
  const never = systemRunner.run(["sleep", "60"], { signal: stop.signal });
  await assert.rejects(never, reason);
});

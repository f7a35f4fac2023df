import assert from "node:assert/strict";
import { sharedPorts } from "../../../proxy/commands/shared_ports.ts";
import { CommandError } from "../../../proxy/rules/command.ts";

const HERE = { ip: "10.96.0.10", port: 80 };
const THERE = { ...HERE, namespace: "/run/netns/kube-portal" };

async function sharing(
  given: { takesOver?: boolean; here?: string; there?: string },
): Promise<[here: boolean, there: boolean]> {
  const { takesOver = true, here, there } = given;
  const isShared = await sharedPorts({
    takesOver,
    runner: {
      run: (command) =>
        here === undefined
          ? Promise.reject(new CommandError("No such file", { command }))
          : Promise.resolve(`${here}\n`),
    },
    namespaces: {
      readIn() {
        assert.ok(there !== undefined, "no such file");
        return `${there}\n`;
      },
    },
    signal: new AbortController().signal,
  });
  return [isShared(HERE), isShared(THERE)];
}

Deno.test("sharedPorts() shares nothing without --take-over", async () => {
  const all = { takesOver: false, here: "1", there: "1" };
  assert.deepEqual(await sharing(all), [false, false]);
});

Deno.test("sharedPorts() shares where queues pass on, each network namespace by itself", async () => {
  assert.deepEqual(await sharing({ here: "1", there: "0" }), [true, false]);
  assert.deepEqual(await sharing({ here: "0", there: "1" }), [false, true]);
  // An older kernel.
  assert.deepEqual(await sharing({}), [false, false]);
});

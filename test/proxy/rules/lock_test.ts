import assert from "node:assert/strict";
import {
  isHeld,
  type SteeringLock,
  takeSteeringLock,
} from "../../../proxy/rules/lock.ts";

let count = 0;

function freshName(): string {
  return `\0kube-portal-test-${Deno.pid}-${count++}`;
}

const ignore = Deno.build.os !== "linux";

async function taken(name: string): Promise<SteeringLock> {
  const result = await takeSteeringLock("steer", name);
  assert.ok(!isHeld(result));
  return result;
}

Deno.test({
  name:
    "takeSteeringLock() keeps others out until it is given back, and says who has it",
  ignore,
  async fn() {
    const name = freshName();
    const lock = await taken(name);
    for (let i = 0; i < 3; i++) {
      const other = await takeSteeringLock("steer", name);
      assert.deepEqual(other, {
        heldBy: `pid ${Deno.pid}`,
        purpose: "steer",
      });
    }
    lock[Symbol.dispose]();
    (await taken(name))[Symbol.dispose]();
  },
});

Deno.test({
  name: "takeSteeringLock() does not wait for a holder that is silent",
  ignore,
  async fn() {
    const name = freshName();
    using _silent = Deno.listen({ transport: "unix", path: name });
    assert.deepEqual(await takeSteeringLock("steer", name), {
      heldBy: "a process that does not say who it is",
      purpose: "steer",
    });
  },
});

Deno.test({
  name: "takeSteeringLock() believes no answer that it does not know",
  ignore,
  async fn() {
    const name = freshName();
    using listener = Deno.listen({ transport: "unix", path: name });
    const answered = listener.accept().then(async (conn) => {
      await conn.write(new TextEncoder().encode("steer pid 1\x1b[2J\n"));
      conn.close();
    });
    assert.deepEqual(await takeSteeringLock("steer", name), {
      heldBy: "a process that does not say who it is",
      purpose: "steer",
    });
    await answered;
  },
});

Deno.test("takeSteeringLock() goes on where there can be no lock", async () => {
  using lock = await taken("/nonexistent/folder/lock");
  assert.ok(lock);
});

Deno.test({
  name: "takeSteeringLock() gets the lock of a process that was killed",
  ignore,
  async fn() {
    const name = freshName();
    const url = new URL("../../../proxy/rules/lock.ts", import.meta.url);
    const code = `
      import { takeSteeringLock } from ${JSON.stringify(url.href)};
      await takeSteeringLock("clean", ${JSON.stringify(name)});
      console.log("held");
      await new Promise((resolve) => setTimeout(resolve, 60_000));`;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-prompt", "--allow-net", "-"],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(code));
    await writer.close();
    const reader = child.stdout.getReader();
    await reader.read();
    assert.deepEqual(await takeSteeringLock("steer", name), {
      heldBy: `pid ${child.pid}`,
      purpose: "clean",
    });
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    (await taken(name))[Symbol.dispose]();
  },
});

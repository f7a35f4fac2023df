/** What is told of a server that is away. */
import assert from "node:assert/strict";
import { setup } from "@std/log";
import { Reachability } from "../../watch/reachability.ts";
import { UnreachableError } from "../../watch/unreachable.ts";
import { FakeClock } from "../support/fake_clock.ts";

const SERVER = "http://127.0.0.1:1";

/** Lines at the default verbosity, without their times. */
async function logged(
  act: (reachability: Reachability, clock: FakeClock) => void | Promise<void>,
): Promise<string[]> {
  const lines: string[] = [];
  await setup({
    level: "info",
    format: "text",
    stacks: false,
    write: (line) => lines.push(line.slice(line.indexOf(" ") + 1).trimEnd()),
  });
  try {
    const clock = new FakeClock();
    await act(new Reachability(clock), clock);
  } finally {
    await setup({ level: "error", format: "text", stacks: false, write() {} });
  }
  return lines;
}

function refused(reason = "connection refused"): UnreachableError {
  return new UnreachableError(SERVER, reason, { answered: false });
}

const AWAY = "WARN  watch: Cannot reach the API server; what is known stays " +
  `served server=${SERVER} reason=`;

Deno.test("Reachability tells once that a server is away, and once that it is back", async () => {
  const lines = await logged(async (reachability, clock) => {
    for (let round = 0; round < 3; round++) {
      for (const resource of ["services", "endpointslices", "nodes"]) {
        assert.equal(reachability.lost(resource, refused()), true);
      }
      await clock.advance(14_000);
    }
    reachability.answered(SERVER);
    reachability.answered(SERVER);
  });
  assert.deepEqual(lines, [
    `${AWAY}"connection refused"`,
    `INFO  watch: The API server answers again server=${SERVER} awaySeconds=42`,
  ]);
});

Deno.test("Reachability leaves other errors to its caller", async () => {
  const lines = await logged((reachability) => {
    assert.equal(reachability.lost("services", new Error("403")), false);
    reachability.answered(SERVER);
  });
  assert.deepEqual(lines, []);
});

Deno.test("Reachability tells when the reason becomes another, and of the next time", async () => {
  const lines = await logged(async (reachability, clock) => {
    reachability.lost("services", refused());
    reachability.lost("nodes", refused("it closed the connection"));
    await clock.advance(10_000);
    reachability.lost("services", refused("host name not found"));
    reachability.answered(SERVER);
    reachability.lost("services", refused("host name not found"));
  });
  assert.deepEqual(lines, [
    `${AWAY}"connection refused"`,
    `${AWAY}"host name not found"`,
    `INFO  watch: The API server answers again server=${SERVER} awaySeconds=10`,
    `${AWAY}"host name not found"`,
  ]);
});

/** The pictures of proxy/explain/README.md are what their commands print. */
import assert from "node:assert/strict";
import { REPOSITORY, runKubePortal } from "../support/kube_portal.ts";

const README = await Deno.readTextFile(`${REPOSITORY}proxy/explain/README.md`);

/** A command, and the block that follows it. */
const SHOWN =
  /```sh\ndeno task start ([\s\S]*?)\n```\n\n```\w+\n([\s\S]*?)\n```/g;

for (const [, command = "", want = ""] of README.matchAll(SHOWN)) {
  const args = command.replaceAll("\\\n", " ").split(/\s+/).map((arg) =>
    arg.startsWith("test/") ? REPOSITORY + arg : arg
  );
  Deno.test(`README shows what is printed: ${args.slice(0, 4).join(" ")}`, async () => {
    const { stdout, stderr } = await runKubePortal(args);
    assert.equal(stdout.trimEnd(), want, stderr);
  });
}

Deno.test("README shows every mode, and what is wrong", () => {
  const commands = [...README.matchAll(SHOWN)].map(([, command]) => command);
  assert.ok(commands.length >= 7);
});

/**
 * Whether a built program works: that it is the version it should be, that the
 * demo does all it should, and that a connection goes through the `splice`
 * engine, whose thread is started from the program's own file. The same for a
 * binary and for a file of JavaScript.
 *
 * @module
 */
import assert from "node:assert/strict";
import manifest from "../../deno.json" with { type: "json" };
import { Child } from "../support/child.ts";
import {
  kubeService,
  kubeSlice,
  manifest as yaml,
} from "../support/kube_objects.ts";
import { freePort } from "../support/kube_portal.ts";
import {
  httpEndpoints,
  loopbackRange,
  whoAnswers,
} from "../support/loopback.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

/** The program and its first arguments: `["./kube-portal"]`. */
export type Program = readonly [string, ...string[]];

const TIMEOUT_MS = 60_000;

/** @throws {assert.AssertionError} naming what is wrong */
export async function checkProgram(program: Program): Promise<void> {
  const version = await run(program, ["version"]);
  assert.match(
    version,
    new RegExp(`^kube-portal v${RegExp.escape(manifest.version)} `),
  );
  const demo = await run(program, [
    "demo",
    "--once",
    `--apiserver-port=${freePort()}`,
    "--healthz-bind-address=",
    "--metrics-bind-address=",
  ]);
  assert.match(demo, /\nAll of it was right\.\n$/);
  if (Deno.build.os === "linux") await checkSplice(program);
}

async function run(
  [command, ...first]: Program,
  args: readonly string[],
): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(command, {
    args: [...first, ...args],
    stdin: "null",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).output();
  const decoder = new TextDecoder();
  const out = decoder.decode(stdout);
  assert.equal(code, 0, `${args[0]}: ${out}${decoder.decode(stderr)}`);
  return out;
}

async function checkSplice([command, ...first]: Program): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const range = loopbackRange();
  const ip = `${range}.1.1`;
  const { port, addresses } = stack.use(
    httpEndpoints("web", [`${range}.200.1`]),
  );
  const folder = stack.use(await temporaryFolder());
  await folder.write(
    "web.yaml",
    yaml(
      kubeService("web", ip, { http: 8080 }),
      kubeSlice("web", addresses, { http: port }),
    ),
  );
  const proxy = stack.use(
    new Child([
      command,
      ...first,
      "--engine=splice",
      "--steer=none",
      `--manifests=${folder.path}`,
      "--healthz-bind-address=",
      "--metrics-bind-address=",
    ]),
  );
  await proxy.waitFor(" Ready ");
  assert.equal(await whoAnswers(ip, 8080), "web-1", proxy.output);
}

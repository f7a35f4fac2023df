/**
 * Long work on a terminal and in a log: a list that does not come, and a
 * connection that does not end.
 */
import assert from "node:assert/strict";
import { Child } from "../support/child.ts";
import { kubeService, kubeSlice, manifest } from "../support/kube_objects.ts";
import { REPOSITORY } from "../support/kube_portal.ts";
import {
  connect,
  hear,
  httpEndpoints,
  loopbackRange,
  say,
} from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const RUN = `deno run --no-prompt --allow-net --allow-read --allow-env \
--allow-sys=hostname,networkInterfaces --allow-run ${REPOSITORY}main.ts`;
const QUIET = "--healthz-bind-address= --metrics-bind-address= --steer=none";

/** As a shell with a terminal starts it, or one whose output is a pipe. */
function start(isTerminal: boolean, args: string): Child {
  const command = `exec ${RUN} ${QUIET} ${args}`;
  const env = {
    PATH: `${Deno.execPath().replace(/\/[^/]*$/, "")}:${Deno.env.get("PATH")}`,
    HOME: "/nonexistent",
    DENO_DIR: Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno`,
    DENO_NO_UPDATE_CHECK: "1",
  };
  return isTerminal
    ? new Child(["script", "-qec", command, "/dev/null"], { env })
    : new Child(["sh", "-c", command], { env });
}

testWith(
  [program("script")],
  "run shows on a terminal what it is waiting for, and nothing of that in a log",
  async () => {
    // Accepts, and never answers.
    using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const args = `--master=http://127.0.0.1:${silent.addr.port}`;
    await using log = start(false, args);
    await log.waitFor("userspace proxy mode");
    // It began later: what it shows, the other one would have shown by now.
    await using terminal = start(true, args);
    await terminal.waitFor("Listing services");
    assert.doesNotMatch(log.output, /Listing services/);
    assert.ok(!log.output.includes("\x1b"));
  },
);

testWith(
  [program("script")],
  "run shows on a terminal how many connections it drains, and nothing of that in a log",
  async () => {
    await using stack = new AsyncDisposableStack();
    const range = loopbackRange();
    const web = stack.use(httpEndpoints("web", [`${range}.200.1`]));
    const folder = stack.use(await temporaryFolder());
    await folder.write(
      "web.yaml",
      manifest(
        kubeService("web", `${range}.1.1`, { http: 8080 }),
        kubeSlice("web", web.addresses, { http: web.port }),
      ),
    );
    const args = `--manifests=${folder.path} --drain-timeout=2s`;
    for (const isTerminal of [true, false]) {
      await using proxy = start(isTerminal, args);
      await proxy.waitFor(" Ready ");
      using open = await connect(`${range}.1.1`, 8080);
      // Answered, and kept for the next request.
      await say(open, "GET / HTTP/1.1\r\nHost: web\r\n\r\n");
      assert.match(await hear(open), /^HTTP\/1\.1 200 /);
      const { pid } = proxy;
      // `script` passes Ctrl-C on, as a terminal does.
      if (isTerminal) await proxy.write("\x03");
      else Deno.kill(pid, "SIGTERM");
      await proxy.waitFor(" Stopped");
      const shows = /Draining: 1 connections are open, [12] s are left/;
      if (isTerminal) assert.match(proxy.output, shows);
      else assert.doesNotMatch(proxy.output, /Draining:/);
    }
  },
);

/** What must not be read anywhere: credentials, in whatever goes wrong. */
import assert from "node:assert/strict";
import { createApiServer } from "../../watch/apiserver/mod.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { eventually, loopbackRange } from "../support/loopback.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const TOKEN = "s3cret-t0ken-that-nobody-should-read";

for (const from of ["the kubeconfig", "a plugin"]) {
  Deno.test(`a token of ${from} is in no line of the log at -v=10, refused or not`, async () => {
    await using stack = new AsyncDisposableStack();
    const server = stack.use(
      createApiServer({ serviceCIDRs: [`${loopbackRange()}.0.0/17`] }),
    );
    const { url } = stack.use(await server.listen());
    for (const status of [401, 403, 500]) server.faults.respondWith({ status });
    const folder = stack.use(await temporaryFolder());
    const credential = JSON.stringify({
      apiVersion: "client.authentication.k8s.io/v1",
      kind: "ExecCredential",
      status: { token: TOKEN },
    });
    await folder.write("credential.json", credential);
    const plugin = {
      apiVersion: "client.authentication.k8s.io/v1",
      command: "cat",
      args: [`${folder.path}/credential.json`],
      interactiveMode: "Never",
    };
    await folder.write(
      "config",
      JSON.stringify({
        apiVersion: "v1",
        kind: "Config",
        clusters: [{ name: "c", cluster: { server: url } }],
        users: [{
          name: "u",
          user: from === "a plugin" ? { exec: plugin } : { token: TOKEN },
        }],
        contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
        "current-context": "x",
      }),
    );
    const proxy = stack.use(startKubePortal([
      `--kubeconfig=${folder.path}/config`,
      "--hostname-override=node-1",
      "--healthz-bind-address=",
      "--metrics-bind-address=",
      "-v=10",
    ]));
    await proxy.waitFor(" Ready ");
    await eventually(
      "every wrong answer was given",
      () => server.faults.requests.length,
      (count) => count >= 6,
    );
    assert.match(proxy.output, /401|403|500/);
    assert.ok(!proxy.output.includes(TOKEN), proxy.output);
  });
}

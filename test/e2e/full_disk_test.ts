/** A log that cannot be written keeps nobody from being served. */
import assert from "node:assert/strict";
import { kubeService, kubeSlice, manifest } from "../support/kube_objects.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { eventually, loopbackRange } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { echoServer, text } from "../support/tcp.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

testWith(
  [program("sh")],
  "with its log on a full disk the proxy serves, and follows changes",
  async () => {
    await using stack = new AsyncDisposableStack();
    const server = stack.use(echoServer());
    const folder = stack.use(await temporaryFolder());
    const range = loopbackRange();
    const write = (name: string, ip: string) =>
      folder.write(
        `${name}.yaml`,
        manifest(
          kubeService(name, ip, { http: 8080 }),
          kubeSlice(name, ["127.0.0.1"], { http: server.address.port }),
        ),
      );
    await write("web", `${range}.1.1`);
    stack.use(startKubePortal([
      `--manifests=${folder.path}`,
      "--healthz-bind-address=",
      "--metrics-bind-address=",
      "-v=4",
    ], {
      // Every write to it fails with ENOSPC.
      prefix: ["sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh"],
    }));
    await eventually("web answers", () => echo(`${range}.1.1`), Boolean);
    await write("later", `${range}.1.2`);
    await eventually("later answers", () => echo(`${range}.1.2`), Boolean);
    assert.ok(await echo(`${range}.1.1`));
  },
);

async function echo(hostname: string): Promise<boolean> {
  try {
    using connection = await Deno.connect({ hostname, port: 8080 });
    await connection.write(text("ping"));
    return await connection.read(new Uint8Array(4)) === 4;
  } catch {
    return false;
  }
}

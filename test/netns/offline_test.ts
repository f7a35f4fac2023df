/**
 * A machine without a route to anywhere, as on a train: rules are not asked
 * there for what the node itself sends.
 *
 * @module
 */
import assert from "node:assert/strict";
import { kubeService, kubeSlice, manifest } from "../support/kube_objects.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { program, testWith } from "../support/needs.ts";
import { netns, Network } from "../support/netns.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

testWith(
  [netns, program("iptables")],
  "run --steer auto takes route where no route leads to Services, and redirect where one does",
  async () => {
    await using stack = new AsyncDisposableStack();
    const { node } = stack.use(await Network.create({ pods: 0 }));
    await node.run(["ip", "route", "flush", "default"]).catch(() => {});
    const folder = stack.use(await temporaryFolder());
    await folder.write(
      "web.yaml",
      manifest(
        kubeService("web", "10.96.0.10", { http: 80 }),
        kubeSlice("web", ["127.0.0.1"], { http: 10_256 }),
      ),
    );
    const run = async (log: RegExp): Promise<void> => {
      await using proxy = startKubePortal([
        "--steer=auto",
        "--engine=portable",
        "--service-cidr=10.96.0.0/16",
        "--cleanup-on-exit",
        `--manifests=${folder.path}`,
      ], { namespace: node });
      await proxy.waitFor(" Ready ");
      assert.match(proxy.output, log);
    };
    await run(
      /Steering by route: .* not_redirect="[^"]*no route of the node leads to 10\.96\.0\.0/,
    );
    await node.run([
      "ip",
      "link",
      "add",
      "out0",
      "type",
      "veth",
      "peer",
      "name",
      "out1",
    ]);
    for (const end of ["out0", "out1"]) {
      await node.run(["ip", "link", "set", end, "up"]);
    }
    await node.run(["ip", "route", "add", "default", "dev", "out0"]);
    await run(/Steering by redirect: /);
  },
);

/**
 * The whole program on a node that had another proxy before: kube-proxy's
 * rules are named and left alone, and those of our own other strategies go.
 */
import assert from "node:assert/strict";
import type { Child } from "../support/child.ts";
import { kubeService, kubeSlice, manifest } from "../support/kube_objects.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { eventually } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { netns, Network } from "../support/netns.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const NAT = new URL(
  "../fixture/golden/1.36-iptables.iptables-nat.txt",
  import.meta.url,
);

testWith(
  [netns, program("iptables-restore"), program("nft"), program("conntrack")],
  "run names what kube-proxy left in each of its modes, and takes the place of its own other strategy",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const net = stack.use(await Network.create({ pods: 1 }));
    const { node, pods: [pod] } = net;
    assert.ok(pod !== undefined);
    // Rules with matches that need modules of their own are none of the point.
    const rules = (await Deno.readTextFile(NAT)).split("\n")
      .filter((line) => !/-m (recent|nfacct|statistic)/.test(line)).join("\n");
    await node.run(["iptables-restore"], { stdin: rules });
    await node.run(["nft", "add", "table", "ip", "kube-proxy"]);
    // A bridge will do: not every kernel has dummy devices.
    await node.run(["ip", "link", "add", "kube-ipvs0", "type", "bridge"]);
    const left = async () =>
      (await node.run(["iptables-save", "-t", "nat"])).split("\n")
        .filter((line) => /KUBE-(SERVICES|SVC|SEP)/.test(line));
    const before = await left();

    const folder = stack.use(await temporaryFolder());
    const ip = "10.96.0.10";
    const web = kubeService("web", ip, { http: 80 });
    const slice = kubeSlice("web", [pod.ipv4], { http: 8080 });
    await folder.write("web.yaml", manifest(web, slice));
    stack.use(await pod.endpoint([`tcp/${pod.ipv4}/8080`]));
    const start = async (steer: string): Promise<Child> => {
      const proxy = startKubePortal([
        `--steer=${steer}`,
        "--service-cidr=10.96.0.0/16",
        "--healthz-bind-address=",
        "--metrics-bind-address=",
        `--manifests=${folder.path}`,
      ], { namespace: node });
      stack.use(proxy);
      await proxy.waitFor(" Ready ");
      return proxy;
    };
    const routes = () =>
      node.run(["ip", "route", "show", "table", "local", "proto", "107"]);
    const reaches = async () =>
      assert.match(await pod.dial("tcp", ip, { port: 80 }), /^pod1 /);

    await t.step("kube-proxy's", async () => {
      const proxy = await start("route");
      const warnings = proxy.output.split("\n").filter((line) =>
        line.includes("kube-proxy is on this machine too, or was")
      );
      assert.equal(warnings.length, 3);
      for (const what of ["KUBE-SERVICES", "kube-ipvs0", '"ip kube-proxy"']) {
        const of = warnings.filter((line) =>
          line.includes(what.replaceAll('"', ""))
        );
        assert.equal(of.length, 1, what);
        assert.match(of[0] ?? "", /kube-proxy --cleanup/);
      }
      assert.deepEqual(await left(), before);
      assert.match(await routes(), /10\.96\.0\.0\/16/);
      await reaches();
      proxy.kill("SIGKILL");
      await proxy.ended;
    });

    await t.step("our own, from route to redirect and back", async () => {
      const redirect = await start("redirect");
      assert.doesNotMatch(await routes(), /10\.96\./);
      await reaches();
      redirect.kill("SIGKILL");
      await redirect.ended;
      const rules = () => node.run(["iptables-save", "-t", "nat"]);
      assert.match(await rules(), /-A KUBE-PORTALS-CONTAINER .*DNAT/);
      const route = await start("route");
      assert.match(await routes(), /10\.96\.0\.0\/16/);
      assert.doesNotMatch(await rules(), /-A KUBE-PORTALS-CONTAINER /);
      await reaches();
      const beside = await start("none");
      assert.match(await routes(), /10\.96\.0\.0\/16/);
      beside.kill("SIGKILL");
      route.kill("SIGKILL");
      await Promise.all([beside.ended, route.ended]);
    });

    await t.step(
      "our own, from route to none, once nobody steers",
      async () => {
        assert.match(await routes(), /10\.96\.0\.0\/16/);
        await start("none");
        await eventually("no routes", routes, (all) => !all.includes("10.96."));
        assert.deepEqual(await left(), before);
      },
    );
  },
);

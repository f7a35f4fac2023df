/**
 * The whole program on a node, in network namespaces: `--steer route`, packets
 * from pods and from the node itself, and what it leaves behind.
 */
import assert from "node:assert/strict";
import type { Child } from "../support/child.ts";
import {
  type KubeObject,
  kubeService,
  kubeSlice,
  manifest,
} from "../support/kube_objects.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { eventually } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import {
  type TemporaryFolder,
  temporaryFolder,
} from "../support/temporary_folder.ts";

const CIDRS = ["10.96.0.0/16", "fd00:96::/112"];
const WEB = ["10.96.0.10", "fd00:96::10"] as const;
const OWN = ["10.96.0.20", "fd00:96::20"] as const;
const EMPTY = ["10.96.0.30", "fd00:96::30"] as const;
/** Port of the Services, port of the endpoints. */
const PORT = 80;
const POD_PORT = 8080;
const REFUSED = "error: ConnectionRefused";

function routed(
  node: Namespace,
  ...args: readonly string[]
): Child {
  return startKubePortal([
    "--steer=route",
    "--healthz-bind-address=127.0.0.1:10256",
    ...args,
  ], { namespace: node });
}

function ipOf(pod: Namespace, index: number): string {
  return index === 0 ? pod.ipv4 : pod.ipv6;
}

/** A Service of each family in `ips`, and a slice of these pods for each. */
function service(
  name: string,
  ips: readonly string[],
  pods: readonly Namespace[],
): KubeObject[] {
  return ips.flatMap((ip, index) => {
    const ofFamily = index === 0 ? name : `${name}-6`;
    const addresses = pods.map((pod) => ipOf(pod, index));
    return [
      kubeService(ofFamily, ip, { http: PORT }),
      ...(pods.length === 0
        ? []
        : [kubeSlice(ofFamily, addresses, { http: POD_PORT })]),
    ];
  });
}

interface Stage {
  readonly net: Network;
  readonly pods: readonly [Namespace, Namespace];
  readonly folder: TemporaryFolder;
}

/** A node with two pods that answer, and a folder with three Services. */
async function stage(stack: AsyncDisposableStack): Promise<Stage> {
  const net = stack.use(await Network.create());
  const [pod1, pod2] = net.pods;
  assert.ok(pod1 !== undefined && pod2 !== undefined);
  for (const pod of [pod1, pod2]) {
    stack.use(
      await pod.endpoint([
        `tcp/${pod.ipv4}/${POD_PORT}`,
        `tcp/${pod.ipv6}/${POD_PORT}`,
      ]),
    );
  }
  const folder = stack.use(await temporaryFolder());
  await folder.write(
    "web.yaml",
    manifest(...service("web", WEB, [pod1, pod2])),
  );
  await folder.write("own.yaml", manifest(...service("own", OWN, [pod1])));
  await folder.write("empty.yaml", manifest(...service("empty", EMPTY, [])));
  return { net, pods: [pod1, pod2], folder };
}

/** The endpoint that answers, or the error. */
async function who(
  from: Namespace,
  ip: string,
  port = PORT,
): Promise<string> {
  const reply = await from.dial("tcp", ip, { port, text: "hello" });
  if (reply.startsWith("error:")) return reply;
  assert.match(reply, /\nhello$/);
  return reply.split(" ")[0] ?? "";
}

/** Routes to the Service CIDRs that stand now. */
async function routes(node: Namespace): Promise<string[]> {
  const both = await node.run(["ip", "-4", "route", "show", "table", "local"]) +
    await node.run(["ip", "-6", "route", "show", "table", "local"]);
  return CIDRS.filter((cidr) => both.includes(`local ${cidr} dev lo`));
}

/** Without link-local ones, which the kernel adds when it sees fit. */
async function allRoutes(node: Namespace): Promise<string[]> {
  const routes = await node.run(["ip", "route", "show", "table", "all"]);
  return routes.split("\n").filter((route) => !route.includes("fe80::"));
}

/** Leaves by itself, with 0. */
async function stop(proxy: Child): Promise<void> {
  proxy.kill("SIGTERM");
  const { code } = await proxy.status;
  await proxy.ended;
  assert.equal(code, 0, proxy.output);
}

testWith(
  [netns],
  "run --steer route: pods and the node reach Services, and nothing else",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const { net: { node }, pods, folder } = await stage(stack);
    const [pod1] = pods;
    const proxy = stack.use(routed(
      node,
      `--manifests=${folder.path}`,
      `--service-cidr=${CIDRS.join()}`,
    ));
    await proxy.waitFor(" Ready ");

    for (const [index, family] of ["IPv4", "IPv6"].entries()) {
      await t.step(
        `${family}: every client finds both endpoints in turn`,
        async () => {
          const ip = WEB[index] ?? "";
          for (const client of [...pods, node]) {
            const answers = [await who(client, ip), await who(client, ip)];
            assert.deepEqual(answers.sort(), ["pod1", "pod2"], client.name);
          }
        },
      );
      await t.step(
        `[3.11, 12.5] ${family}: a pod reaches itself through its Service`,
        async () => {
          assert.equal(await who(pod1, OWN[index] ?? ""), "pod1");
        },
      );
      await t.step(`${family}: what nobody serves is refused`, async () => {
        for (const client of [pod1, node]) {
          assert.equal(await who(client, WEB[index] ?? "", 81), REFUSED);
          assert.equal(await who(client, EMPTY[index] ?? ""), REFUSED);
        }
      });
    }

    await t.step(
      "a changed slice counts from the next connection on",
      async () => {
        await folder.write(
          "own.yaml",
          manifest(...service("own", OWN, [pods[1]])),
        );
        for (const ip of OWN) {
          await eventually(
            `pod2 answers on ${ip}`,
            () => who(pod1, ip),
            (seen) => seen === "pod2",
          );
        }
        await folder.write(
          "empty.yaml",
          manifest(...service("empty", EMPTY, pods)),
        );
        await proxy.waitFor("added service port default/empty:http");
        assert.match(await who(node, EMPTY[0]), /^pod[12]$/);
      },
    );

    await t.step("its health is good", async () => {
      const url = "http://127.0.0.1:10256/healthz";
      const answer = await node.run(["curl", "-fsS", url]);
      assert.equal(JSON.parse(answer).healthy, true);
    });
  },
);

testWith(
  [netns],
  "run --steer route leaves its routes to the next start, cleanup takes them away",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const { net: { node }, pods: [pod1], folder } = await stage(stack);
    const args = [
      `--manifests=${folder.path}`,
      `--service-cidr=${CIDRS.join()}`,
    ];
    const untouched = await allRoutes(node);
    assert.deepEqual(await routes(node), []);

    await t.step(
      "stopped, the routes stay, and ports are refused",
      async () => {
        await using first = routed(node, ...args);
        await first.waitFor(" Ready ");
        await stop(first);
        assert.deepEqual(await routes(node), CIDRS);
        assert.equal(await who(pod1, WEB[0]), REFUSED);
      },
    );
    await t.step("started again, it serves as before", async () => {
      await using second = routed(node, ...args);
      await second.waitFor(" Ready ");
      assert.match(await who(pod1, WEB[0]), /^pod[12]$/);
      assert.deepEqual(await routes(node), CIDRS);
      second.kill("SIGKILL");
      await second.status;
      assert.deepEqual(await routes(node), CIDRS);
    });
    await t.step("cleanup removes them, twice", async () => {
      for (const command of [["cleanup"], ["--cleanup"]]) {
        await using cleanup = startKubePortal(command, { namespace: node });
        assert.equal((await cleanup.status).code, 0);
        await cleanup.ended;
        assert.equal(
          cleanup.output,
          "Nothing of kube-portal's steering is left on this machine.\n",
        );
        assert.deepEqual(await routes(node), []);
      }
    });
    await t.step("--cleanup-on-exit leaves the machine as it was", async () => {
      await using third = routed(node, ...args, "--cleanup-on-exit");
      await third.waitFor(" Ready ");
      assert.match(await who(pod1, WEB[1]), /^pod[12]$/, third.output);
      await stop(third);
      assert.deepEqual(await allRoutes(node), untouched);
    });
    await t.step("and so it does if told to stop while it starts", async () => {
      // Asked for what kube-proxy has left, when the routes are there.
      await folder.write(
        "nft",
        `#!/bin/sh
ip route show table local proto 107 | grep -q . && mkdir "\${0%/*}/asked" 2>/dev/null && exec sleep 60
PATH="\${PATH#*:}" exec nft "$@"
`,
        { mode: 0o755 },
      );
      await using fourth = startKubePortal([
        "--steer=route",
        "--healthz-bind-address=",
        ...args,
        "--cleanup-on-exit",
      ], {
        namespace: node,
        prefix: ["/usr/bin/env", `PATH=${folder.path}:${Deno.env.get("PATH")}`],
      });
      // Not before: then the cleanup would be the one that waits.
      await eventually(
        "it asks",
        () => Deno.stat(`${folder.path}/asked`).catch(() => undefined),
        (found) => found?.isDirectory === true,
      );
      assert.equal((await routes(node)).length, 2);
      await stop(fourth);
      assert.deepEqual(await allRoutes(node), untouched, fourth.output);
    });
  },
);

testWith(
  [netns, program("curl")],
  "[1.8] run --steer route takes the Service CIDR from an API server on the node",
  async () => {
    await using stack = new AsyncDisposableStack();
    const { net: { node }, pods: [pod1], folder } = await stage(stack);
    const server = "http://127.0.0.1:8001";
    const apiserver = stack.use(startKubePortal([
      "apiserver",
      `--manifests=${folder.path}`,
      `--service-cidr=${CIDRS.join()}`,
    ], { namespace: node }));
    await apiserver.waitFor("nothing is kept when it ends");
    assert.doesNotMatch(apiserver.output, /Cannot load/);
    const proxy = stack.use(routed(node, `--master=${server}`));
    await proxy.waitFor(" Ready ");
    assert.deepEqual(await routes(node), CIDRS);
    for (const ip of [...OWN, ...WEB]) {
      assert.match(await who(pod1, ip), /^pod[12]$/);
    }
    await node.run([
      "curl",
      "-fsS",
      "-XDELETE",
      `${server}/api/v1/namespaces/default/services/own`,
    ]);
    await proxy.waitFor("removed service port default/own:http");
    assert.equal(await who(pod1, OWN[0]), REFUSED);
    assert.equal(await who(pod1, OWN[1]), "pod1");
  },
);

testWith(
  [netns, program("iptables-save")],
  "run --steer route redirects the Service port that a wildcard listener holds",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const { net: { node }, pods: [pod1, pod2], folder } = await stage(stack);
    stack.use(await pod1.endpoint([`udp/${pod1.ipv4}/${POD_PORT}`]));
    const ports = [
      { name: "http", port: 8081, protocol: "TCP" },
      { name: "dns", port: 8053, protocol: "UDP" },
    ];
    const object = kubeService("other", "10.96.0.40", {});
    const slice = kubeSlice("other", [pod1.ipv4], {});
    await folder.write(
      "other.yaml",
      manifest(
        { ...object, spec: { clusterIP: "10.96.0.40", ports } },
        { ...slice, ports: ports.map((each) => ({ ...each, port: POD_PORT })) },
      ),
    );
    const held = ["tcp/0.0.0.0/8081", "udp/0.0.0.0/8053"];
    const holder = stack.use(await node.endpoint(held, "host"));
    const ask = (from: Namespace, ip: string) =>
      Promise.all([
        from.dial("tcp", ip, { port: 8081, text: "x" }),
        from.dial("udp", ip, { port: 8053, text: "x" }),
      ]);
    const proxy = stack.use(routed(
      node,
      `--manifests=${folder.path}`,
      `--service-cidr=${CIDRS.join()}`,
    ));
    await proxy.waitFor(" Ready ");
    assert.match(await who(pod1, WEB[0]), /^pod[12]$/);

    await t.step(
      "a process that was there before us keeps its port",
      async () => {
        // By itself, with the next pass.
        await proxy.waitFor("added service port default/other:http");
        await proxy.waitFor("added service port default/other:dns");
        for (const client of [pod2, node]) {
          const answers = await ask(client, "10.96.0.40");
          for (const answer of answers) assert.match(answer, /^pod1 .*\nx$/);
        }
        for (const answer of await ask(pod2, node.ipv4)) {
          assert.match(answer, /^host .*\nx$/);
        }
        const warnings = [...proxy.output.matchAll(/^.* WARN .*$/gm)];
        assert.equal(warnings.length, 2, proxy.output);
        for (const [warning] of warnings) {
          assert.match(
            warning,
            /Cannot listen on 10\.96\.0\.40:80\d\d\/(TCP|UDP) for default\/other:(http|dns); trying again reason=/,
          );
        }
      },
    );
    await t.step("one that comes after us finds the port taken", async () => {
      await using late = node.startDeno("test/support/endpoint.ts", [
        "late",
        `tcp/0.0.0.0/${PORT}`,
      ]);
      assert.notEqual((await late.status).code, 0);
      await late.ended;
      assert.match(late.output, /AddrInUse/);
      assert.match(await who(pod2, WEB[0]), /^pod[12]$/);
    });
    await t.step("a restart goes on so", async () => {
      await stop(proxy);
      const next = stack.use(routed(
        node,
        `--manifests=${folder.path}`,
        `--service-cidr=${CIDRS.join()}`,
      ));
      await next.waitFor(" Ready ");
      for (const answer of await ask(pod2, "10.96.0.40")) {
        assert.match(answer, /^pod1 .*\nx$/);
      }
      holder.kill("SIGKILL");
      await holder.status;
      for (const answer of await ask(pod2, "10.96.0.40")) {
        assert.match(answer, /^pod1 .*\nx$/);
      }
      await stop(next);
      await using cleanup = startKubePortal(["cleanup"], { namespace: node });
      assert.equal((await cleanup.status).code, 0);
      assert.deepEqual(await routes(node), []);
    });
  },
);

/**
 * What `kube-portal doctor` finds: on a machine with and without privileges,
 * and in a cluster that allows little.
 */
import assert from "node:assert/strict";
import { dialFinding } from "../../proxy/commands/doctor_dial.ts";
import {
  type Finding,
  findingsText,
} from "../../proxy/commands/doctor_finding.ts";
import { type ApiServer, createApiServer } from "../../watch/apiserver/mod.ts";
import {
  kubeNode,
  kubeService,
  kubeSlice,
  manifest,
} from "../support/kube_objects.ts";
import {
  freePort,
  runKubePortal,
  startKubePortal,
} from "../support/kube_portal.ts";
import { httpEndpoints, loopbackRange } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { netns, Network } from "../support/netns.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

interface Report {
  readonly code: number;
  readonly ok: boolean;
  readonly findings: readonly Finding[];
}

async function doctor(...args: readonly string[]): Promise<Report> {
  const { code, stdout, stderr } = await runKubePortal([
    "doctor",
    "--json",
    ...args,
  ]);
  assert.equal(stderr, "");
  return { code, ...JSON.parse(stdout) };
}

function finding({ findings }: Report, check: string): Finding {
  const found = findings.find((finding) => finding.check === check);
  assert.ok(found !== undefined, `${check} is missing`);
  return found;
}

/** An API server with one Service that has an endpoint on loopback. */
async function cluster(stack: AsyncDisposableStack): Promise<{
  server: ApiServer;
  args: readonly string[];
}> {
  const range = loopbackRange();
  const server = stack.use(
    createApiServer({ serviceCIDRs: [`${range}.0.0/17`] }),
  );
  const { url } = stack.use(await server.listen());
  const { addresses, port } = stack.use(
    httpEndpoints("web", [`${range}.200.1`]),
  );
  server.create("nodes", kubeNode("node-1"));
  for (
    const [resource, object] of [
      ["services", kubeService("web", `${range}.1.1`, { http: 80 })],
      ["endpointslices", kubeSlice("web", addresses, { http: port })],
    ] as const
  ) {
    const metadata = { ...object.metadata, namespace: "default" };
    server.create(resource, { ...object, metadata });
  }
  return {
    server,
    args: [`--master=${url}`, "--hostname-override=node-1"],
  };
}

Deno.test("doctor: a cluster that allows everything", async () => {
  await using stack = new AsyncDisposableStack();
  const { args } = await cluster(stack);
  const report = await doctor(...args);
  for (
    const check of [
      "API server",
      "Service CIDRs",
      "own Node",
      "NetworkPolicies",
      "endpoints",
    ]
  ) {
    assert.equal(finding(report, check).level, "ok", check);
  }
  const access = report.findings.filter(({ check }) => check.startsWith("may"));
  assert.equal(access.length, 5);
  assert.ok(access.every(({ level }) => level === "ok"));
  assert.match(finding(report, "endpoints").found, /^1 of 1 tried/);
});

Deno.test("doctor: access that is not granted fails, or is told where the proxy runs without", async () => {
  await using stack = new AsyncDisposableStack();
  const { server, args } = await cluster(stack);
  server.faults.respondWith({
    status: 201,
    times: 100,
    body: JSON.stringify({ status: { allowed: false } }),
    match: ({ url }) => url.includes("selfsubjectaccessreviews"),
  });
  const report = await doctor(...args);
  assert.equal(report.code, 1);
  assert.equal(report.ok, false);
  const access = report.findings.filter(({ check }) => check.startsWith("may"));
  assert.deepEqual(
    access.map(({ level, found }) => `${level} ${found.split(":")[0]}`),
    [
      "fail services",
      "fail endpointslices",
      "fail nodes",
      "warn servicecidrs",
      "warn events",
    ],
  );
  assert.ok(access.every(({ advice }) => advice?.includes("daemonset")));
});

Deno.test("doctor counts NetworkPolicies whose peers are pods", async () => {
  await using stack = new AsyncDisposableStack();
  const { server, args } = await cluster(stack);
  const policy = (name: string, spec: unknown) => ({
    metadata: { name, namespace: "shop" },
    spec,
  });
  const items = [
    policy("from-pods", { ingress: [{ from: [{ podSelector: {} }] }] }),
    policy("to-pods", { egress: [{ to: [{ namespaceSelector: {} }] }] }),
    policy("from-net", {
      ingress: [{ from: [{ ipBlock: { cidr: "192.0.2.0/24" } }] }],
    }),
    policy("all", { ingress: [{}] }),
    policy("nobody", {}),
  ];
  server.faults.respondWith({
    status: 200,
    body: JSON.stringify({ items }),
    match: ({ url }) => url.includes("networkpolicies"),
  });
  const { level, found } = finding(await doctor(...args), "NetworkPolicies");
  assert.equal(level, "warn");
  assert.match(found, /^2 name pods.*\(shop\/from-pods, shop\/to-pods\)/);
});

Deno.test("doctor: an API server that does not answer fails, and nothing else is asked", async () => {
  const port = freePort();
  const report = await doctor(`--master=http://127.0.0.1:${port}`);
  assert.equal(report.code, 1);
  const { level, found } = finding(report, "API server");
  assert.equal(level, "fail");
  assert.match(found, /connection refused/);
  assert.ok(!report.findings.some(({ check }) => check === "endpoints"));
});

Deno.test("doctor without a cluster looks at the machine, and says so", async () => {
  const report = await doctor("--steer=none");
  const { level, found } = finding(report, "cluster");
  assert.equal(level, "warn");
  assert.match(found, /^not looked at: Cannot find an API server/);
  assert.match(finding(report, "descriptors").found, /^\d+ at most/);
  const named = await doctor("--kubeconfig=/nonexistent");
  assert.equal(finding(named, "cluster").level, "fail");
  assert.equal(named.code, 1);
});

Deno.test("dialFinding(): silence everywhere is a pod network that is not routed here", async () => {
  const signal = AbortSignal.timeout(20_000);
  // No packet ever leaves for this address.
  const lost = { ip: "255.255.255.255", port: 80 };
  const refusing = { ip: "127.0.0.1", port: freePort() };
  const none = await dialFinding([lost, lost], signal);
  assert.equal(none.level, "fail");
  assert.match(none.found, /the pod network is not routed to this machine/);
  const some = await dialFinding([lost, refusing], signal);
  assert.equal(some.level, "warn");
  const all = await dialFinding([refusing], signal);
  assert.equal(all.level, "ok");
});

Deno.test("findingsText() puts what to do below what was found", () => {
  assert.equal(
    findingsText([
      { check: "ip", level: "ok", found: "there" },
      { check: "rules", level: "fail", found: "none", advice: "install" },
    ]),
    `ok    ip     there
fail  rules  none
             → install

1 failed, 0 to know about, 1 ok.
`,
  );
});

const OFF = "warn off (net.ipv4.ip_forward)";

testWith(
  [netns, program("setpriv"), program("iptables")],
  "doctor: without CAP_NET_ADMIN nothing can be steered; beside a proxy it names it",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const { node } = stack.use(await Network.create({ pods: 0 }));
    const look = async (args: string[], prefix: string[] = []) => {
      await using child = startKubePortal(["doctor", "--json", ...args], {
        namespace: node,
        prefix,
      });
      const { code } = await child.status;
      await child.ended;
      return { code, ...JSON.parse(child.output) } as Report;
    };
    const without = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];

    await t.step("everything is allowed", async () => {
      const report = await look([]);
      assert.equal(report.code, 0, JSON.stringify(report));
      assert.equal(finding(report, "CAP_NET_ADMIN").level, "ok");
      assert.equal(finding(report, "rules").level, "ok");
      assert.equal(finding(report, "health port").level, "ok");
    });
    await t.step("what forwarding lacks, for portal", async () => {
      await node.run(["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
      await node.run(["iptables", "-P", "FORWARD", "DROP"]);
      const report = await look(["--steer=portal"]);
      const { level, found } = finding(report, "forwarding");
      assert.equal(`${level} ${found.split(":")[0]}`, OFF);
      assert.match(
        finding(report, "FORWARD chain").found,
        /^drops what no rule lets pass \(the policy of iptables\)/,
      );
      await node.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
      await node.run(["iptables", "-P", "FORWARD", "ACCEPT"]);
      const better = await look(["--steer=portal"]);
      assert.equal(finding(better, "forwarding").found, "on");
      const checks = better.findings.map(({ check }) => check);
      assert.ok(!checks.includes("FORWARD chain"));
    });
    await t.step("--steer route without the capability", async () => {
      const report = await look(["--steer=route"], without);
      assert.equal(report.code, 1);
      assert.equal(finding(report, "CAP_NET_ADMIN").level, "fail");
      assert.equal(finding(report, "rules").level, "warn");
    });
    await t.step("--steer portal without CAP_SYS_ADMIN", async () => {
      const report = await look(["--steer=portal"], [
        ...without.slice(0, -1),
        "--bounding-set=-all,+net_admin",
      ]);
      assert.equal(report.code, 1);
      assert.equal(finding(report, "CAP_NET_ADMIN").level, "ok");
      assert.equal(finding(report, "CAP_SYS_ADMIN").level, "fail");
    });
    await t.step("auto without the capability", async () => {
      const report = await look([], without);
      assert.equal(report.code, 0, JSON.stringify(report));
      assert.equal(finding(report, "CAP_NET_ADMIN").level, "warn");
    });
    await t.step("beside a proxy", async () => {
      await using folder = await temporaryFolder();
      await folder.write(
        "web.yaml",
        manifest(kubeService("web", "10.96.0.10", { http: 80 })),
      );
      await using proxy = startKubePortal([
        "--steer=route",
        "--service-cidr=10.96.0.0/16",
        `--manifests=${folder.path}`,
      ], { namespace: node });
      await proxy.waitFor(" Ready ");
      const report = await look([]);
      assert.equal(report.code, 0, JSON.stringify(report));
      const other = finding(report, "other proxy");
      assert.equal(other.level, "warn");
      assert.match(other.found, /^kube-portal \(pid \d+\) steers/);
      assert.equal(finding(report, "health port").level, "warn");
    });
  },
);

/**
 * What the program says when it cannot do what was asked: one line that tells
 * what to do, on standard error, and exit code 1. And what it says of itself.
 */
import assert from "node:assert/strict";
import { runKubePortal } from "../support/kube_portal.ts";
import { program, testWith } from "../support/needs.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const KUBECONFIG = `apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
`;

/** Runs it, and gives back its one line, without its beginning. */
async function mistake(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runKubePortal(args);
  const what = `kube-portal ${args.join(" ")}`;
  assert.equal(stdout, "", what);
  assert.match(stderr, /^kube-portal: [A-Z][^\n]*[^.\n]\n$/, what);
  assert.equal(code, 1, what);
  return stderr.slice("kube-portal: ".length, -1);
}

const FLAG_MISTAKES: readonly (readonly [args: string, line: RegExp])[] = [
  ["frobnicate", /^Unknown command "frobnicate"; see kube-portal --help$/],
  ["help frobnicate", /^Unknown command "frobnicate"/],
  ["frobnicate --help", /^Unknown command "frobnicate"/],
  ["--frob", /^Unknown flag --frob\b/],
  ["-x", /^Unknown flag -x\b/],
  ["run stray", /^Unexpected argument "stray"/],
  ["--kubeconfig", /^Flag --kubeconfig needs a value/],
  ["--cleanup=maybe", /"maybe" for --cleanup: want true or false/],
  [
    "--steer=magic",
    /"magic" for --steer: want auto, portal, redirect, route, none/,
  ],
  ["--watch=never", /"never" for --watch: want auto, watch, poll/],
  ["--poll-interval=soon", /"soon" for --poll-interval: want a duration/],
  ["--poll-interval=0", /"0" for --poll-interval: want more than 0/],
  ["--drain-timeout=-1s", /"-1s" for --drain-timeout: want a duration/],
  ["--udp-timeout=0s", /"0s" for --udp-timeout: want more than 0/],
  ["--service-cidr=10.96.0.0", /"10.96.0.0" for --service-cidr: want a CIDR/],
  [
    "--healthz-bind-address=home",
    /"home" for --healthz-bind-address: must be IP:port/,
  ],
  ["--healthz-bind-address=127.0.0.1:99999", /must be a valid port/],
  ["--proxy-mode=ebpf", /"ebpf" for --proxy-mode: must be userspace, /],
  ["--oom-score-adj=low", /"low" for --oom-score-adj: must be a whole number/],
  ["-v=loud", /"loud" for --v: want a whole number from 0 to 10/],
  ["--logging-format=xml", /"xml" for --logging-format: want text, json/],
  ["--master=http://", /--master: want http\(s\):\/\/HOST:PORT/],
  ["--master=ftp://127.0.0.1", /ftp/],
  ["--manifests=x --master=http://127.0.0.1:1", /choose one source/],
  ["apiserver --port=http", /"http" for --port: want a whole number/],
  ["apiserver --service-cidr=x", /"x" for --service-cidr: want a CIDR/],
  ["apiserver --service-cidr=", /^Cannot use Service CIDRs "": .* is needed/],
  ["apiserver --kubeconfig=x", /^Unknown flag --kubeconfig\b/],
  ["demo --steer=none", /^Unknown flag --steer\b/],
  ["cleanup --steer=none", /^Unknown flag --steer\b/],
  ["version --short", /^Unknown flag --short\b/],
];

Deno.test("what cannot be meant is one line and exit code 1", async (t) => {
  for (const [args, line] of FLAG_MISTAKES) {
    await t.step(args, async () => {
      assert.match(await mistake(...args.split(" ")), line);
    });
  }
});

Deno.test("a kubeconfig that cannot be used is one line and exit code 1", async (t) => {
  await using folder = await temporaryFolder();
  const none = `${folder.path}/none`;
  const good = await folder.write("good", KUBECONFIG);
  await t.step("no file", async () => {
    assert.ok((await mistake(`--kubeconfig=${none}`)).includes(none));
  });
  await t.step("nothing says where the API server is", async () => {
    assert.match(await mistake(), /--kubeconfig|--master/);
  });
  await t.step("no such context", async () => {
    const line = await mistake(`--kubeconfig=${good}`, "--context=there");
    assert.match(line, /"there"/);
  });
  await t.step("no YAML", async () => {
    const bad = await folder.write("bad", "contexts: [\n  {");
    assert.ok((await mistake(`--kubeconfig=${bad}`)).includes(bad));
  });
  await t.step("no mapping", async () => {
    const bad = await folder.write("list", "- 1\n");
    assert.ok((await mistake(`--kubeconfig=${bad}`)).includes(bad));
  });
});

Deno.test("a folder of manifests that is not there is one line and exit code 1", async (t) => {
  await using folder = await temporaryFolder();
  const none = `${folder.path}/none`;
  const file = await folder.write("a.yaml", "");
  for (const command of ["run", "apiserver"]) {
    for (const path of [none, file]) {
      await t.step(
        `${command}: ${path === none ? "none" : "file"}`,
        async () => {
          const line = await mistake(command, `--manifests=${path}`);
          assert.ok(line.includes(path), line);
        },
      );
    }
  }
});

Deno.test("a port in use is one line and exit code 1", async (t) => {
  await using folder = await temporaryFolder();
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr;
  await t.step("run", async () => {
    assert.equal(
      await mistake(
        `--manifests=${folder.path}`,
        "--steer=none",
        `--healthz-bind-address=127.0.0.1:${port}`,
      ),
      `Cannot listen on 127.0.0.1:${port}: it is in use by another process; ` +
        "choose another with --healthz-bind-address",
    );
  });
  await t.step("apiserver", async () => {
    assert.equal(
      await mistake("apiserver", `--port=${port}`),
      `Cannot listen on 127.0.0.1:${port}: it is in use by another process; ` +
        "choose another with --port",
    );
  });
});

testWith(
  [program("setpriv"), program("ip")],
  "--steer route without the privilege is one line and exit code 1",
  async () => {
    await using folder = await temporaryFolder();
    const { code, stderr } = await runKubePortal([
      `--manifests=${folder.path}`,
      "--steer=route",
      "--service-cidr=198.18.96.0/24",
      "--healthz-bind-address=",
      "--metrics-bind-address=",
    ], { prefix: ["setpriv", "--bounding-set=-net_admin"] });
    assert.equal(code, 1, stderr);
    const lines = stderr.trim().split("\n");
    assert.match(
      lines.at(-1) ?? "",
      /^kube-portal: Cannot add the local route 198\.18\.96\.0\/24: .*CAP_NET_ADMIN/,
    );
    assert.doesNotMatch(stderr, / at .*\.ts:| WARN | ERROR /);
  },
);

Deno.test("-v=4 shows where an error comes from", async () => {
  const { code, stderr } = await runKubePortal([
    "--kubeconfig=/nonexistent/config",
    "-v=4",
  ]);
  assert.equal(code, 1);
  assert.match(stderr, /^kube-portal: .*\/nonexistent\/config/);
  assert.match(stderr, /\n +at .*\.ts:\d+/);
});

const COMMANDS = ["run", "demo", "apiserver", "cleanup", "version"];

Deno.test("--help, version and --version", async (t) => {
  await t.step("--help names every command", async () => {
    for (const args of [["--help"], ["-h"], ["help"]]) {
      const { code, stdout, stderr } = await runKubePortal(args);
      assert.deepEqual([code, stderr], [0, ""]);
      for (const command of COMMANDS) {
        assert.match(stdout, new RegExp(`^ +${command} +[A-Z]`, "m"));
      }
    }
  });
  for (const command of COMMANDS) {
    await t.step(`${command} --help`, async () => {
      const { code, stdout, stderr } = await runKubePortal([command, "--help"]);
      assert.deepEqual([code, stderr], [0, ""]);
      assert.match(
        stdout,
        new RegExp(`^Usage:\n +kube-portal \\[?${command}`, "m"),
      );
      assert.deepEqual(
        await runKubePortal(["help", command]),
        { code, stdout, stderr },
      );
    });
  }
  await t.step("version, --version", async () => {
    const version = await runKubePortal(["version"]);
    assert.equal(version.code, 0);
    assert.match(version.stdout, /^kube-portal v\d+\.\d+\.\d+ \(deno 2\./);
    assert.deepEqual(await runKubePortal(["--version"]), version);
  });
});

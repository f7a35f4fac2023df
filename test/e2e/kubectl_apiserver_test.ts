/**
 * Real kubectls against the embedded API server: the one on the PATH, and an
 * old one (Debian's 1.20), which asks for other things in other ways. Each has
 * a home of its own, since kubectl caches what a server said.
 */
import assert from "node:assert/strict";
import { type ApiServer, createApiServer } from "../../watch/apiserver/mod.ts";
import { findProgram, type Need, testWith } from "../support/needs.ts";

/** Debian's package kubernetes-client, unpacked by `dpkg -x` (`.ci/run` does). */
const OLD_KUBECTL = Deno.env.get("KUBECTL_OLD") ??
  new URL("../../.ci/out/kubectl-1.20/usr/bin/kubectl", import.meta.url)
    .pathname;
const TIMEOUT_MS = 60_000;

interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** One kubectl, one server, one folder that is its home. */
class Kubectl implements AsyncDisposable {
  readonly home = Deno.makeTempDirSync({ prefix: "kubectl-" });

  private constructor(
    readonly program: string,
    readonly server: ApiServer,
    readonly url: string,
  ) {}

  static async open(program: string): Promise<Kubectl> {
    const server = createApiServer();
    const { url } = await server.listen();
    return new Kubectl(program, server, url);
  }

  command(args: readonly string[], env: Record<string, string> = {}) {
    return new Deno.Command(this.program, {
      args: [`--server=${this.url}`, ...args],
      cwd: this.home,
      clearEnv: true,
      env: { HOME: this.home, PATH: Deno.env.get("PATH") ?? "", ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  }

  async run(args: string, env: Record<string, string> = {}): Promise<Output> {
    const { code, stdout, stderr } = await this.command(args.split(" "), env)
      .output();
    const decoder = new TextDecoder();
    return {
      code,
      stdout: decoder.decode(stdout),
      stderr: decoder.decode(stderr),
    };
  }

  /** Runs it, and says nothing but what it should. */
  async ok(args: string, env: Record<string, string> = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(args, env);
    assert.equal(code, 0, `kubectl ${args}: ${stdout}${stderr}`);
    assert.equal(stderr, "", `kubectl ${args} is quiet`);
    return stdout;
  }

  /** Runs it, and fails with one line. */
  async fails(args: string): Promise<string> {
    const { code, stderr } = await this.run(args);
    assert.notEqual(code, 0, `kubectl ${args} fails`);
    assert.match(stderr, /^[^\n]+\n$/, `kubectl ${args} tells it in a line`);
    return stderr.trim();
  }

  write(name: string, text: string): Promise<void> {
    return Deno.writeTextFile(`${this.home}/${name}`, text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    await Deno.remove(this.home, { recursive: true });
  }
}

const MANIFEST = `apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  clusterIP: 10.96.7.7
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: dns, port: 53, protocol: UDP}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
ports: [{name: http, port: 8080, protocol: TCP}]
---
apiVersion: v1
kind: Node
metadata: {name: node-1}
`;

type Steps = readonly [
  name: string,
  (kubectl: Kubectl) => Promise<void>,
][];

const STEPS: Steps = [
  ["apply creates, and the second time leaves alone", async (kubectl) => {
    await kubectl.write("web.yaml", MANIFEST);
    assert.equal(
      await kubectl.ok("apply -f web.yaml"),
      "service/web created\nendpointslice.discovery.k8s.io/web-1 created\nnode/node-1 created\n",
    );
    const version = kubectl.server.resourceVersion;
    assert.match(
      await kubectl.ok("apply -f web.yaml"),
      /^service\/web unchanged\n.*\nnode\/node-1 unchanged\n$/,
    );
    assert.equal(kubectl.server.resourceVersion, version);
  }],

  ["apply changes, and removes, what the file does", async (kubectl) => {
    await kubectl.write(
      "web.yaml",
      MANIFEST.replace("  - {name: dns, port: 53, protocol: UDP}\n", "")
        .replace("targetPort: 8080", "targetPort: 9090"),
    );
    assert.match(
      await kubectl.ok("apply -f web.yaml"),
      /^service\/web configured\n/,
    );
    const ports = await kubectl.ok("get svc web -o jsonpath={.spec.ports}");
    assert.deepEqual(JSON.parse(ports), [
      { name: "http", port: 80, protocol: "TCP", targetPort: 9090 },
    ]);
  }],

  ["get prints rows", async (kubectl) => {
    const rows = (await kubectl.ok("get svc -o wide")).split("\n");
    assert.match(
      rows[0]!,
      /^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE +SELECTOR$/,
    );
    assert.match(
      rows[2]!,
      /^web +ClusterIP +10\.96\.7\.7 +<none> +80\/TCP +\d+s +app=web$/,
    );
    assert.match(
      await kubectl.ok("get endpointslices,nodes"),
      /web-1 +IPv4 +8080 +127\.0\.0\.1 +\d+s\n\nNAME +STATUS +ROLES +AGE +VERSION *\nnode\/node-1 +Unknown +<none>/,
    );
    assert.match(await kubectl.ok("get ns -A"), /^default +Active/m);
    assert.match(
      await kubectl.ok("get svc -l app=web -o name"),
      /^service\/web$/m,
    );
  }],

  ["get prints YAML and JSON", async (kubectl) => {
    const yaml = await kubectl.ok("get svc web -o yaml");
    assert.match(yaml, /^apiVersion: v1\nkind: Service\nmetadata:\n/);
    assert.match(yaml, /^ {2}clusterIP: 10\.96\.7\.7$/m);
    const list = JSON.parse(await kubectl.ok("get svc -o json"));
    assert.equal(list.kind, "List");
    assert.equal(list.items[1].kind, "Service");
  }],

  ["get -w prints what happens", async (kubectl) => {
    const child = kubectl.command(["get", "svc", "-w"]).spawn();
    const reader = child.stdout.pipeThrough(new TextDecoderStream())
      .getReader();
    let seen = "";
    const until = async (pattern: RegExp) => {
      while (!pattern.test(seen)) {
        const { value, done } = await reader.read();
        assert.ok(!done, `kubectl get -w ended after:\n${seen}`);
        seen += value;
      }
    };
    await until(/^web /m);
    kubectl.server.create("services", {
      metadata: { name: "late" },
      spec: { ports: [{ port: 81 }] },
    });
    await until(/^late +ClusterIP +10\.96\.\S+ +<none> +81\/TCP/m);
    assert.equal(seen.match(/^NAME/gm)?.length, 1);
    child.kill();
    await reader.cancel();
    await Promise.all([child.stderr.cancel(), child.status]);
  }],

  ["describe shows addresses and events", async (kubectl) => {
    const { metadata } = kubectl.server.get("services", {
      namespace: "default",
      name: "web",
    });
    kubectl.server.create("events", {
      metadata: { name: "web.1", namespace: "default" },
      involvedObject: {
        kind: "Service",
        namespace: "default",
        name: "web",
        uid: metadata.uid,
      },
      type: "Warning",
      reason: "NoSuchPort",
      message: "Something to read",
      lastTimestamp: new Date().toISOString(),
    });
    const text = await kubectl.ok("describe svc web");
    assert.match(text, /^IP: +10\.96\.7\.7$/m);
    assert.match(text, /^ +Warning +NoSuchPort .*Something to read$/m);
    assert.match(await kubectl.ok("describe node node-1"), /^Name: +node-1$/m);
  }],

  ["patch: merge, strategic and JSON", async (kubectl) => {
    const patched = "service/web patched\n";
    const patch = async (type: string, patch: unknown) =>
      await kubectl.ok(
        `patch svc web --type=${type} -p ${JSON.stringify(patch)}`,
      );
    assert.equal(
      await patch("merge", { spec: { sessionAffinity: "ClientIP" } }),
      patched,
    );
    assert.equal(
      await patch("strategic", {
        spec: { ports: [{ port: 81, name: "more" }] },
      }),
      patched,
    );
    assert.equal(
      await patch("json", [
        { op: "replace", path: "/spec/ports/0/targetPort", value: 7070 },
      ]),
      patched,
    );
    const spec = JSON.parse(
      await kubectl.ok("get svc web -o jsonpath={.spec}"),
    );
    assert.equal(spec.sessionAffinityConfig.clientIP.timeoutSeconds, 10800);
    assert.deepEqual(
      spec.ports.map((port: Record<string, unknown>) =>
        `${port.port} ${port.targetPort}`
      ).sort(),
      ["80 7070", "81 81"],
    );
    assert.match(
      await patch("merge", { spec: { sessionAffinity: "ClientIP" } }),
      /patched \(no change\)/,
    );
  }],

  ["label, and edit in an editor", async (kubectl) => {
    assert.equal(
      await kubectl.ok("label svc web tier=front"),
      "service/web labeled\n",
    );
    assert.equal(
      await kubectl.ok("edit svc web", {
        KUBE_EDITOR: "sed -i s/tier:\\ front/tier:\\ back/",
      }),
      "service/web edited\n",
    );
    assert.match(await kubectl.ok("get svc -l tier=back -o name"), /web/);
  }],

  ["replace with an old resourceVersion is a conflict", async (kubectl) => {
    await kubectl.write("old.json", await kubectl.ok("get svc web -o json"));
    await kubectl.ok("label svc web x=y");
    assert.match(
      await kubectl.fails("replace -f old.json"),
      /^Error from server \(Conflict\): .*Operation cannot be fulfilled on services "web": the object has been modified; please apply your changes to the latest version and try again$/,
    );
    await kubectl.write("new.json", await kubectl.ok("get svc web -o json"));
    assert.equal(
      await kubectl.ok("replace -f new.json"),
      "service/web replaced\n",
    );
  }],

  ["create makes Services and namespaces", async (kubectl) => {
    assert.equal(
      await kubectl.ok("create namespace shop"),
      "namespace/shop created\n",
    );
    assert.equal(
      await kubectl.ok("-n shop create service nodeport np --tcp=80:8080"),
      "service/np created\n",
    );
    assert.match(
      await kubectl.ok("-n shop get svc np"),
      /np +NodePort +10\.96\.\S+ +<none> +80:30000\/TCP/,
    );
    await kubectl.write("web.yaml", MANIFEST);
    await kubectl.ok("delete node node-1");
    assert.match(
      (await kubectl.run("create -f web.yaml")).stderr,
      /^Error from server \(AlreadyExists\): error when creating "web.yaml": services "web" already exists$/m,
    );
    await kubectl.ok("delete namespace shop");
    assert.match(
      await kubectl.fails("-n shop get svc np"),
      /^Error from server \(NotFound\): namespaces "shop" not found$/,
    );
    assert.equal(await kubectl.ok("auth can-i create services"), "yes\n");
  }],

  ["errors are one clean line, and change nothing", async (kubectl) => {
    const version = kubectl.server.resourceVersion;
    const table: [string, RegExp][] = [
      [
        MANIFEST.replaceAll("web", "bad").replace("10.96.7.7", "10.1.1.1"),
        /^The Service "bad" is invalid: spec\.clusterIPs: Invalid value: \[\]string\{"10\.1\.1\.1"\}: failed to allocate IP/,
      ],
      [
        MANIFEST.replaceAll("web", "bad").replace("port: 80,", "port: 0,"),
        /^The Service "bad" is invalid: spec\.ports\[0\]\.port: Invalid value: 0: must be between 1 and 65535, inclusive$/,
      ],
      [
        MANIFEST.replaceAll("web", "bad").replace("port: 80,", "port: many,"),
        /^Error from server \(BadRequest\): .*json: cannot unmarshal string into Go struct field/,
      ],
    ];
    for (const [manifest, want] of table) {
      await kubectl.write("bad.yaml", manifest.split("---")[0]!);
      assert.match(await kubectl.fails("create -f bad.yaml"), want);
    }
    assert.equal(kubectl.server.resourceVersion, version);
  }],

  ["apply on the server's side", async (kubectl) => {
    await kubectl.ok("delete svc web");
    await kubectl.write("web.yaml", MANIFEST.split("---")[0]!);
    const applied = "service/web serverside-applied\n";
    assert.equal(
      await kubectl.ok("apply --server-side -f web.yaml"),
      applied,
    );
    await kubectl.write(
      "web.yaml",
      MANIFEST.split("---")[0]!.replace(/^.*name: dns.*\n/m, ""),
    );
    assert.equal(
      await kubectl.ok("apply --server-side -f web.yaml"),
      applied,
    );
    assert.match(
      await kubectl.ok("get svc web -o jsonpath={.spec.ports[*].name}"),
      /^http$/,
    );
  }],

  ["delete waits until it is gone", async (kubectl) => {
    assert.match(await kubectl.ok("delete svc web"), /^service "web" deleted/);
    assert.match(
      await kubectl.ok("delete endpointslice web-1"),
      /^endpointslice\.discovery\.k8s\.io "web-1" deleted/,
    );
    assert.match(
      await kubectl.fails("get svc web"),
      /^Error from server \(NotFound\): services "web" not found$/,
    );
    assert.match(await kubectl.ok("delete svc --all"), /"kubernetes" deleted/);
    assert.match(
      await kubectl.ok("get svc"),
      /^kubernetes +ClusterIP +10\.96\.0\.1 /m,
    );
  }],
];

function executable(path: string): Need {
  return () => {
    try {
      return Deno.statSync(path).isFile ? undefined : `${path} is no file`;
    } catch {
      return `no old kubectl at ${path} (KUBECTL_OLD)`;
    }
  };
}

function kubectlTest(name: string, program: string, need: Need): void {
  testWith([need], `${name} works with the embedded API server`, async (t) => {
    await using kubectl = await Kubectl.open(program);
    for (const [name, step] of STEPS) {
      const passed = await t.step(name, () => step(kubectl));
      if (!passed) break; // each goes on where the last one ended
    }
  });
}

const ON_PATH = findProgram("kubectl") ?? "";
kubectlTest(
  "kubectl",
  ON_PATH,
  () => ON_PATH === "" ? "no kubectl on the PATH" : undefined,
);
kubectlTest("an old kubectl", OLD_KUBECTL, executable(OLD_KUBECTL));

/**
 * What `kube-portal daemonset` prints: read by a real kubectl and by the proxy
 * itself, held against what a proxy asks of its API server, and against what
 * steering needs of a kernel.
 */
import assert from "node:assert/strict";
import { parse } from "@std/yaml";
import { ACCESS_RULES } from "../../proxy/commands/access_rules.ts";
import {
  CAPABILITIES,
  type SteerRequest,
} from "../../proxy/commands/daemonset_objects.ts";
import { isClusterIp } from "../../proxy/commands/daemonset.ts";
import { parseConfiguration, validate } from "../../proxy/config/mod.ts";
import { createApiClient, loadApiConfig } from "../../watch/mod.ts";
import {
  createApiServer,
  type LoggedRequest,
} from "../../watch/apiserver/mod.ts";
import {
  kubeNode,
  kubeService,
  kubeSlice,
  manifest,
} from "../support/kube_objects.ts";
import { runKubePortal, startKubePortal } from "../support/kube_portal.ts";
import { eventually, loopbackRange } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { netns, Network } from "../support/netns.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const SERVER = "https://192.0.2.1:6443";
const STEERS = Object.keys(CAPABILITIES) as SteerRequest[];

/** Objects as their readers see them. */
// deno-lint-ignore no-explicit-any
type Any = any;

async function daemonset(...args: readonly string[]): Promise<string[]> {
  const { code, stdout, stderr } = await runKubePortal(["daemonset", ...args]);
  assert.equal(stderr, "");
  assert.equal(code, 0);
  return stdout.split("---\n");
}

async function objects(...args: readonly string[]): Promise<Any[]> {
  return (await daemonset("--server", SERVER, ...args)).map((text) =>
    parse(text)
  );
}

async function refusal(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<string> {
  const ended = await runKubePortal(["daemonset", ...args], { env });
  assert.equal(ended.code, 1);
  assert.equal(ended.stdout, "");
  assert.equal(ended.stderr.trim().split("\n").length, 1, ended.stderr);
  return ended.stderr;
}

Deno.test("daemonset prints objects that name each other", async () => {
  const [account, role, binding, config, set] = await objects(
    "--namespace=proxies",
    "--image=registry.test/kp:1",
  );
  const name = account.metadata.name;
  assert.deepEqual(
    [account, role, binding, config, set].map(({ kind }) => kind),
    [
      "ServiceAccount",
      "ClusterRole",
      "ClusterRoleBinding",
      "ConfigMap",
      "DaemonSet",
    ],
  );
  assert.deepEqual(binding.subjects, [
    { kind: "ServiceAccount", name, namespace: "proxies" },
  ]);
  assert.equal(binding.roleRef.name, role.metadata.name);
  for (const { metadata } of [account, config, set]) {
    assert.equal(metadata.namespace, "proxies");
  }
  const { spec, metadata } = set.spec.template;
  assert.deepEqual(set.spec.selector.matchLabels, metadata.labels);
  assert.equal(spec.serviceAccountName, name);
  assert.equal(spec.containers[0].image, "registry.test/kp:1");
  const volume = spec.volumes.find(({ configMap }: Any) => configMap);
  assert.equal(volume.configMap.name, config.metadata.name);
  const mounted = new Set(
    spec.containers[0].volumeMounts.map((mount: Any) => mount.name),
  );
  assert.deepEqual(mounted, new Set(spec.volumes.map((v: Any) => v.name)));
});

Deno.test("daemonset: its files are a configuration and a kubeconfig that the proxy takes", async () => {
  await using folder = await temporaryFolder();
  const [, , , { data }, set] = await objects();
  const { config, problems, lenient } = parseConfiguration(data["config.conf"]);
  assert.deepEqual([...problems, ...lenient, ...validate(config)], []);
  assert.equal(config.mode, "userspace");
  const [container] = set.spec.template.spec.containers;
  const mount = container.volumeMounts.find((m: Any) => m.name === "config");
  assert.equal(
    config.clientConnection.kubeconfig,
    `${mount.mountPath}/kubeconfig.conf`,
  );
  assert.ok(container.args.includes(`--config=${mount.mountPath}/config.conf`));
  // The service account's files are made here, as the kubelet would.
  await folder.write("token", "a-token");
  await folder.write(
    "ca.crt",
    "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
  );
  const text = data["kubeconfig.conf"].replaceAll(
    "/var/run/secrets/kubernetes.io/serviceaccount",
    folder.path,
  );
  await folder.write("kubeconfig.conf", text);
  const loaded = await loadApiConfig({
    kubeconfig: `${folder.path}/kubeconfig.conf`,
    env: new Map(),
  });
  assert.equal(loaded.server, SERVER);
  assert.equal(loaded.credential.type, "token-file");
});

Deno.test("daemonset: the next pod of a node starts beside the old one, and takes over", async () => {
  const { spec } = (await objects()).at(-1);
  assert.deepEqual(spec.updateStrategy, {
    type: "RollingUpdate",
    rollingUpdate: { maxUnavailable: 0, maxSurge: 1 },
  });
  const { containers: [container], ...pod } = spec.template.spec;
  assert.ok(container.args.includes("--take-over"));
  // Else the kubelet would start again what has ended, to take over in turn.
  assert.ok(container.args.includes("--stay-when-replaced"));
  // A second pod could not be placed on a node where its ports are taken.
  assert.equal(container.ports, undefined);
  // Waiting for the next one, and then draining: 8 s and 20 s.
  assert.ok(pod.terminationGracePeriodSeconds > 28);
});

for (const steer of STEERS) {
  Deno.test(`daemonset --steer ${steer} has no privilege beside its capabilities`, async () => {
    const { spec } = (await objects(`--steer=${steer}`)).at(-1).spec.template;
    const [container] = spec.containers;
    assert.deepEqual(container.securityContext, {
      runAsUser: 0,
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"], add: CAPABILITIES[steer] },
      ...steer === "portal" && { appArmorProfile: { type: "Unconfined" } },
    });
    assert.ok(container.args.includes(`--steer=${steer}`));
    const hostPaths = spec.volumes.flatMap((v: Any) => v.hostPath?.path ?? []);
    assert.deepEqual(
      hostPaths,
      steer === "none" || steer === "portal" ? [] : ["/run/xtables.lock"],
    );
  });
}

testWith(
  [program("kubectl")],
  "daemonset: kubectl knows every field of the DaemonSet and the binding",
  async () => {
    const texts = await daemonset("--server", SERVER);
    const local = async (text: string, ...args: readonly string[]) => {
      await using folder = await temporaryFolder();
      await folder.write("object.yaml", text);
      const { stdout, stderr, code } = await new Deno.Command("kubectl", {
        args: [
          "set",
          ...args,
          "--local",
          "-o=json",
          "-f",
          `${folder.path}/object.yaml`,
        ],
        signal: AbortSignal.timeout(30_000),
      }).output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      return JSON.parse(new TextDecoder().decode(stdout));
    };
    // kubectl reads into its own types and writes them again: what they do not
    // have would be gone. It adds a status and empty timestamps.
    const set = parse(texts.at(-1) ?? "") as Any;
    const read = await local(texts.at(-1) ?? "", "image", "kube-portal=x:1");
    set.spec.template.spec.containers[0].image = "x:1";
    assertHolds(read, set);
    const binding = parse(texts[2] ?? "") as Any;
    const bound = await local(texts[2] ?? "", "subject", "--user=somebody");
    binding.subjects.push({
      apiGroup: "rbac.authorization.k8s.io",
      kind: "User",
      name: "somebody",
    });
    assertHolds(bound, binding);
  },
);

/** Everything that `part` says, `whole` says too. */
function assertHolds(whole: Any, part: Any, path = ""): void {
  if (typeof part !== "object" || part === null) {
    return assert.equal(whole, part, path);
  }
  assert.ok(typeof whole === "object" && whole !== null, `${path} is missing`);
  for (const [key, value] of Object.entries(part)) {
    assertHolds(whole[key], value, `${path}.${key}`);
  }
}

Deno.test("daemonset grants what a proxy asks of its API server, and nothing else", async () => {
  await using stack = new AsyncDisposableStack();
  const range = loopbackRange();
  const server = stack.use(
    createApiServer({ serviceCIDRs: [`${range}.0.0/17`] }),
  );
  const { url } = stack.use(await server.listen());
  server.create("nodes", kubeNode("node-1"));
  const service = kubeService("web", `${range}.1.1`, { http: 80 });
  const spec = service["spec"] as Any;
  spec.ports.push({ name: "sctp", port: 81, protocol: "SCTP" });
  server.create("services", {
    ...service,
    metadata: { ...service.metadata, namespace: "default" },
  });
  // With these addresses `auto` asks for ServiceCIDRs, and changes nothing.
  const proxy = stack.use(startKubePortal([
    `--master=${url}`,
    "--hostname-override=node-1",
    "--healthz-bind-address=",
    "--metrics-bind-address=",
  ]));
  await proxy.waitFor(" Ready ");
  await eventually(
    "an Event about SCTP",
    () => server.list("events").length,
    (count) => count > 0,
  );
  const asked = new Set(server.requests.flatMap(accessOf));
  const granted = new Set(
    ACCESS_RULES.flatMap(({ group, resource, verbs }) =>
      verbs.map((verb) => `${verb} ${group}/${resource}`)
    ),
  );
  assert.deepEqual([...asked].filter((each) => !granted.has(each)), []);
  // An Event is patched when it is told again, half an hour later.
  asked.add("patch /events");
  assert.deepEqual([...granted].filter((each) => !asked.has(each)), []);
});

/** What a request is to RBAC: `watch discovery.k8s.io/endpointslices`. */
function accessOf({ method, url }: LoggedRequest): string[] {
  const { pathname, searchParams } = new URL(url, "http://server");
  const match =
    /^\/(?:api\/v1|apis\/([^/]+)\/[^/]+)\/(?:namespaces\/[^/]+\/)?([a-z]+)(\/.+)?$/
      .exec(pathname);
  if (match === null) {
    assert.equal(pathname, "/version", "the only path that is no resource");
    return [];
  }
  const [, group = "", resource, name] = match;
  const read = searchParams.has("watch") ? "watch" : name ? "get" : "list";
  const verbs: Record<string, string> = {
    GET: read,
    POST: "create",
    PATCH: "patch",
  };
  return [`${verbs[method] ?? method} ${group}/${resource}`];
}

for (const steer of STEERS.filter((steer) => steer !== "none")) {
  testWith(
    [netns, program("iptables")],
    `daemonset --steer ${steer}: its capabilities are enough to serve port 80`,
    async () => {
      await using stack = new AsyncDisposableStack();
      const net = stack.use(await Network.create({ pods: 1 }));
      const [pod] = net.pods;
      assert.ok(pod !== undefined);
      stack.use(await pod.endpoint([`tcp/${pod.ipv4}/8080`]));
      const folder = stack.use(await temporaryFolder());
      await folder.write(
        "web.yaml",
        manifest(
          kubeService("web", "10.96.0.10", { http: 80 }),
          kubeSlice("web", [pod.ipv4], { http: 8080 }),
        ),
      );
      const bounding = CAPABILITIES[steer]
        .map((name) => `,+${name.toLowerCase()}`).join("");
      const proxy = stack.use(startKubePortal([
        `--steer=${steer}`,
        `--manifests=${folder.path}`,
        "--service-cidr=10.96.0.0/16",
        "--healthz-bind-address=127.0.0.1:10256",
      ], {
        namespace: net.node,
        // As a container runtime does for a root user.
        prefix: [
          "setpriv",
          "--no-new-privs",
          "--inh-caps=-all",
          `--bounding-set=-all${bounding}`,
        ],
      }));
      await proxy.waitFor(" Ready ");
      // Forwarding, which `portal` needs for pods, is the node's to allow.
      const client = steer === "portal" ? net.node : pod;
      const reply = await client.dial("tcp", "10.96.0.10", {
        port: 80,
        text: "hello",
      });
      assert.match(reply, /\nhello$/, proxy.output);
    },
  );
}

Deno.test("daemonset without --server: an address that nodes cannot use is refused, with how to find one", async (t) => {
  await using folder = await temporaryFolder();
  const kubeconfig = async (server: string) => {
    await folder.write(
      "config",
      `clusters: [{name: c, cluster: {server: "${server}"}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: x
`,
    );
    return `--kubeconfig=${folder.path}/config`;
  };
  for (
    const [server, why] of [
      ["https://127.0.0.1:6443", /it is a loopback address/],
      ["https://localhost:6443", /it is a loopback address/],
      ["https://[::1]:6443", /it is a loopback address/],
      ["http://api.test", /it is not https/],
    ] as const
  ) {
    await t.step(server, async () => {
      const line = await refusal([await kubeconfig(server)]);
      assert.match(line, why);
      assert.match(line, /give --server https:\/\/HOST:PORT/);
    });
  }
  await t.step("no kubeconfig at all", async () => {
    assert.match(await refusal([]), /Cannot find an API server.*--server/);
  });
  await t.step("--server that is no https address", async () => {
    assert.match(await refusal(["--server=api:6443"]), /want https:/);
  });
  await t.step("a name is taken as it is", async () => {
    const documents = await daemonset(
      await kubeconfig("https://api.test:6443"),
    );
    assert.match(documents[3] ?? "", /server: https:\/\/api\.test:6443/);
  });
});

Deno.test("isClusterIp() knows the API server's ClusterIP, and all of the Service CIDRs", async () => {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(createApiServer({ serviceCIDRs: ["10.96.0.0/16"] }));
  const { url } = stack.use(await server.listen());
  const config = await loadApiConfig({ master: url, env: new Map() });
  const client = stack.use(createApiClient(config));
  assert.equal(await isClusterIp("10.96.0.1", client), true);
  assert.equal(await isClusterIp("10.96.200.7", client), true);
  assert.equal(await isClusterIp("192.0.2.1", client), false);
});

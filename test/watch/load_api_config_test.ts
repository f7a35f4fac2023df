/**
 * Where the API server's address and the credentials come from, in which
 * order, and what a pod is told whose address is a ClusterIP.
 *
 * @module
 */
import { equal, match, rejects } from "node:assert/strict";
import { ConfigError } from "../../watch/api_config.ts";
import { explainUnreachable, isInCidr } from "../../watch/in_cluster.ts";
import {
  loadApiConfig,
  type LoadApiConfigOptions,
} from "../../watch/load_api_config.ts";
import { UnreachableError } from "../../watch/unreachable.ts";
import {
  type TemporaryFolder,
  temporaryFolder,
} from "../support/temporary_folder.ts";
import { tlsText } from "../support/tls.ts";

const POD = {
  KUBERNETES_SERVICE_HOST: "10.96.0.1",
  KUBERNETES_SERVICE_PORT: "443",
};

function kubeconfig(server: string): string {
  return `
current-context: main
contexts:
- { name: main, context: { cluster: c, user: u } }
- { name: other, context: { cluster: d, user: u } }
clusters:
- { name: c, cluster: { server: "https://${server}" } }
- { name: d, cluster: { server: "https://other" } }
users: [{ name: u, user: { token: abc } }]
`;
}

/** A home, a service account and two more kubeconfigs. */
async function machine(): Promise<TemporaryFolder> {
  const folder = await temporaryFolder();
  await Deno.mkdir(`${folder.path}/.kube`);
  await Deno.mkdir(`${folder.path}/sa`);
  await folder.write(".kube/config", kubeconfig("home"));
  await folder.write("flag", kubeconfig("flag"));
  await folder.write("env", kubeconfig("env"));
  await folder.write("sa/token", "pod-token");
  await folder.write("sa/ca.crt", tlsText("ca.crt"));
  return folder;
}

interface Case {
  readonly name: string;
  readonly env?: readonly ("HOME" | "KUBECONFIG" | "POD")[];
  readonly flags?: Pick<LoadApiConfigOptions, "context" | "master">;
  readonly kubeconfig?: true;
  readonly server: string;
  readonly credential: string;
}

const CASES: readonly Case[] = [
  {
    name: "prefers --kubeconfig to all others",
    env: ["HOME", "KUBECONFIG", "POD"],
    kubeconfig: true,
    server: "https://flag",
    credential: "token",
  },
  {
    name: "prefers KUBECONFIG to the pod's service account",
    env: ["HOME", "KUBECONFIG", "POD"],
    server: "https://env",
    credential: "token",
  },
  {
    name: "prefers the pod's service account to ~/.kube/config",
    env: ["HOME", "POD"],
    server: "https://10.96.0.1",
    credential: "token-file",
  },
  {
    name: "reads a kubeconfig in a pod if a context is asked for",
    env: ["HOME", "POD"],
    flags: { context: "other" },
    server: "https://other",
    credential: "token",
  },
  {
    name: "reads ~/.kube/config",
    env: ["HOME"],
    server: "https://home",
    credential: "token",
  },
  {
    name:
      "takes --master alone without credentials, even beside ~/.kube/config",
    env: ["HOME"],
    flags: { master: "http://127.0.0.1:8001" },
    server: "http://127.0.0.1:8001",
    credential: "none",
  },
  {
    name: "takes --master without a scheme for plain http",
    flags: { master: "127.0.0.1:8001" },
    server: "http://127.0.0.1:8001",
    credential: "none",
  },
  {
    name: "gives --master in a pod the service account's credentials",
    env: ["POD"],
    flags: { master: "https://192.168.0.5:6443" },
    server: "https://192.168.0.5:6443",
    credential: "token-file",
  },
  {
    name: "gives a plain http --master in a pod no credentials",
    env: ["POD"],
    flags: { master: "http://127.0.0.1:8001" },
    server: "http://127.0.0.1:8001",
    credential: "none",
  },
  {
    name: "replaces the server of a kubeconfig by --master",
    kubeconfig: true,
    flags: { master: "https://h:1" },
    server: "https://h:1",
    credential: "token",
  },
  {
    name: "takes empty flags for flags that are not given",
    env: ["HOME"],
    flags: { master: "", context: "" },
    server: "https://home",
    credential: "token",
  },
];

for (const given of CASES) {
  Deno.test(`loadApiConfig() ${given.name}`, async () => {
    await using folder = await machine();
    const { path } = folder;
    const env = new Map<string, string>();
    for (const part of given.env ?? []) {
      if (part === "HOME") env.set("HOME", path);
      if (part === "KUBECONFIG") {
        env.set("KUBECONFIG", `${path}/missing:${path}/env:${path}/flag`);
      }
      if (part === "POD") {
        for (const [name, value] of Object.entries(POD)) env.set(name, value);
      }
    }
    const config = await loadApiConfig({
      ...given.flags,
      ...(given.kubeconfig && { kubeconfig: `${path}/flag` }),
      env,
      serviceAccountDir: `${path}/sa`,
    });
    equal(config.server, given.server);
    equal(config.credential.type, given.credential);
  });
}

const CANNOT: readonly {
  readonly name: string;
  readonly options: (path: string) => Partial<LoadApiConfigOptions>;
  readonly want: RegExp;
}[] = [
  {
    name: "names what was looked for where nothing is",
    options: () => ({}),
    want:
      /^Cannot find an API server: give --kubeconfig FILE or --master URL \(KUBECONFIG is not set, "~\/\.kube\/config" does not exist/,
  },
  {
    name: "names a --kubeconfig that is not there",
    options: () => ({ kubeconfig: "/nowhere/config" }),
    want:
      /^Cannot read "\/nowhere\/config", the kubeconfig of --kubeconfig: there is no such file$/,
  },
  {
    name: "names a --kubeconfig that is a folder",
    options: (path) => ({ kubeconfig: path }),
    want: /the kubeconfig of --kubeconfig: it is a folder$|Is a directory/,
  },
  {
    name: "names the files of a KUBECONFIG of which none exists",
    options: () => ({ env: new Map([["KUBECONFIG", "/no/a:/no/b"]]) }),
    want:
      /^Cannot read KUBECONFIG: none of its files exists: "\/no\/a", "\/no\/b"$/,
  },
  {
    name: "names a certificate file that is not there",
    options: (path) => ({ kubeconfig: `${path}/files` }),
    want:
      /^Cannot read ".*\/none\.crt", the certificate authority named by context "a" of ".*\/files": there is no such file$/,
  },
  {
    name: "names a CA of the service account that is none",
    options: (path) => ({
      env: new Map(Object.entries(POD)),
      serviceAccountDir: `${path}/bad-sa`,
    }),
    want:
      /^Cannot use ".*\/bad-sa\/ca\.crt", the certificate authority named by service account .*: it holds no PEM block "CERTIFICATE"$/,
  },
];

for (const { name, options, want } of CANNOT) {
  Deno.test(`loadApiConfig() ${name}`, async () => {
    await using folder = await temporaryFolder();
    await folder.write(
      "files",
      `
current-context: a
contexts: [{ name: a, context: { cluster: c } }]
clusters: [{ name: c, cluster: { server: "https://h", certificate-authority: none.crt } }]`,
    );
    await Deno.mkdir(`${folder.path}/bad-sa`);
    await folder.write("bad-sa/token", "t");
    await folder.write("bad-sa/ca.crt", "hello");
    await rejects(
      () => loadApiConfig({ env: new Map(), ...options(folder.path) }),
      (error: Error) => {
        equal(error instanceof ConfigError, true, String(error));
        match(error.message, want);
        return true;
      },
    );
  });
}

Deno.test({
  name: "loadApiConfig() names the flag where Deno may not read the kubeconfig",
  permissions: { read: false, env: false },
  async fn() {
    await rejects(
      () => loadApiConfig({ kubeconfig: "/etc/kube/config", env: Deno.env }),
      /^ConfigError: Cannot read "\/etc\/kube\/config", .*: Deno denies it; add --allow-read/,
    );
  },
});

Deno.test({
  name: "loadApiConfig() takes variables it may not read for not set",
  permissions: { read: false, env: false },
  async fn() {
    const master = "http://127.0.0.1:8001";
    const config = await loadApiConfig({ master, env: Deno.env });
    equal(config.server, master);
  },
});

Deno.test("inClusterConfig() puts an IPv6 service host in brackets", async () => {
  await using folder = await machine();
  const config = await loadApiConfig({
    env: new Map([
      ["KUBERNETES_SERVICE_HOST", "fd00::1"],
      ["KUBERNETES_SERVICE_PORT", "6443"],
    ]),
    serviceAccountDir: `${folder.path}/sa`,
  });
  equal(config.server, "https://[fd00::1]:6443");
  equal(config.serviceHost, "fd00::1");
});

Deno.test("explainUnreachable() names --master for a ClusterIP that is silent", () => {
  const silent = new UnreachableError("https://10.96.0.1", "no answer", {
    answered: false,
  });
  const badCertificate = new UnreachableError("https://10.96.0.1", "expired", {
    answered: true,
  });
  const pod = { serviceHost: "10.96.0.1" };
  equal(
    explainUnreachable(pod, ["10.96.0.0/16", "fd00::/112"], silent),
    'KUBERNETES_SERVICE_HOST "10.96.0.1" is a ClusterIP in the Service CIDR ' +
      "10.96.0.0/16 and does not answer: providing it may be this program's " +
      "own task, so name an address of the API server itself with --master " +
      "https://ADDRESS:6443",
  );
  match(explainUnreachable(pod, [], silent) ?? "", /is a ClusterIP and does/);
  equal(explainUnreachable(pod, ["10.97.0.0/16"], silent), undefined);
  equal(explainUnreachable(pod, [], badCertificate), undefined);
  equal(explainUnreachable(pod, [], new Error("other")), undefined);
  equal(explainUnreachable({}, ["10.96.0.0/16"], silent), undefined);
});

Deno.test("isInCidr() compares addresses of one family only", () => {
  const cases: [address: string, cidr: string, want: boolean][] = [
    ["10.96.0.1", "10.96.0.0/16", true],
    ["10.97.0.1", "10.96.0.0/16", false],
    ["10.96.0.1", "10.96.0.1/32", true],
    ["10.96.0.1", "0.0.0.0/0", true],
    ["fd00::1", "fd00::/112", true],
    ["fd01::1", "fd00::/112", false],
    ["fd00::1", "10.96.0.0/16", false],
    ["kubernetes.default", "10.96.0.0/16", false],
    ["10.96.0.1", "10.96.0.0", false],
    ["10.96.0.1", "10.96.0.0/33", false],
    ["10.96.0.1", "10.96.0.0/a", false],
    ["10.96.0.1", "", false],
  ];
  for (const [address, cidr, want] of cases) {
    equal(isInCidr(address, cidr), want, `${address} in ${cidr}`);
  }
});

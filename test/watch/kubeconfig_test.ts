/**
 * kubeconfig texts to an `ApiConfig`: which context, which field, which refusal.
 *
 * @module
 */
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { type ApiConfig, ConfigError } from "../../watch/api_config.ts";
import { mergeKubeconfigs, parseKubeconfig } from "../../watch/kubeconfig.ts";
import { resolveKubeconfig } from "../../watch/kubeconfig_entry.ts";
import { Secret } from "../../watch/secret.ts";
import { tlsText } from "../support/tls.ts";

const FILE = "/home/me/.kube/config";
const CA = btoa(tlsText("ca.crt"));
const CERTIFICATE = btoa(tlsText("client.crt"));
const KEY = btoa(tlsText("client.key"));

/** A kubeconfig of one context; `cluster` and `user` are YAML flow mappings. */
function kubeconfig(cluster: string, user: string): string {
  return `
apiVersion: v1
kind: Config
current-context: kind
contexts:
- name: kind
  context: { cluster: c1, user: u1, namespace: default }
clusters:
- { name: c1, cluster: { server: "https://10.0.0.1:6443", ${cluster} } }
users:
- { name: u1, user: { ${user} } }
preferences: {}
`;
}

async function resolve(
  text: string,
  options: { context?: string; master?: string } = {},
): Promise<ApiConfig> {
  return resolveKubeconfig(await parseKubeconfig(text, FILE), options);
}

/** A config with its secrets in the open, to be compared. */
function revealed(value: unknown): unknown {
  if (value instanceof Secret) return value.reveal();
  if (Array.isArray(value)) return value.map(revealed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [name, revealed(field)]),
  );
}

interface Case {
  readonly name: string;
  readonly cluster?: string;
  readonly user?: string;
  readonly master?: string;
  readonly want: Record<string, unknown>;
}

const CASES: readonly Case[] = [
  {
    name: "reads a bearer token",
    user: `token: "abc"`,
    want: { credential: { type: "token", token: "abc" } },
  },
  {
    name: "prefers a token file, and keeps the token for when it is unreadable",
    user: `token: abc, tokenFile: secrets/token`,
    want: {
      credential: {
        type: "token-file",
        path: "/home/me/.kube/secrets/token",
        fallback: "abc",
      },
    },
  },
  {
    name: "takes an absolute path as it is",
    user: `tokenFile: /run/token`,
    want: { credential: { type: "token-file", path: "/run/token" } },
  },
  {
    name: "reads user name and password",
    user: `username: admin, password: pw`,
    want: {
      credential: { type: "basic", username: "admin", password: "pw" },
    },
  },
  {
    name: "reads CA and client certificate data",
    cluster: `certificate-authority-data: ${CA}`,
    user: `client-certificate-data: ${CERTIFICATE}, client-key-data: ${KEY}`,
    want: {
      ca: { text: tlsText("ca.crt") },
      clientCertificate: {
        certificate: { text: tlsText("client.crt") },
        key: { text: tlsText("client.key") },
      },
    },
  },
  {
    name: "resolves certificate files against the folder of the kubeconfig",
    cluster: `certificate-authority: pki/ca.crt`,
    user: `client-certificate: ../c.crt, client-key: /k.key`,
    want: {
      ca: { path: "/home/me/.kube/pki/ca.crt" },
      clientCertificate: {
        certificate: { path: "/home/me/c.crt" },
        key: { path: "/k.key" },
      },
    },
  },
  {
    name: "lets data win over the file of the same name",
    cluster: `certificate-authority: ca.crt, certificate-authority-data: ${CA}`,
    want: { ca: { text: tlsText("ca.crt") } },
  },
  {
    name: "keeps insecure-skip-tls-verify for the error it may lead to",
    cluster: `insecure-skip-tls-verify: true`,
    want: { insecureSkipTlsVerify: true },
  },
  {
    name: "accepts a tls-server-name that is the server's host",
    cluster: `tls-server-name: 10.0.0.1`,
    want: {},
  },
  {
    name: "takes user and password of a proxy out of its URL",
    cluster: `proxy-url: "http://me:p%40ss@proxy:3128"`,
    want: {
      proxy: { url: "http://proxy:3128", username: "me", password: "p@ss" },
    },
  },
  {
    name: "reads impersonation",
    user: `as: jane, as-uid: "7", as-groups: [dev, ops], ` +
      `as-user-extra: { scopes: [view] }`,
    want: {
      impersonate: {
        user: "jane",
        uid: "7",
        groups: ["dev", "ops"],
        extra: { scopes: ["view"] },
      },
    },
  },
  {
    name: "replaces the server by --master and keeps the credentials",
    user: `token: abc`,
    master: "https://127.0.0.1:7443/",
    want: {
      server: "https://127.0.0.1:7443",
      credential: { type: "token", token: "abc" },
    },
  },
  {
    name: "tells a plain http server no credentials",
    cluster: `certificate-authority-data: ${CA}`,
    user: `token: abc`,
    master: "http://127.0.0.1:8001",
    want: { server: "http://127.0.0.1:8001" },
  },
  {
    name: "takes --master without a scheme for https where there is a CA",
    cluster: `certificate-authority: /ca.crt`,
    master: "10.0.0.9:6443",
    want: { server: "https://10.0.0.9:6443", ca: { path: "/ca.crt" } },
  },
  {
    name: "reads an exec plugin with its defaults",
    user: `exec: { apiVersion: client.authentication.k8s.io/v1beta1, ` +
      `command: aws, args: [eks, get-token], ` +
      `env: [{ name: AWS_PROFILE, value: dev }], installHint: Install aws }`,
    want: {
      credential: {
        type: "exec",
        exec: {
          apiVersion: "client.authentication.k8s.io/v1beta1",
          command: "aws",
          args: ["eks", "get-token"],
          env: { AWS_PROFILE: "dev" },
          interactiveMode: "IfAvailable",
          installHint: "Install aws",
        },
      },
    },
  },
  {
    name: "gives an exec plugin the cluster, and finds it by its path",
    cluster: `extensions: [{ name: client.authentication.k8s.io/exec, ` +
      `extension: { audience: a } }], certificate-authority-data: ${CA}`,
    user: `exec: { apiVersion: client.authentication.k8s.io/v1, ` +
      `command: ./bin/login, interactiveMode: Never, provideClusterInfo: true }`,
    want: {
      ca: { text: tlsText("ca.crt") },
      credential: {
        type: "exec",
        exec: {
          apiVersion: "client.authentication.k8s.io/v1",
          command: "/home/me/.kube/bin/login",
          args: [],
          env: {},
          interactiveMode: "Never",
          installHint: "",
          cluster: JSON.stringify({
            server: "https://10.0.0.1:6443",
            "certificate-authority-data": CA,
            config: { audience: "a" },
          }),
        },
      },
    },
  },
];

for (const { name, cluster = "", user = "", master, want } of CASES) {
  Deno.test(`resolveKubeconfig() ${name}`, async () => {
    const config = await resolve(
      kubeconfig(cluster, user),
      master === undefined ? {} : { master },
    );
    deepEqual(revealed(config), {
      source: `context "kind" of "${FILE}"`,
      server: "https://10.0.0.1:6443",
      insecureSkipTlsVerify: false,
      credential: { type: "none" },
      ...want,
    });
  });
}

interface Refusal {
  readonly name: string;
  readonly text?: string;
  readonly cluster?: string;
  readonly user?: string;
  readonly context?: string;
  readonly master?: string;
  readonly want: RegExp;
}

const SECRET = "s3cr3t-value";
const V1 = "client.authentication.k8s.io/v1";

const REFUSALS: readonly Refusal[] = [
  {
    name: "text that is not YAML, naming the line only",
    text: `users:\n- name: u\n  user:\n    token: "${SECRET}\n    x: [`,
    want:
      /^Cannot use kubeconfig "\/home\/me\/.kube\/config": it is not valid YAML \(line \d+, column \d+\)$/,
  },
  {
    name: "a list at the top",
    text: `- ${SECRET}`,
    want: /: it is not a YAML mapping$/,
  },
  {
    name: "another kind of object",
    text: `kind: Pod`,
    want: /: "kind" is "Pod", want "Config"$/,
  },
  {
    name: "users that are no list",
    text: `users: { token: ${SECRET} }`,
    want: /: "users" must be a list$/,
  },
  {
    name: "an entry without a name",
    text: `clusters:\n- cluster: {}`,
    want: /: clusters\[0\]\.name must be a string that is not empty$/,
  },
  {
    name: "a name that is there twice",
    text: `users:\n- name: a\n- name: a`,
    want: /: user "a" is there twice$/,
  },
  {
    name: "a file without a current context",
    text: `contexts:\n- name: a\n- name: b`,
    want: /"current-context" is not set; name one with --context \("a", "b"\)$/,
  },
  {
    name: "an unknown --context, listing those there are",
    context: "prod",
    want:
      /^Cannot find context "prod" \(--context\) in ".*": want one of these contexts: "kind"$/,
  },
  {
    name: "a context whose user is missing",
    text: `current-context: a
contexts: [{ name: a, context: { user: nobody } }]`,
    want: /^Cannot use context "a" of ".*": user "nobody" is not in ".*"$/,
  },
  {
    name: "a cluster without a server",
    text: `current-context: a
contexts: [{ name: a, context: { cluster: c } }]
clusters: [{ name: c, cluster: {} }]`,
    want: /cluster "c" .*: "server" is not set \(and --master neither\)$/,
  },
  {
    name: "a --master of another scheme",
    master: "ftp://a",
    want: /of --master: scheme is "ftp", want "https" or "http"$/,
  },
  {
    name: "a --master with a password in it",
    master: `https://u:${SECRET}@a`,
    want: /of --master: it holds a user or password/,
  },
  {
    name: "a --master that is no address",
    master: `https://${SECRET}:x`,
    want: /of --master: want http\(s\):\/\/HOST:PORT$/,
  },
  {
    name: "a token that YAML reads as a number",
    user: `token: 123456`,
    want:
      /^Cannot use user "u1" of ".*": "token" must be a string, but is a number \(put quotes around it\)$/,
  },
  {
    name: "a token with a line feed",
    user: `token: "${SECRET}\\nx"`,
    want:
      /"token" of user "u1".* holds characters that no HTTP header may hold/,
  },
  {
    name: "two ways to say who we are",
    user: `token: ${SECRET}, username: a`,
    want: /"token" and "username" exclude each other; keep one$/,
  },
  {
    name: "a client certificate without a key",
    user: `client-certificate-data: ${CERTIFICATE}`,
    want:
      /"client-certificate" is set, but neither "client-key" nor "client-key-data" is$/,
  },
  {
    name: "data that is not base64",
    user: `client-certificate: /c, client-key-data: "${SECRET}!"`,
    want: /"client-key-data" is not base64$/,
  },
  {
    name: "a CA that is no PEM",
    cluster: `certificate-authority-data: ${btoa(SECRET)}`,
    want:
      /"certificate-authority-data" of cluster "c1".* holds no PEM block "CERTIFICATE"$/,
  },
  {
    name: "an encrypted key",
    user: `client-certificate: /c, client-key-data: ${
      btoa("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    }`,
    want: /the private key is encrypted/,
  },
  {
    name: "a CA together with insecure-skip-tls-verify",
    cluster: `certificate-authority: /a, insecure-skip-tls-verify: true`,
    want:
      /"insecure-skip-tls-verify" and "certificate-authority" exclude each other/,
  },
  {
    name: "insecure-skip-tls-verify as a string",
    cluster: `insecure-skip-tls-verify: "yes"`,
    want: /"insecure-skip-tls-verify" must be true or false$/,
  },
  {
    name: "a tls-server-name other than the server's host",
    cluster: `tls-server-name: kubernetes`,
    want:
      /"tls-server-name" is "kubernetes", but Deno can only check the certificate against the host of "server" \("10\.0\.0\.1"\)/,
  },
  {
    name: "a proxy of an unknown kind",
    cluster: `proxy-url: "quic://u:${SECRET}@p"`,
    want: /"proxy-url" must be http:\/\/HOST:PORT/,
  },
  {
    name: "an auth-provider",
    user: `auth-provider: { name: gcp, config: { token: ${SECRET} } }`,
    want: /"auth-provider" was removed from Kubernetes in 1\.26/,
  },
  {
    name: "groups to act as, without a user",
    user: `as-groups: [a]`,
    want: /"as-groups" and "as-user-extra" need "as"$/,
  },
  {
    name: "an exec plugin of an old version",
    user: `exec: { command: a, apiVersion: ${V1}alpha1 }`,
    want: /"apiVersion" is ".*v1alpha1", want ".*v1" or ".*v1beta1"$/,
  },
  {
    name: "an exec plugin without a command",
    user: `exec: { apiVersion: ${V1} }`,
    want: /"exec" of user "u1" of ".*": "command" is not set$/,
  },
  {
    name: "a v1 exec plugin without an interactiveMode",
    user: `exec: { apiVersion: ${V1}, command: a }`,
    want: /"interactiveMode" is not set, which .*v1 requires/,
  },
  {
    name: "an exec plugin whose env has no value",
    user: `exec: { apiVersion: ${V1}, command: a, interactiveMode: Never, ` +
      `env: [{ name: A, value: 7 }] }`,
    want: /env\[0\] must have "name" and "value", both strings$/,
  },
];

for (const { name, text, cluster = "", user = "", want, ...rest } of REFUSALS) {
  Deno.test(`a kubeconfig is refused for ${name}`, async () => {
    const options = {
      ...(rest.context !== undefined && { context: rest.context }),
      ...(rest.master !== undefined && { master: rest.master }),
    };
    await rejects(
      () => resolve(text ?? kubeconfig(cluster, user), options),
      (error: Error) => {
        equal(error instanceof ConfigError, true, String(error));
        match(error.message, want);
        equal(Deno.inspect(error).includes(SECRET), false, "secret told");
        return true;
      },
    );
  });
}

Deno.test("mergeKubeconfigs() keeps the first file's entry and context", async () => {
  const first = await parseKubeconfig(
    `
contexts: [{ name: a, context: { cluster: c, user: u } }]
users: [{ name: u, user: { token: first } }]`,
    "/one/config",
  );
  const second = await parseKubeconfig(
    `
current-context: a
clusters: [{ name: c, cluster: { server: "https://h", certificate-authority: ca } }]
users: [{ name: u, user: { token: second } }]`,
    "/two/config",
  );
  const third = await parseKubeconfig(`current-context: b`, "/three/config");
  const config = resolveKubeconfig(mergeKubeconfigs([first, second, third]));
  deepEqual(revealed(config), {
    source: `context "a" of "/one/config", "/two/config", "/three/config"`,
    server: "https://h",
    insecureSkipTlsVerify: false,
    ca: { path: "/two/ca" },
    credential: { type: "token", token: "first" },
  });
});

Deno.test("resolveKubeconfig() does not mind a mistake in an entry it does not use", async () => {
  const text = kubeconfig("", "") +
    `\n# more\n`;
  const config = await resolve(
    text.replace("users:", "users:\n- { name: odd, user: { token: 7 } }"),
  );
  equal(config.server, "https://10.0.0.1:6443");
});

Deno.test("an ApiConfig shows no secret when it is printed", async () => {
  const config = await resolve(kubeconfig(
    `proxy-url: "http://me:${SECRET}@p"`,
    `token: ${SECRET}, client-certificate: /c, client-key-data: ${KEY}`,
  ));
  for (const text of [Deno.inspect(config), JSON.stringify(config)]) {
    equal(text.includes(SECRET), false);
    equal(text.includes("PRIVATE KEY"), false);
    match(text, /\[secret\]/);
  }
});

/**
 * The chosen context of a kubeconfig to an `ApiConfig`: every field kubectl
 * knows is read, refused with a reason, or known to be of no matter here. Pure:
 * files named by the entries are not opened.
 *
 * @module
 */
import {
  type ApiConfig,
  checkHeaderValue,
  checkPem,
  type ClientCertificate,
  ConfigError,
  type CredentialConfig,
  type Impersonation,
  type PemSource,
  type ProxyConfig,
  serverUrl,
} from "./api_config.ts";
import { readExecConfig } from "./kubeconfig_exec.ts";
import {
  booleanField,
  fieldError,
  filePath,
  objectField,
  stringField,
  stringListField,
} from "./kubeconfig_field.ts";
import type { Kubeconfig, KubeconfigEntry } from "./kubeconfig.ts";
import { Secret } from "./secret.ts";

/**
 * Reads a context of a kubeconfig.
 *
 * A plain http server gets no credentials, as with kubectl: they would be
 * readable on the wire.
 *
 * @param options.context instead of `current-context`
 * @param options.master instead of the cluster's `server`
 * @throws {ConfigError} names the file, the entry and the field
 */
export function resolveKubeconfig(
  config: Kubeconfig,
  options: { context?: string | undefined; master?: string | undefined } = {},
): ApiConfig {
  const files = config.files.map((file) => `"${file}"`).join(", ");
  const context = chooseContext(config, options.context, files);
  const cluster = refer(config, context.entry, "cluster", files);
  const user = refer(config, context.entry, "user", files);

  const tls = cluster === undefined ? undefined : readTls(cluster);
  const server = options.master !== undefined
    ? serverUrl(options.master, {
      where: "--master",
      secure: tls?.ca !== undefined || tls?.insecureSkipTlsVerify === true,
    })
    : readServer(cluster, context.entry);
  if (cluster !== undefined) checkTlsServerName(cluster, server);
  const proxy = cluster === undefined ? undefined : readProxy(cluster);
  const impersonate = user === undefined ? undefined : readImpersonation(user);
  const secure = server.startsWith("https:");
  const identity = user === undefined || !secure
    ? { credential: { type: "none" } as const }
    : readIdentity(user, cluster, server);
  return {
    source: `context "${context.name}" of ${files}`,
    server,
    insecureSkipTlsVerify: tls?.insecureSkipTlsVerify ?? false,
    ...(tls?.ca !== undefined && secure && { ca: tls.ca }),
    ...identity,
    ...(impersonate !== undefined && { impersonate }),
    ...(proxy !== undefined && { proxy }),
  };
}

function chooseContext(
  config: Kubeconfig,
  asked: string | undefined,
  files: string,
): { name: string; entry: KubeconfigEntry } {
  const name = asked ?? config.currentContext;
  const names = [...config.contexts.keys()].map((known) => `"${known}"`);
  const known = names.length === 0 ? "there is none" : names.join(", ");
  if (name === "") {
    throw new ConfigError(
      `Cannot choose a context of ${files}: "current-context" is not set; ` +
        `name one with --context (${known})`,
    );
  }
  const entry = config.contexts.get(name);
  if (entry === undefined) {
    const by = asked === undefined ? '"current-context"' : "--context";
    throw new ConfigError(
      `Cannot find context "${name}" (${by}) in ${files}: want one of ` +
        `these contexts: ${known}`,
    );
  }
  return { name, entry };
}

/** The cluster or user a context names; undefined where it names none. */
function refer(
  config: Kubeconfig,
  context: KubeconfigEntry,
  kind: "cluster" | "user",
  files: string,
): KubeconfigEntry | undefined {
  const name = stringField(context, kind);
  if (name === undefined) return undefined;
  const entry = config[`${kind}s`].get(name);
  if (entry === undefined) {
    throw fieldError(context, `${kind} "${name}" is not in ${files}`);
  }
  return entry;
}

function readServer(
  cluster: KubeconfigEntry | undefined,
  context: KubeconfigEntry,
): string {
  if (cluster === undefined) {
    throw fieldError(context, `"cluster" is not set (and --master neither)`);
  }
  const server = stringField(cluster, "server");
  if (server === undefined) {
    throw fieldError(cluster, `"server" is not set (and --master neither)`);
  }
  return serverUrl(server, {
    where: `"server" of ${cluster.where}`,
    secure: cluster.fields["certificate-authority"] !== undefined ||
      cluster.fields["certificate-authority-data"] !== undefined,
  });
}

function readTls(
  cluster: KubeconfigEntry,
): { ca?: PemSource; insecureSkipTlsVerify: boolean } {
  const ca = pemField(cluster, "certificate-authority", "CERTIFICATE");
  const insecure = booleanField(cluster, "insecure-skip-tls-verify") ?? false;
  if (insecure && ca !== undefined) {
    throw fieldError(
      cluster,
      `"insecure-skip-tls-verify" and "certificate-authority" exclude each ` +
        `other; remove one`,
    );
  }
  return {
    insecureSkipTlsVerify: insecure,
    ...(ca !== undefined && { ca }),
  };
}

/**
 * Deno's fetch checks a certificate against the host of the URL only, and
 * connects to that host too.
 */
function checkTlsServerName(cluster: KubeconfigEntry, server: string): void {
  const name = stringField(cluster, "tls-server-name");
  if (name === undefined || !server.startsWith("https:")) return;
  const host = new URL(server).hostname.replace(/^\[|\]$/g, "");
  if (name.toLowerCase() === host) return;
  throw fieldError(
    cluster,
    `"tls-server-name" is "${name}", but Deno can only check the certificate ` +
      `against the host of "server" ("${host}"); use that name in "server" ` +
      `or --master (an entry in /etc/hosts can make it known)`,
  );
}

function readProxy(cluster: KubeconfigEntry): ProxyConfig | undefined {
  const text = stringField(cluster, "proxy-url");
  if (text === undefined) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const scheme = url?.protocol.slice(0, -1) ?? "";
  if (url === undefined || !["http", "https", "socks5"].includes(scheme)) {
    throw fieldError(
      cluster,
      `"proxy-url" must be http://HOST:PORT, https://HOST:PORT or ` +
        `socks5://HOST:PORT`,
    );
  }
  const port = url.port === "" ? "" : `:${url.port}`;
  return {
    url: `${scheme}://${url.hostname}${port}`,
    ...(url.username !== "" && {
      username: decodeURIComponent(url.username),
      password: new Secret(decodeURIComponent(url.password)),
    }),
  };
}

function readIdentity(
  user: KubeconfigEntry,
  cluster: KubeconfigEntry | undefined,
  server: string,
): { credential: CredentialConfig; clientCertificate?: ClientCertificate } {
  if (user.fields["auth-provider"] !== undefined) {
    throw fieldError(
      user,
      `"auth-provider" was removed from Kubernetes in 1.26; use an "exec" ` +
        `plugin (kubelogin, gke-gcloud-auth-plugin) instead`,
    );
  }
  const certificate = pemField(user, "client-certificate", "CERTIFICATE");
  const key = pemField(user, "client-key", "PRIVATE KEY");
  if ((certificate === undefined) !== (key === undefined)) {
    const [have, miss] = certificate === undefined
      ? ["client-key", "client-certificate"]
      : ["client-certificate", "client-key"];
    throw fieldError(
      user,
      `"${have}" is set, but neither "${miss}" nor "${miss}-data" is`,
    );
  }
  const credential = readCredential(user, cluster, server);
  return certificate === undefined || key === undefined
    ? { credential }
    : { credential, clientCertificate: { certificate, key } };
}

function readCredential(
  user: KubeconfigEntry,
  cluster: KubeconfigEntry | undefined,
  server: string,
): CredentialConfig {
  const exec = objectField(user, "exec");
  const token = stringField(user, "token");
  const tokenFile = stringField(user, "tokenFile");
  const username = stringField(user, "username");
  const ways = [
    ...(exec === undefined ? [] : ["exec"]),
    ...(token === undefined && tokenFile === undefined ? [] : ["token"]),
    ...(username === undefined ? [] : ["username"]),
  ];
  if (ways.length > 1) {
    throw fieldError(
      user,
      `"${ways.join('" and "')}" exclude each other; keep one`,
    );
  }
  if (exec !== undefined) {
    return {
      type: "exec",
      exec: readExecConfig(exec, { user, cluster, server }),
    };
  }
  if (token !== undefined) {
    checkHeaderValue(token, `"token" of ${user.where}`);
  }
  if (tokenFile !== undefined) {
    return {
      type: "token-file",
      path: filePath(user, tokenFile),
      ...(token !== undefined && { fallback: new Secret(token) }),
    };
  }
  if (token !== undefined) return { type: "token", token: new Secret(token) };
  if (username !== undefined) {
    const password = new Secret(stringField(user, "password") ?? "");
    return { type: "basic", username, password };
  }
  return { type: "none" };
}

function readImpersonation(user: KubeconfigEntry): Impersonation | undefined {
  const name = stringField(user, "as");
  const uid = stringField(user, "as-uid") ?? "";
  const groups = stringListField(user, "as-groups");
  const extraEntry = objectField(user, "as-user-extra");
  const extra: Record<string, readonly string[]> = {};
  for (const key of Object.keys(extraEntry?.fields ?? {})) {
    extra[key] = stringListField(extraEntry!, key);
  }
  const more = uid !== "" || groups.length > 0 ||
    Object.keys(extra).length > 0;
  if (name === undefined) {
    if (!more) return undefined;
    throw fieldError(
      user,
      `"as-uid", "as-groups" and "as-user-extra" need "as"`,
    );
  }
  for (const value of [name, uid, ...groups, ...Object.values(extra).flat()]) {
    checkHeaderValue(value, `"as" of ${user.where}`);
  }
  return { user: name, uid, groups, extra };
}

/** `NAME-data` (base64), else the file `NAME`; data wins, as in kubectl. */
function pemField(
  entry: KubeconfigEntry,
  name: "certificate-authority" | "client-certificate" | "client-key",
  kind: "CERTIFICATE" | "PRIVATE KEY",
): PemSource | undefined {
  const data = stringField(entry, `${name}-data`);
  if (data === undefined) {
    const path = stringField(entry, name);
    return path === undefined ? undefined : { path: filePath(entry, path) };
  }
  let text: string;
  try {
    text = atob(data.replace(/\s+/g, ""));
  } catch {
    throw fieldError(entry, `"${name}-data" is not base64`);
  }
  checkPem(text, kind, `"${name}-data" of ${entry.where}`);
  return { text: new Secret(text) };
}

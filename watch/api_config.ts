/**
 * What is needed to reach one API server, as plain data: where it is, how its
 * certificate is checked, who we say we are. Made by `load_api_config.ts` from
 * a kubeconfig, the service account of a pod or `--master`; used by
 * `client.ts`. Knows neither YAML nor sockets.
 *
 * @module
 */
import type { Secret } from "./secret.ts";

/**
 * The person who started the program can fix this: a file, a field, a missing
 * permission. The message is one complete sentence, to be printed without a
 * stack trace. It never holds a secret.
 */
export class ConfigError extends Error {
  override readonly name: string = "ConfigError";
}

/** A PEM text, or the file that holds it (read again when it changes). */
export type PemSource =
  | { readonly text: Secret }
  | { readonly path: string };

export interface ClientCertificate {
  readonly certificate: PemSource;
  readonly key: PemSource;
}

/** How a request says who sends it, beside a client certificate. */
export type CredentialConfig =
  | { readonly type: "none" }
  | { readonly type: "token"; readonly token: Secret }
  | {
    readonly type: "token-file";
    readonly path: string;
    /** Used while the file cannot be read. */
    readonly fallback?: Secret;
  }
  | {
    readonly type: "basic";
    readonly username: string;
    readonly password: Secret;
  }
  | { readonly type: "exec"; readonly exec: ExecConfig };

export type ExecApiVersion =
  | "client.authentication.k8s.io/v1"
  | "client.authentication.k8s.io/v1beta1";

export type InteractiveMode = "Never" | "IfAvailable" | "Always";

/** A program that prints credentials (client-go's exec plugin). */
export interface ExecConfig {
  readonly apiVersion: ExecApiVersion;
  /** A name looked up on the PATH, or an absolute path. */
  readonly command: string;
  readonly args: readonly string[];
  /** Added to the environment the program inherits. */
  readonly env: Readonly<Record<string, Secret>>;
  readonly interactiveMode: InteractiveMode;
  /** What to tell people who do not have the program; may be empty. */
  readonly installHint: string;
  /**
   * `spec.cluster` of KUBERNETES_EXEC_INFO as JSON, where the plugin asks for
   * it. Secret, since its proxy-url may hold a password.
   */
  readonly cluster?: Secret;
}

/** Whom to act as, by the Impersonate-* headers. */
export interface Impersonation {
  readonly user: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

export interface ProxyConfig {
  /** `http://`, `https://` or `socks5://`; without user and password. */
  readonly url: string;
  readonly username?: string;
  readonly password?: Secret;
}

export interface ApiConfig {
  /** For people: `context "kind" of "/root/.kube/config"`. */
  readonly source: string;
  /** `https://10.0.0.1:6443`, a path kept, no slash at the end. */
  readonly server: string;
  /** Trusted in addition to Deno's own list, which fetch cannot be denied. */
  readonly ca?: PemSource;
  /** Asked for; what Deno makes of it is told when a certificate fails. */
  readonly insecureSkipTlsVerify: boolean;
  readonly clientCertificate?: ClientCertificate;
  readonly credential: CredentialConfig;
  readonly impersonate?: Impersonation;
  readonly proxy?: ProxyConfig;
  /**
   * KUBERNETES_SERVICE_HOST, where `server` was made of it: a ClusterIP, which
   * we may have to provide ourselves.
   */
  readonly serviceHost?: string;
}

/**
 * Makes one spelling of an API server's address.
 *
 * @param where for the message, as `--master`
 * @param secure whether an address without a scheme means https
 * @throws {ConfigError} not an http(s) address, or one with more than a path
 */
export function serverUrl(
  text: string,
  options: { where: string; secure: boolean },
): string {
  const scheme = options.secure ? "https://" : "http://";
  const full = text.includes("://") ? text : scheme + text;
  const cannot = `Cannot use the API server address of ${options.where}`;
  // The text is not repeated: it may hold a user and a password.
  if (!URL.canParse(full)) {
    throw new ConfigError(`${cannot}: want http(s)://HOST:PORT`);
  }
  const url = new URL(full);
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    throw new ConfigError(
      `${cannot}: scheme is "${url.protocol.slice(0, -1)}", ` +
        `want "https" or "http"`,
    );
  }
  if (url.username !== "" || url.password !== "") {
    throw new ConfigError(
      `${cannot}: it holds a user or password, which belong into ` +
        `"username" and "password" of a kubeconfig user`,
    );
  }
  if (url.search !== "" || url.hash !== "") {
    throw new ConfigError(`${cannot}: it holds a query or a fragment`);
  }
  return url.origin + url.pathname.replace(/\/+$/, "");
}

/**
 * Refuses what cannot be the value of an HTTP header: `fetch` would name the
 * value, a secret, in its own error.
 *
 * @param what for the message, as `token of user "kind"`
 * @throws {ConfigError}
 */
export function checkHeaderValue(value: string, what: string): void {
  if (!/^[\x20-\x7e]*$/.test(value)) {
    throw new ConfigError(
      `Cannot use ${what}: it holds characters that no HTTP header may hold ` +
        `(a line feed, or not ASCII)`,
    );
  }
}

/**
 * Refuses text that is no PEM of the wanted kind. Deno ignores a CA file
 * without a certificate in it and then fails with "UnknownIssuer".
 *
 * @param what for the message, as `"certificate-authority" of cluster "kind"`
 * @throws {ConfigError}
 */
export function checkPem(
  text: string,
  kind: "CERTIFICATE" | "PRIVATE KEY",
  what: string,
): void {
  if (text.includes("BEGIN ENCRYPTED PRIVATE KEY")) {
    throw new ConfigError(
      `Cannot use ${what}: the private key is encrypted, want one without a ` +
        `passphrase`,
    );
  }
  const pem = new RegExp(`-----BEGIN (?:[A-Z0-9]+ )?${kind}-----`);
  if (!pem.test(text)) {
    throw new ConfigError(
      `Cannot use ${what}: it holds no PEM block "${kind}"`,
    );
  }
}

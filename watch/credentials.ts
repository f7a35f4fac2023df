/**
 * From an `ApiConfig`'s credential to what a request carries, now: the value of
 * `Authorization`, or a client certificate. Knows when to look again (a file
 * that changes, a plugin's expiry, a 401), but sends nothing itself.
 *
 * @module
 */
import {
  type ApiConfig,
  checkHeaderValue,
  ConfigError,
  type Impersonation,
} from "./api_config.ts";
import type { Clock } from "./clock.ts";
import {
  bearer,
  type Credential,
  type CredentialSource,
} from "./credential.ts";
import { ExecCredentials } from "./exec_credential.ts";
import { Secret } from "./secret.ts";
import { WatchedFile } from "./watched_file.ts";

/**
 * The source for a configuration's credential.
 *
 * @param options.signal stops a plugin that is running
 */
export function credentialSource(
  config: ApiConfig,
  options: { clock: Clock; signal: AbortSignal },
): CredentialSource {
  const credential = config.credential;
  switch (credential.type) {
    case "none":
      return constant({});
    case "token":
      return constant({ authorization: bearer(credential.token) });
    case "basic": {
      const pair = `${credential.username}:${credential.password.reveal()}`;
      const value = `Basic ${base64(pair)}`;
      return constant({ authorization: new Secret(value) });
    }
    case "token-file":
      return new TokenFile(credential.path, credential.fallback, options.clock);
    case "exec":
      return new ExecCredentials(credential.exec, {
        ...options,
        ca: config.ca,
      });
  }
}

/** The Impersonate-* headers, in pairs, since a name can come several times. */
export function impersonationHeaders(
  impersonation: Impersonation | undefined,
): [name: string, value: string][] {
  if (impersonation === undefined) return [];
  const { user, uid, groups, extra } = impersonation;
  const headers: [string, string][] = [["Impersonate-User", user]];
  if (uid !== "") headers.push(["Impersonate-Uid", uid]);
  for (const group of groups) headers.push(["Impersonate-Group", group]);
  for (const [key, values] of Object.entries(extra)) {
    // The key is part of a header's name: what may not stand there is
    // percent-encoded, and the API server decodes it.
    const name = `Impersonate-Extra-${encodeURIComponent(key)}`;
    for (const value of values) headers.push([name, value]);
  }
  return headers;
}

function constant(credential: Credential): CredentialSource {
  return {
    current: () => Promise.resolve(credential),
    renew: () => Promise.resolve(false),
  };
}

class TokenFile implements CredentialSource {
  readonly #file: WatchedFile;
  readonly #fallback: Secret | undefined;

  constructor(path: string, fallback: Secret | undefined, clock: Clock) {
    this.#file = new WatchedFile(path, { clock, accept: tokenIn(path) });
    this.#fallback = fallback;
  }

  async current(): Promise<Credential> {
    return { authorization: bearer(await this.#token(false)) };
  }

  async renew(rejected: Credential): Promise<boolean> {
    const token = bearer(await this.#token(true));
    return rejected.authorization === undefined ||
      !token.equals(rejected.authorization);
  }

  async #token(force: boolean): Promise<Secret> {
    try {
      return new Secret(await this.#file.read({ force }));
    } catch (error) {
      if (this.#fallback !== undefined) return this.#fallback;
      throw error instanceof ConfigError ? error : new ConfigError(
        `Cannot read token "${this.#file.path}": ${
          error instanceof Error ? error.message : String(error)
        }`,
      );
    }
  }
}

function tokenIn(path: string): (text: string) => string {
  return (text) => {
    const token = text.trim();
    if (token === "") {
      throw new ConfigError(`Cannot use token "${path}": empty`);
    }
    checkHeaderValue(token, `token "${path}"`);
    return token;
  };
}

function base64(text: string): string {
  const bytes = new TextEncoder().encode(text);
  return btoa(String.fromCharCode(...bytes));
}

/**
 * What a request is sent with, and where that comes from: the interface the
 * client asks, whatever stands behind it (a constant, a file, a plugin).
 *
 * @module
 */
import { Secret } from "./secret.ts";

/** What one request is sent with. */
export interface Credential {
  /** Value of the Authorization header. */
  readonly authorization?: Secret;
  /** A certificate that belongs to the credential: PEM texts. */
  readonly clientCertificate?: {
    readonly certificate: Secret;
    readonly key: Secret;
  };
}

export interface CredentialSource {
  /** What to send the next request with. */
  current(signal: AbortSignal): Promise<Credential>;
  /**
   * Looks for something newer than what the server answered 401 to.
   *
   * @returns whether `current()` now gives something else
   */
  renew(rejected: Credential, signal: AbortSignal): Promise<boolean>;
}

/** `Bearer TOKEN`. */
export function bearer(token: Secret): Secret {
  return new Secret(`Bearer ${token.reveal()}`);
}

/**
 * What Deno's `fetch` says when no answer came, in the words of an operator.
 * Its own message is a chain ("error sending request for url (...): client
 * error (Connect): tcp connect error: Connection refused (os error 111)") of
 * which one link matters.
 *
 * @module
 */

/** The API server gave no answer: no connection, no TLS, or silence. */
export class UnreachableError extends TypeError {
  override readonly name = "UnreachableError";

  /**
   * Something answered on that address, only not as an API server we can talk
   * to (TLS failed, or the connection was closed).
   */
  readonly answered: boolean;

  /**
   * @param server its address, without secrets
   * @param reason a few words, as "connection refused"
   */
  constructor(
    readonly server: string,
    readonly reason: string,
    options: { answered: boolean; cause?: unknown },
  ) {
    super(
      `Cannot reach API server ${server}: ${reason}`,
      options.cause === undefined ? {} : { cause: options.cause },
    );
    this.answered = options.answered;
  }
}

/** No answer came, so nothing is known about the server's opinion. */
export function isUnreachable(error: unknown): error is UnreachableError {
  return error instanceof UnreachableError;
}

/**
 * Whether the server's certificate was refused, by us, so that another CA may
 * help.
 */
export function isCertificateProblem(error: unknown): boolean {
  return textOf(error).includes("invalid peer certificate");
}

interface Rule {
  readonly pattern: RegExp;
  /** See {@linkcode UnreachableError.answered}. */
  readonly answered: boolean;
  readonly reason: (match: readonly string[]) => string;
}

/** The first that matches is taken. Texts of rustls, hyper and the OS. */
const RULES: readonly Rule[] = [
  {
    pattern: /invalid peer certificate: UnknownIssuer/,
    answered: true,
    reason: () =>
      "its certificate is signed by an authority that is not trusted",
  },
  {
    pattern:
      /invalid peer certificate: certificate not valid for name "([^"]*)"(?:; certificate is only valid for (.*))?/,
    answered: true,
    reason: ([, name, only]) =>
      `its certificate is not valid for "${name}"` +
      (only === undefined ? "" : `, only for ${only}`),
  },
  {
    pattern: /invalid peer certificate: (?:certificate )?expired/i,
    answered: true,
    reason: () => "its certificate has expired",
  },
  {
    pattern: /(invalid peer certificate: .*)/,
    answered: true,
    reason: ([, what = ""]) => what,
  },
  {
    pattern: /received fatal alert: (\w+)/,
    answered: true,
    reason: ([, alert]) =>
      `it refused the TLS handshake (${alert}); check the client certificate`,
  },
  {
    pattern: /InvalidContentType|invalid HTTP version/,
    answered: true,
    reason: () => "it speaks another protocol on that port (https or http?)",
  },
  {
    pattern: /handshake eof|connection closed|connection reset|broken pipe/i,
    answered: true,
    reason: () => "it closed the connection",
  },
  {
    pattern: /dns error/,
    answered: false,
    reason: () => "host name not found",
  },
  {
    pattern: /Requests to port (\d+) are blocked/,
    answered: false,
    reason: ([, port]) => `Deno's fetch refuses port ${port}, as browsers do`,
  },
  {
    pattern: /Requires net access to "([^"]*)"/,
    answered: false,
    reason: ([, host]) => `Deno denies it; add --allow-net=${host}`,
  },
  {
    // "Connection refused (os error 111)", "No route to host (os error 113)"
    pattern: /([A-Za-z][A-Za-z ]*) \(os error \d+\)/,
    answered: false,
    reason: ([, what = ""]) => what.trim().toLowerCase(),
  },
  {
    pattern: /client error \(\w+\): (.*)/,
    answered: false,
    reason: ([, what = ""]) => what,
  },
];

/** A few words for why `fetch` failed; its own message if no rule fits. */
export function unreachableReason(
  error: unknown,
): { reason: string; answered: boolean } {
  const text = textOf(error);
  for (const { pattern, answered, reason } of RULES) {
    const match = pattern.exec(text);
    if (match !== null) return { reason: reason(match), answered };
  }
  return { reason: text, answered: false };
}

/** The innermost message: Deno keeps the interesting one in `cause`. */
function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? textOf(error.cause) : error.message;
}

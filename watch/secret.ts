/**
 * A value that must not be printed: token, password, private key. Logging or
 * inspecting an object that holds one shows `[secret]`, so that no later
 * change of a log line can leak it by accident.
 *
 * @module
 */

/** Text shown in place of every secret. */
const HIDDEN = "[secret]";

/** Shortest text `hideSecrets` looks for: shorter ones would blank words. */
const MIN_HIDDEN_LENGTH = 4;

/** A string that only `reveal()` gives away. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The value itself: for a header or a TLS library, never for a message. */
  reveal(): string {
    return this.#value;
  }

  equals(other: Secret): boolean {
    return this.#value === other.#value;
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [Symbol.for("Deno.customInspect")](): string {
    return HIDDEN;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return HIDDEN;
  }
}

/**
 * Blanks every occurrence of `secrets` in text that came from elsewhere (a
 * server's answer, a program's error output).
 *
 * Does not find a secret of fewer than four characters, nor one that was
 * encoded or cut in two.
 */
export function hideSecrets(
  text: string,
  secrets: Iterable<Secret>,
): string {
  let hidden = text;
  for (const secret of secrets) {
    const value = secret.reveal();
    if (value.length < MIN_HIDDEN_LENGTH) continue;
    hidden = hidden.replaceAll(value, HIDDEN);
  }
  return hidden;
}

/**
 * Says a repeating failure once: the first time, when it becomes another one,
 * and when it is over. A server that is away for a night is three lines.
 *
 * @module
 */
import type { Logger } from "@std/log";

export class TroubleLog {
  readonly #logger: Logger;
  readonly #properties: Readonly<Record<string, unknown>>;
  #last = "";
  #count = 0;

  /** @param properties go with every line: which resource this is about */
  constructor(logger: Logger, properties: Readonly<Record<string, unknown>>) {
    this.#logger = logger;
    this.#properties = properties;
  }

  /** Warns, unless the last call said the same; then it is a debug line. */
  failed(message: string, cause: unknown): void {
    const text = `${message} ${cause instanceof Error ? cause.message : cause}`;
    this.#count++;
    const properties = { ...this.#properties, cause, failures: this.#count };
    if (text === this.#last) this.#logger.debug(message, properties);
    else this.#logger.warn(message, properties);
    this.#last = text;
  }

  /** Tells that it works again, if it did not. */
  recovered(message: string): void {
    if (this.#count === 0) return;
    this.#logger.info(message, { ...this.#properties, failures: this.#count });
    this.#count = 0;
    this.#last = "";
  }
}

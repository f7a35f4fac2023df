/**
 * A small file somebody else replaces now and then: a token the kubelet
 * rotates, a renewed certificate. Its content is kept and read again after a
 * while, or at once when the server refused what was in it.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { type Clock, systemClock } from "./clock.ts";

/**
 * How long a content is used without looking, milliseconds. client-go reads its
 * token files as often; the kubelet replaces a token hours before it expires.
 */
export const FILE_CHECK_INTERVAL_MS = 60_000;

const logger = getLogger("watch");

/**
 * 1. The first read throws if the file cannot be read.
 * 2. Later, a file that cannot be read or is not accepted is named in the log
 *    once, and its last good content stays in use.
 */
export class WatchedFile {
  readonly path: string;
  readonly #accept: (text: string) => string;
  readonly #clock: Clock;
  #content: string | undefined;
  #readAtMs = -Infinity;
  #failed = false;

  /**
   * @param options.accept makes a content of the text; throws to refuse it
   */
  constructor(
    path: string,
    options: { accept?: (text: string) => string; clock?: Clock } = {},
  ) {
    this.path = path;
    this.#accept = options.accept ?? ((text) => text);
    this.#clock = options.clock ?? systemClock;
  }

  /**
   * The content, at most a minute old.
   *
   * @param options.force looks now, whatever the age
   */
  async read(options: { force?: boolean } = {}): Promise<string> {
    const ageMs = this.#clock.now() - this.#readAtMs;
    // Below 0: the machine's clock was set back.
    const young = ageMs >= 0 && ageMs < FILE_CHECK_INTERVAL_MS;
    if (this.#content !== undefined && young && !options.force) {
      return this.#content;
    }
    try {
      this.#content = this.#accept(await Deno.readTextFile(this.path));
      this.#failed = false;
    } catch (error) {
      if (this.#content === undefined) throw error;
      if (!this.#failed) {
        logger.warn("Cannot read file again; its last content stays in use", {
          path: this.path,
          cause: error,
        });
      }
      this.#failed = true;
    }
    this.#readAtMs = this.#clock.now();
    return this.#content;
  }
}

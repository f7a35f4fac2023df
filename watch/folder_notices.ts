/**
 * "Something in this folder may have changed": the file system's notices,
 * gathered until they stop coming, with a slow regular look beside them. Says
 * neither what nor whether; who asks compares.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Clock } from "./clock.ts";
import { LinkedAbort } from "./deadline.ts";

/** Looking without a notice. */
export const LOOK_INTERVAL_MS = 2_000;
/** An editor's write is several notices; this long after the last it is over. */
export const QUIET_MS = 100;
/** A folder that is never quiet is looked at nevertheless. */
const LONGEST_GATHERING_MS = 1_000;

const logger = getLogger("watch");

export class FolderNotices implements Disposable {
  readonly #folder: string;
  readonly #clock: Clock;
  #watcher:
    | { readonly fs: Deno.FsWatcher; readonly folder: string }
    | undefined;
  #noticed = Promise.withResolvers<void>();
  #complained = false;

  constructor(folder: string, clock: Clock) {
    this.#folder = folder;
    this.#clock = clock;
  }

  /**
   * Makes sure that notices come from the folder that has this name now. To be
   * called before a look: what changes after it is noticed.
   */
  listen(): void {
    const folder = this.#identity();
    if (this.#watcher?.folder === folder) return;
    this.#close();
    if (folder === undefined) return;
    try {
      const fs = Deno.watchFs(this.#folder, { recursive: false });
      this.#watcher = { fs, folder };
      this.#pump(fs);
    } catch (cause) {
      if (this.#complained) return;
      this.#complained = true;
      logger.info("No notices of changed files; looking now and then instead", {
        folder: this.#folder,
        cause,
      });
    }
  }

  /**
   * Resolves when it is worth looking again.
   *
   * @throws the signal's reason
   */
  async next(signal: AbortSignal): Promise<void> {
    using abort = new LinkedAbort(signal);
    const look = this.#clock.delay(LOOK_INTERVAL_MS, abort.signal);
    look.catch(() => {});
    const isNotice = await Promise.race([
      this.#noticed.promise.then(() => true),
      look.then(() => false),
    ]);
    const until = this.#clock.now() + LONGEST_GATHERING_MS;
    for (let more = isNotice; more;) {
      this.#noticed = Promise.withResolvers<void>();
      let quiet = true;
      this.#noticed.promise.then(() => quiet = false);
      await this.#clock.delay(QUIET_MS, signal);
      more = !quiet && this.#clock.now() < until;
    }
  }

  [Symbol.dispose](): void {
    this.#close();
  }

  #close(): void {
    this.#watcher?.fs.close();
    this.#watcher = undefined;
  }

  async #pump(fs: Deno.FsWatcher): Promise<void> {
    try {
      for await (const event of fs) {
        // Reading the files is an event too, and would notify of itself.
        if (event.kind !== "access") this.#noticed.resolve();
      }
    } catch (cause) {
      logger.debug("Notices of changed files ended", {
        folder: this.#folder,
        cause,
      });
    }
  }

  /** A folder that was replaced is another one under the same name. */
  #identity(): string | undefined {
    try {
      const { dev, ino } = Deno.statSync(this.#folder);
      return `${dev} ${ino}`;
    } catch {
      return undefined;
    }
  }
}

/**
 * Whether an API server can be reached, told once for everything that is asked
 * of it: three resources that cannot be followed are one server that is away.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { type Clock, systemClock } from "./clock.ts";
import { isUnreachable } from "./unreachable.ts";

const logger = getLogger("watch");

/** A server that goes away is cut, closed and refused within a moment. */
const NEW_REASON_AFTER_MS = 10_000;

/** As it was last told. */
interface Away {
  readonly reason: string;
  readonly toldAt: number;
  readonly since: number;
}

/**
 * 1. The first failure is a warning; those that follow are not, unless the
 *    reason is another, and still is ten seconds later.
 * 2. The first answer ends it, and is told with the time it took.
 */
export class Reachability {
  readonly #clock: Clock;
  #away: Away | undefined;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /**
   * @param resource its name, as `services`
   * @returns false if `error` is something else: then nothing was told
   */
  lost(resource: string, error: unknown): boolean {
    if (!isUnreachable(error)) return false;
    const { server, reason } = error;
    const message = "Cannot reach the API server; what is known stays served";
    const now = this.#clock.now();
    const away = this.#away;
    if (
      away !== undefined &&
      (away.reason === reason || now - away.toldAt < NEW_REASON_AFTER_MS)
    ) {
      logger.debug(message, { server, resource, cause: error });
    } else {
      logger.warn(message, { server, reason });
      this.#away = { reason, toldAt: now, since: away?.since ?? now };
    }
    return true;
  }

  /** The server has answered, whatever it said. */
  answered(server: string): void {
    if (this.#away === undefined) return;
    const awayMs = this.#clock.now() - this.#away.since;
    this.#away = undefined;
    logger.info("The API server answers again", {
      server,
      awaySeconds: Math.round(awayMs / 1000),
    });
  }
}

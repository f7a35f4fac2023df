/**
 * Writes what data threads have to say. In: counted events. Out: lines, each
 * kind at most every 30 s. The kinds of a ServicePort are its own.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Clock } from "../../../watch/clock.ts";
import { RepeatedLog } from "../../repeated_log.ts";
import type { CountedEvent } from "./messages.ts";

const logger = getLogger("engine");

export class EngineLog implements Disposable {
  readonly #log: RepeatedLog;

  constructor(clock: Clock) {
    const write = (message: string, properties: Record<string, unknown>) =>
      logger.warn(message, properties);
    this.#log = new RepeatedLog({ clock, write });
  }

  /** @param service undefined: it concerns no single ServicePort */
  write(
    { kind, message, properties, count }: CountedEvent,
    service?: string,
  ): void {
    const of = service === undefined ? {} : { service };
    this.#log.report(
      `${service} ${kind}`,
      message,
      { ...of, ...properties },
      count,
    );
  }

  /** A line for each; the same as the portable engine's, without the bytes. */
  connectionEnded(properties: Readonly<Record<string, unknown>>): void {
    logger.debug("Connection ended", properties);
  }

  flowEnded(properties: Readonly<Record<string, unknown>>): void {
    logger.debug("Flow ended", properties);
  }

  [Symbol.dispose](): void {
    this.#log[Symbol.dispose]();
  }
}

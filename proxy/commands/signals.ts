/**
 * How a long-running command is asked to end.
 *
 * @module
 */
import { getLogger } from "@std/log";

const logger = getLogger("main");

/** SIGTERM is how a supervisor ends a process, SIGINT is Ctrl-C. */
const SIGNALS = ["SIGTERM", "SIGINT"] as const;

/**
 * Waits for the first signal. The second one ends the process at once, for
 * whoever does not want to wait for connections to drain.
 */
export function untilSignal(): Promise<Deno.Signal> {
  const first = Promise.withResolvers<Deno.Signal>();
  let seen = false;
  for (const signal of SIGNALS) {
    Deno.addSignalListener(signal, () => {
      if (seen) {
        logger.warn("Stopped by a second signal; open connections are cut");
        Deno.exit(1);
      }
      seen = true;
      first.resolve(signal);
    });
  }
  return first.promise;
}

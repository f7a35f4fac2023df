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
 * One request can arrive twice: a terminal and systemd signal every process of
 * a group, and `deno task`, which is one of them, passes on what it gets.
 */
const SAME_REQUEST_MS = 500;

/**
 * Waits for the first signal. The second one ends the process at once, for
 * whoever does not want to wait for connections to drain; within half a second
 * it counts as the first one, come by another way.
 */
export function untilSignal(): Promise<Deno.Signal> {
  const first = Promise.withResolvers<Deno.Signal>();
  let seenAt: number | undefined;
  for (const signal of SIGNALS) {
    Deno.addSignalListener(signal, () => {
      if (seenAt === undefined) {
        seenAt = performance.now();
        first.resolve(signal);
      } else if (performance.now() - seenAt >= SAME_REQUEST_MS) {
        logger.warn("Stopped by a second signal; open connections are cut");
        Deno.exit(1);
      }
    });
  }
  return first.promise;
}

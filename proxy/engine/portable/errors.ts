/**
 * The one place that reads the system's error codes for sockets, so that the
 * rest of the engine speaks of what they mean.
 *
 * @module
 */

const EXHAUSTED_CODES: ReadonlySet<unknown> = new Set([
  "EMFILE", // this process has no descriptor left
  "ENFILE", // the machine has none left
  "ENOBUFS",
  "ENOMEM",
]);

/**
 * The machine is out of descriptors or memory: nobody at the other end is to
 * blame, and trying again at once fails again.
 *
 * Deno gives these errors no class of their own, only a `code` (2.9.6: `Error:
 * Too many open files (os error 24)`, code `EMFILE`).
 */
export function isExhausted(error: unknown): boolean {
  return error instanceof Error && "code" in error &&
    EXHAUSTED_CODES.has(error.code);
}

/**
 * The client was gone before we got to it: nothing is wrong with us, and a
 * pause would let who connects and resets hold up everybody else. Linux hands
 * out such a connection all the same, and Deno 2.9.6 then fails to ask it for
 * its peer: `NotConnected`.
 */
export function isClientGone(cause: unknown): boolean {
  return cause instanceof Deno.errors.ConnectionAborted ||
    cause instanceof Deno.errors.NotConnected;
}

/**
 * The end of a listener whose address another process has, too: who waits in its
 * queue would be reset, and who comes while it is closed. In: a socket that
 * nobody accepts on any more. Out: its last clients; then it is closed.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { isClientGone } from "./errors.ts";
import type { TcpListenerOptions } from "./tcp_listener.ts";
import { turn } from "./turns.ts";

/**
 * So long a listener that is left to another process waits for a last client,
 * milliseconds: `accept` cannot be called off at once, and who comes while it is
 * being called off is reset. Right after a client there is time for that, where
 * clients come often; where they do not, it hardly matters.
 */
export const LAST_CLIENT_MS = 50;
/** And so long for those who wait, who may be thousands. */
const LAST_CLIENTS_MS = 1_000;
/**
 * Accepted before the others have their turn, without which Deno (Tokio, rather)
 * finds nobody waiting after 128 of them.
 */
const LAST_CLIENTS_PER_TURN = 64;

/** Closes a socket once, at the latest after some time. */
export class Leaving {
  readonly #closeSocket: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  isClosed = false;

  constructor(closeSocket: () => void) {
    this.#closeSocket = closeSocket;
  }

  within(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.close(), ms);
  }

  close(): void {
    clearTimeout(this.#timer);
    if (!this.isClosed) this.#closeSocket();
    this.isClosed = true;
  }
}

/** Accepts whoever is in the queue, then closes the socket if it is not yet. */
export async function acceptWaiting(
  socket: Deno.TcpListener,
  handle: TcpListenerOptions["handle"],
  leaving: Leaving,
): Promise<void> {
  if (leaving.isClosed) return;
  leaving.within(LAST_CLIENTS_MS);
  for (let attempts = 1;; attempts++) {
    if (attempts % LAST_CLIENTS_PER_TURN === 0) await turn();
    const accepted = socket.accept();
    // Where somebody waits, it is back before this.
    const nobody = new Promise<true>((resolve) =>
      setImmediate(() => resolve(true))
    );
    const isEmpty = await Promise.race([accepted, nobody])
      .then((result) => result === true, () => false);
    if (isEmpty) leaving.close();
    try {
      // Even now somebody may have come.
      handle(await accepted, () => {});
    } catch (cause) {
      if (!leaving.isClosed && isClientGone(cause)) continue;
      return leaving.close();
    }
  }
}

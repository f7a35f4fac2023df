/**
 * The end of a listener whose address another process has, too: who waits in its
 * queue would be reset, and who comes while it is closed. In: a socket that
 * nobody accepts on any more. Out: its last clients; then it is closed.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { isClientGone, isExhausted } from "./errors.ts";
import type { TcpListenerOptions } from "./tcp_listener.ts";
import { PerTurn, turn } from "./turns.ts";

/**
 * So long a listener that is left to another process waits for a last client,
 * milliseconds: `accept` cannot be called off at once, and who comes while it is
 * being called off is reset. Right after a client there is time for that, where
 * clients come often; where they do not, it hardly matters.
 */
export const LAST_CLIENT_MS = 50;
/** And so long for those who wait, who may be hundreds. */
const LAST_CLIENTS_MS = 300;

/**
 * Accepts of all listeners that leave. Tokio lets a program have 128 answers in
 * one turn of the loop, reads of the clients included; for more, it would find
 * that nobody waits.
 */
const accepts = new PerTurn(32);

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
    const timer = this.#timer = setTimeout(async () => {
      // In a long turn of the loop the time is over before it has looked at
      // sockets.
      await turn();
      if (this.#timer === timer) this.close();
    }, ms);
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
  for (;;) {
    await accepts.next();
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
      if (leaving.isClosed) return;
      if (isExhausted(cause)) await turn();
      else if (!isClientGone(cause)) return leaving.close();
    }
  }
}

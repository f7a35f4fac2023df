/**
 * The connections of one HTTP server, bounded in number. In: sockets as they
 * are accepted, and which of them are being answered. At the limit the oldest
 * that is not makes room: a connection that only sits there keeps nobody out.
 *
 * @module
 */
import type { Socket } from "node:net";

/** A socket, as far as it matters here. */
export type ConnectionSocket = Pick<Socket, "destroy" | "once">;

export class Connections<S extends ConnectionSocket = Socket> {
  readonly #limit: number;
  /** Oldest first → how many of its requests are being answered. */
  readonly #open = new Map<S, number>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes a new one in; or closes it, where all others are being answered. */
  admit(socket: S): void {
    if (this.#open.size >= this.#limit) {
      const idle = this.#oldestIdle();
      if (idle === undefined) {
        socket.destroy();
        return;
      }
      this.#open.delete(idle);
      idle.destroy();
    }
    this.#open.set(socket, 0);
    socket.once("close", () => this.#open.delete(socket));
  }

  /**
   * A request of it is being answered.
   *
   * @returns to be called when that is done
   */
  busy(socket: S): () => void {
    this.#add(socket, 1);
    return () => this.#add(socket, -1);
  }

  /** Closes all of them. */
  cut(): void {
    for (const socket of [...this.#open.keys()]) socket.destroy();
  }

  /** Closes those that are not being answered. */
  cutIdle(): void {
    for (const [socket, answering] of [...this.#open]) {
      if (answering === 0) socket.destroy();
    }
  }

  #add(socket: S, count: number): void {
    const before = this.#open.get(socket);
    if (before !== undefined) this.#open.set(socket, before + count);
  }

  #oldestIdle(): S | undefined {
    for (const [socket, answering] of this.#open) {
      if (answering === 0) return socket;
    }
    return undefined;
  }
}

/**
 * The connections of one HTTP server, bounded in number. In: sockets as they
 * are accepted, which of them are being answered, and for which of those we
 * wait until they read. At the limit the oldest that asks nothing makes room,
 * else the one that has not read for longest: a connection that only sits there
 * keeps nobody out.
 *
 * @module
 */
/** A socket, as far as it matters here. */
export interface ConnectionSocket {
  destroy(): unknown;
  once(event: "close", listener: () => void): unknown;
}

export interface ConnectionLimits {
  /** At a time. */
  readonly connections: number;
  /** Of one connection, that are being answered at a time. */
  readonly requests: number;
}

export class Connections<S extends ConnectionSocket> {
  readonly #limits: ConnectionLimits;
  /** Oldest first → how many of its requests are being answered. */
  readonly #open = new Map<S, number>();
  /** Those of which the client is to read something; the latest to read last. */
  readonly #unread = new Map<S, number>();

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  /** Takes a new one in; or closes it, where we are busy with all others. */
  admit(socket: S): void {
    if (this.#open.size >= this.#limits.connections) {
      const oldest = this.#oldestIdle() ?? this.#longestUnread();
      if (oldest === undefined) {
        socket.destroy();
        return;
      }
      this.#forget(oldest);
      oldest.destroy();
    }
    this.#open.set(socket, 0);
    socket.once("close", () => this.#forget(socket));
  }

  /**
   * A request of it is to be answered. One that asks more than it is answered
   * is closed: nothing else would end it before our memory does.
   *
   * @returns to be called when that is done; undefined: it is closed
   */
  busy(socket: S): (() => void) | undefined {
    const answering = this.#open.get(socket);
    if (answering === undefined) return undefined;
    if (answering >= this.#limits.requests) {
      this.#forget(socket);
      socket.destroy();
      return undefined;
    }
    this.#open.set(socket, answering + 1);
    return () => {
      const before = this.#open.get(socket);
      if (before !== undefined) this.#open.set(socket, before - 1);
    };
  }

  /**
   * From here on we wait for its client to read.
   *
   * @returns to be called when it did
   */
  unread(socket: S): () => void {
    if (!this.#open.has(socket)) return () => {};
    this.#unread.set(socket, (this.#unread.get(socket) ?? 0) + 1);
    return () => {
      const before = this.#unread.get(socket);
      if (before === undefined) return;
      this.#unread.delete(socket);
      if (before > 1) this.#unread.set(socket, before - 1);
    };
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

  #forget(socket: S): void {
    this.#open.delete(socket);
    this.#unread.delete(socket);
  }

  #oldestIdle(): S | undefined {
    for (const [socket, answering] of this.#open) {
      if (answering === 0) return socket;
    }
    return undefined;
  }

  #longestUnread(): S | undefined {
    for (const socket of this.#unread.keys()) return socket;
    return undefined;
  }
}

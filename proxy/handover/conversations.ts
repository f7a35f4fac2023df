/**
 * Who is talked to at the lock, which every local process can connect to: a
 * bounded number, and none that says nothing keeps another one out. In:
 * connections, and what is to be said to each. Out: what came of it.
 *
 * @module
 */
import type { LineConnection } from "./line_connection.ts";

/**
 * Those that only ask who holds the lock are gone at once. Beyond it, the one
 * that has gone longest without a proof of who it is makes room: otherwise
 * eight silent ones would keep a new version out.
 */
const CONVERSATIONS_MAX = 8;

export class Conversations {
  readonly #running = new Map<LineConnection, Promise<boolean>>();
  /** Those that may be anybody's; the oldest first. */
  readonly #unproven = new Set<LineConnection>();

  /**
   * Closes the connection if there is no room, even by ending another one.
   *
   * @param talk never rejects; the connection is its own
   */
  async hold(
    connection: LineConnection,
    talk: () => Promise<boolean>,
  ): Promise<void> {
    if (!this.#hasRoom()) {
      connection[Symbol.dispose]();
      return;
    }
    const talking = talk();
    this.#running.set(connection, talking);
    this.#unproven.add(connection);
    await talking;
    this.#forget(connection);
  }

  /** It is known who that is: no other takes its place. */
  proven(connection: LineConnection): void {
    this.#unproven.delete(connection);
  }

  /** Resolves when those that are held now have ended: whether one said true. */
  async ended(): Promise<boolean> {
    const results = await Promise.all(this.#running.values());
    return results.includes(true);
  }

  #hasRoom(): boolean {
    if (this.#running.size < CONVERSATIONS_MAX) return true;
    const [oldest] = this.#unproven;
    if (oldest === undefined) return false;
    this.#forget(oldest);
    oldest[Symbol.dispose]();
    return true;
  }

  #forget(connection: LineConnection): void {
    this.#running.delete(connection);
    this.#unproven.delete(connection);
  }
}

/**
 * Lets an address change hands within one turn of the event loop. Deno gives a
 * socket's descriptor back only when the read or accept that waited on it has
 * ended, some turns after `close()`; until then its address is in use.
 *
 * @module
 */

/** The sockets of an engine that were closed and may still hold an address. */
export class ClosingSockets {
  readonly #ended = new Set<Promise<void>>();

  /** @param ended resolves when a socket that was closed is gone; not rejected */
  add(ended: Promise<void>): void {
    this.#ended.add(ended);
    ended.then(() => this.#ended.delete(ended));
  }

  /**
   * Binds; and where the address is in use, once more when the sockets that are
   * being closed are gone. If it was not one of them, that changes nothing.
   *
   * @throws what `bind` throws, unchanged
   */
  async bind<Socket>(bind: () => Socket): Promise<Socket> {
    try {
      return bind();
    } catch (error) {
      const isOurs = error instanceof Deno.errors.AddrInUse &&
        this.#ended.size > 0;
      if (!isOurs) throw error;
    }
    await Promise.all(this.#ended);
    return bind();
  }
}

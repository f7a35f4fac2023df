/**
 * What endpoints have not answered yet, for the case that they refuse: the
 * newest datagrams of all flows of a thread, one after another in a ring. In:
 * datagrams. Out: copies, unless newer ones lie there now.
 *
 * A copy of its own for each flow would be memory that is allocated and freed
 * for every question of a resolver, nearly always for nothing.
 *
 * @module
 */

/** 8,000 questions of a resolver; a refusal comes within milliseconds. */
const RING_BYTES = 1024 * 1024;

export class KeptDatagrams {
  readonly #ring: Uint8Array<ArrayBuffer>;
  /** How far it was ever written. */
  #end = 0;

  constructor(ringBytes: number = RING_BYTES) {
    this.#ring = new Uint8Array(ringBytes);
  }

  /**
   * @param bytes at the beginning of `data`; not more than the ring has
   * @returns what `get` wants to know
   */
  put(data: Uint8Array, bytes: number): number {
    const size = this.#ring.length;
    let at = this.#end % size;
    // In one piece: what is left at the end of the ring stays unused.
    if (at + bytes > size) {
      this.#end += size - at;
      at = 0;
    }
    this.#ring.set(data.subarray(0, bytes), at);
    this.#end += bytes;
    return this.#end - bytes;
  }

  /** Undefined: it was written over. */
  get(at: number, bytes: number): Uint8Array<ArrayBuffer> | undefined {
    const size = this.#ring.length;
    if (this.#end - at > size) return undefined;
    const from = at % size;
    return this.#ring.slice(from, from + bytes);
  }
}

/**
 * The memory that datagrams are received in. A datagram that does not fit is
 * cut without a word, so that every socket waits with 64 KiB, thousands of
 * them for nothing but a few hundred bytes of DNS.
 *
 * @module
 */

/** More than any datagram has: 65,507 bytes over IPv4, 65,487 over IPv6. */
export const RECEIVE_BUFFER_BYTES = 64 * 1024;

/**
 * How many are allocated at once. What the system maps for a block this large
 * (4 MiB) costs memory only where it is written to, so that a buffer that sees
 * small datagrams costs one page of it. Allocated one by one they are cleared,
 * and with that paid for: 4,096 took 274 MiB, and 60 MiB this way.
 */
const ALLOCATED_AT_ONCE = 64;

/**
 * Lends receive buffers, any number. What was allocated is kept: blocks that
 * are freed and allocated again would come from memory that must be cleared.
 */
export class ReceiveBuffers {
  readonly #free: Uint8Array<ArrayBuffer>[] = [];

  /** A buffer of {@linkcode RECEIVE_BUFFER_BYTES}, to be given back. */
  take(): Uint8Array<ArrayBuffer> {
    if (this.#free.length === 0) this.#allocate();
    return this.#free.pop()!;
  }

  /** Takes back what `take` lent; nobody writes to it any more. */
  giveBack(buffer: Uint8Array<ArrayBuffer>): void {
    this.#free.push(buffer);
  }

  #allocate(): void {
    const block = new ArrayBuffer(ALLOCATED_AT_ONCE * RECEIVE_BUFFER_BYTES);
    for (let at = 0; at < block.byteLength; at += RECEIVE_BUFFER_BYTES) {
      this.#free.push(new Uint8Array(block, at, RECEIVE_BUFFER_BYTES));
    }
  }
}

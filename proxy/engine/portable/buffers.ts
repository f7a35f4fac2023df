/**
 * The memory that bytes pass through. Each direction of a connection waits in
 * a read with a small buffer of its own, and borrows a large one while its
 * reads come back full.
 *
 * @module
 */

/**
 * What an idle direction holds, in bytes. A read in Deno needs its buffer
 * before there is data, so that this is paid twice for every open connection:
 * 10,000 idle ones cost 80 MiB.
 */
export const SMALL_BUFFER_BYTES = 4 * 1024;

/** What a direction borrows, in bytes; ../README.md has the measurements. */
export const LARGE_BUFFER_BYTES = 256 * 1024;

/**
 * How many large buffers are lent at once. Receivers that do not read keep
 * theirs, so this, and not the number of connections, bounds the memory
 * (64 MiB); who gets none goes on with its small buffer.
 */
export const LARGE_BUFFERS_MAX = 256;

/** How many of them are kept when nobody needs them. */
const LARGE_BUFFERS_KEPT = 16;

/** The same of small ones: 1 MiB. */
const SMALL_BUFFERS_KEPT = 256;

/** Lends buffers; of large ones a bounded number. */
export class BufferPool {
  readonly #free: Uint8Array<ArrayBuffer>[] = [];
  /** New ones have to be cleared, and to be collected again. */
  readonly #freeSmall: Uint8Array<ArrayBuffer>[] = [];
  #lent = 0;

  /** How many large buffers are out. */
  get lent(): number {
    return this.#lent;
  }

  /** What an idle direction waits with. */
  takeSmall(): Uint8Array<ArrayBuffer> {
    return this.#freeSmall.pop() ?? new Uint8Array(SMALL_BUFFER_BYTES);
  }

  /** Takes it back when no read is under way any more. */
  giveBackSmall(buffer: Uint8Array<ArrayBuffer>): void {
    if (this.#freeSmall.length < SMALL_BUFFERS_KEPT) {
      this.#freeSmall.push(buffer);
    }
  }

  /** A large buffer to be given back, or `undefined` if all are lent. */
  take(): Uint8Array<ArrayBuffer> | undefined {
    if (this.#lent === LARGE_BUFFERS_MAX) return undefined;
    this.#lent++;
    return this.#free.pop() ?? new Uint8Array(LARGE_BUFFER_BYTES);
  }

  /** Takes back what `take` lent; the giver no longer touches it. */
  giveBack(buffer: Uint8Array<ArrayBuffer>): void {
    this.#lent--;
    if (this.#free.length < LARGE_BUFFERS_KEPT) this.#free.push(buffer);
  }
}

/**
 * Pipes that bytes are spliced through: kernel memory that is filled from one
 * socket and emptied into the other without a copy through this process. Lent
 * to a direction while it has much to move; most connections never need one.
 *
 * @module
 */
import {
  F_GETPIPE_SZ,
  F_SETPIPE_SZ,
  type Libc,
  O_CLOEXEC,
  O_NONBLOCK,
} from "./libc.ts";

/**
 * How much a pipe is made to hold, in bytes; README.md has the measurements.
 * Without CAP_SYS_RESOURCE a user's pipes may hold 64 MiB together
 * (fs.pipe-user-pages-soft), after which they are smaller, and still work.
 */
export const PIPE_BYTES = 1024 * 1024;

/**
 * How many are lent at once. Receivers that do not read keep theirs, so this
 * bounds kernel memory and descriptors; who gets none copies.
 */
export const PIPES_MAX = 128;

/** How many are kept when nobody needs them. */
const PIPES_KEPT = 16;

/** Two descriptors, and how much fits between them. */
export interface Pipe {
  readonly readFd: number;
  readonly writeFd: number;
  readonly bytes: number;
}

export class PipePool implements Disposable {
  readonly #libc: Libc;
  readonly #free: Pipe[] = [];
  readonly #fds = new Int32Array(2);
  #lent = 0;

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /** An empty pipe, or `undefined` if all are lent or no descriptor is left. */
  take(): Pipe | undefined {
    if (this.#lent === PIPES_MAX) return undefined;
    const pipe = this.#free.pop() ?? this.#create();
    if (pipe !== undefined) this.#lent++;
    return pipe;
  }

  /** @param isEmpty false: what is in it shall never be seen again */
  giveBack(pipe: Pipe, isEmpty: boolean): void {
    this.#lent--;
    if (isEmpty && this.#free.length < PIPES_KEPT) this.#free.push(pipe);
    else this.#close(pipe);
  }

  [Symbol.dispose](): void {
    for (const pipe of this.#free.splice(0)) this.#close(pipe);
  }

  #create(): Pipe | undefined {
    const { call } = this.#libc;
    if (call.pipe2(this.#fds, O_NONBLOCK | O_CLOEXEC) === -1) return undefined;
    const [readFd, writeFd] = this.#fds as unknown as [number, number];
    call.fcntl(writeFd, F_SETPIPE_SZ, PIPE_BYTES);
    return { readFd, writeFd, bytes: call.fcntl(writeFd, F_GETPIPE_SZ, 0) };
  }

  #close({ readFd, writeFd }: Pipe): void {
    this.#libc.call.close(readFd);
    this.#libc.call.close(writeFd);
  }
}

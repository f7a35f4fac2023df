/**
 * How connections pass between data threads: as records through a pipe, which
 * is a queue that the kernel keeps, with a wake-up included, and whose records
 * (shorter than PIPE_BUF) are never torn. Descriptors belong to the process, so
 * that their numbers are all there is to send.
 *
 * @module
 */
import type { Libc } from "./libc.ts";
import type { EventHandler } from "./poller.ts";

/**
 * - `open`: thread 0 gives a connected pair away
 * - `ended`: it is told that the pair is no more
 */
const OPEN = 1;
const ENDED = 2;

/** type, id, ServicePort, client's descriptor, endpoint's, bytes sent */
const RECORD_INT32S = 6;
const RECORD_BYTES = RECORD_INT32S * 4;
const RECORDS_MAX = 128;

export interface HandedOver {
  /** Names the connection between the two threads. */
  readonly id: number;
  readonly port: number;
  readonly clientFd: number;
  readonly endpointFd: number;
  /** Of the client's bytes, how many the endpoint was sent already. */
  readonly sentBytes: number;
}

export interface HandOverReceiver {
  opened(pair: HandedOver): void;
  ended(id: number): void;
}

/** The writing end of another thread's pipe. */
export class HandOverSender {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #record = new Int32Array(RECORD_INT32S);
  /** Records for which the pipe had no room, in order. */
  readonly #waiting: number[] = [];

  constructor(libc: Libc, fd: number) {
    this.#libc = libc;
    this.#fd = fd;
  }

  /** False: the other thread has too much to do; keep it. */
  open({ id, port, clientFd, endpointFd, sentBytes }: HandedOver): boolean {
    this.#record.set([OPEN, id, port, clientFd, endpointFd, sentBytes]);
    return this.#write();
  }

  /** Never lost: what does not fit now waits for `flush`. */
  ended(id: number): void {
    if (this.#waiting.length > 0 || !this.#writeEnded(id)) {
      this.#waiting.push(id);
    }
  }

  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  flush(): void {
    let sent = 0;
    while (
      sent < this.#waiting.length && this.#writeEnded(this.#waiting[sent]!)
    ) {
      sent++;
    }
    this.#waiting.splice(0, sent);
  }

  #writeEnded(id: number): boolean {
    this.#record.set([ENDED, id, 0, 0, 0, 0]);
    return this.#write();
  }

  #write(): boolean {
    return this.#libc.call.write(this.#fd, this.#record, RECORD_BYTES) ===
      RECORD_BYTES;
  }
}

/** The reading end of this thread's pipe. */
export class HandOverInbox implements EventHandler {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #receiver: HandOverReceiver;
  readonly #records = new Int32Array(RECORDS_MAX * RECORD_INT32S);

  constructor(
    libc: Libc,
    options: { readonly fd: number; readonly receiver: HandOverReceiver },
  ) {
    this.#libc = libc;
    this.#fd = options.fd;
    this.#receiver = options.receiver;
  }

  onEvents(): void {
    this.read();
  }

  /** False: there was nothing. */
  read(): boolean {
    const bytes = this.#libc.call.read(
      this.#fd,
      this.#records,
      RECORDS_MAX * RECORD_BYTES,
    );
    for (let at = 0; at * 4 < bytes; at += RECORD_INT32S) {
      const [
        type,
        id = 0,
        port = 0,
        clientFd = 0,
        endpointFd = 0,
        sentBytes = 0,
      ] = this
        .#records.subarray(at, at + RECORD_INT32S);
      if (type === OPEN) {
        this.#receiver.opened({ id, port, clientFd, endpointFd, sentBytes });
      } else this.#receiver.ended(id);
    }
    return bytes > 0;
  }
}

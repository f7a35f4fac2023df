/**
 * One socket of a connection, and the direction that begins at it: bytes are
 * read here and written to the other half. In: what epoll says. Out: bytes at
 * the peer, and to the connection how the direction ended. README.md draws it.
 *
 * Sockets are watched edge-triggered: epoll tells once that a socket became
 * readable, and it is so until a read has found it empty. So both are
 * remembered, and moving bytes needs no further call to epoll.
 *
 * @module
 */
import { EAGAIN, EINTR } from "./errors.ts";
import {
  EPOLLERR,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  type Libc,
  MSG_MORE,
  MSG_NOSIGNAL,
  SHUT_WR,
  SPLICE_F_MOVE,
  SPLICE_F_NONBLOCK,
} from "./libc.ts";
import type { Pipe, PipePool } from "./pipes.ts";
import type { EventHandler, Poller } from "./poller.ts";

/**
 * The first `count` bytes of a buffer, which may be everybody's: to be sent, or
 * copied, before who got them returns.
 */
export interface Words {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly count: number;
}

/** What every half is watched for. */
export const READ_EVENTS = EPOLLIN | EPOLLRDHUP | EPOLLET;

/**
 * And what it is watched for from when it first would take no more on: most
 * sockets always do, and none has to say so as soon as it is watched.
 */
export const HALF_EVENTS = READ_EVENTS | EPOLLOUT;

/** A socket that epoll watches, and what it has said of it. */
export interface WatchedSocket {
  readonly fd: number;
  readonly events: number;
  /** Whether for HALF_EVENTS, and not only for READ_EVENTS. */
  readonly isWriteWatched: boolean;
}

/** The socket's peer, or the network, has ended something. */
const ENDED_EVENTS = EPOLLERR | EPOLLHUP | EPOLLRDHUP;

/**
 * What is read into JavaScript's memory at once, in bytes; a read that fills it
 * is a sign of more, and the direction goes on with a pipe.
 */
export const COPY_BYTES = 16 * 1024;

/**
 * What a direction moves before it is another's turn, in bytes; a small message
 * counts as {@linkcode COPY_BYTES}. With sixteen full pipes of 1 MiB each, eight
 * bulk transfers kept the loop from epoll for 224 ms: from new connections,
 * from small requests, and from updates of the policy.
 */
const TURN_BYTES = 512 * 1024;

/** What the halves of one thread share. */
export interface HalfTools {
  readonly libc: Libc;
  readonly poller: Pick<Poller, "change">;
  readonly pipes: PipePool;
  /** One for all: nothing stays in it when a call here returns. */
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** Calls `move` once more, after others have had their turn. */
  again(half: Half): void;
}

/** What a half tells. Each call may end the connection. */
export interface HalfOwner {
  /** Before they are handed to the kernel; `count` < 0 takes back some. */
  moved(half: Half, count: number): void;
  /** This direction is over; `isBroken`: its bytes did not all arrive. */
  directionEnded(half: Half, isBroken: boolean): void;
  /** Reading failed, so that both directions are over. */
  broken(): void;
}

/**
 * - `open`: reading goes on
 * - `ending`: all was read, and not yet all written
 * - `ended`: nothing will be written to the peer any more
 */
type State = "open" | "ending" | "ended";

export class Half implements EventHandler {
  readonly fd: number;
  readonly #tools: HalfTools;
  readonly #owner: HalfOwner;
  /** The other socket; set right after both are made. */
  peer: Half = this;
  #state: State = "open";
  /** A read may find something: bytes, the end, or an error. */
  #readable = false;
  /** A write may succeed. */
  #writable = true;
  /** And where it may not, epoll tells when it may again. */
  #isWriteWatched: boolean;
  /** The end or an error waits behind the bytes: read until it comes. */
  #hasEnd = false;
  /** The socket has failed, so that a read that brings nothing is its last. */
  #hasError = false;
  /** Reads came back full: go by pipe. */
  #isBulk = false;
  #pipe: Pipe | undefined;
  #inPipe = 0;
  /** Bytes that were read and that the peer has not taken yet. */
  #rest: Words | undefined;
  #isQueued = false;

  /** @param first bytes that were read from it already; `move` writes them */
  constructor(socket: WatchedSocket, options: {
    readonly tools: HalfTools;
    readonly owner: HalfOwner;
    readonly first: Words | undefined;
  }) {
    this.fd = socket.fd;
    this.#isWriteWatched = socket.isWriteWatched;
    this.#tools = options.tools;
    this.#owner = options.owner;
    this.#rest = options.first;
    this.#note(socket.events);
  }

  /** This direction was broken off: what it did not read lies at its socket. */
  #isBroken = false;

  get hasEnded(): boolean {
    return this.#state === "ended";
  }

  onEvents(events: number): void {
    this.#note(events);
    if (
      this.#state !== "open" && (events & (EPOLLERR | EPOLLHUP)) !== 0 &&
      !this.peer.hasEnded
    ) {
      // It has said all it had to say, and now listens no more either.
      this.peer.#end(true);
      return;
    }
    if ((events & EPOLLOUT) !== 0) this.peer.move();
    if (this.#readable && this.#state === "open") this.move();
  }

  #note(events: number): void {
    if ((events & (EPOLLIN | ENDED_EVENTS)) !== 0) this.#readable = true;
    if ((events & ENDED_EVENTS) !== 0) this.#hasEnd = true;
    if ((events & EPOLLERR) !== 0) this.#hasError = true;
    if ((events & EPOLLOUT) !== 0) this.#writable = true;
  }

  /** Bytes that the peer was not ready for. */
  get isHolding(): boolean {
    return this.#inPipe > 0 || this.#rest !== undefined;
  }

  /**
   * Moves bytes until there are none, the peer takes no more, or it is
   * another's turn. A receiver that is slow thus fills its own kernel buffer,
   * then what is held here, then the sender's, and stops the sender.
   */
  move(): void {
    this.#isQueued = false;
    for (let left = TURN_BYTES; this.#state !== "ended";) {
      if (!this.peer.#writable) return;
      if (this.#inPipe > 0) {
        if (!this.#emptyPipe()) return;
      } else if (this.#rest !== undefined) {
        if (!this.#write(this.#rest.bytes, this.#rest.count)) return;
      }
      if (this.#state === "ending") return this.#end(false);
      if (!this.#readable) return this.#releasePipe();
      if (left <= 0) return this.#queue();
      const count = this.#isBulk && this.#takePipe()
        ? this.#fillPipe()
        : this.#copy();
      left -= Math.max(count, COPY_BYTES);
    }
  }

  #queue(): void {
    if (this.#isQueued) return;
    this.#isQueued = true;
    this.#tools.again(this);
  }

  /**
   * A small message: two calls, and one buffer for all connections.
   *
   * @returns bytes read; below 1 where there were none
   */
  #copy(): number {
    const { libc, buffer } = this.#tools;
    const count = libc.call.read(this.fd, buffer, COPY_BYTES);
    if (count <= 0) {
      this.#readEnded(count);
      return count;
    }
    // Less than asked for: the socket is empty, and what comes is told anew.
    // Where its end had come before, there is nothing left to be told.
    if (count === COPY_BYTES) this.#isBulk = true;
    else if (this.#hasEnd && !this.#hasError) this.#state = "ending";
    else this.#readable = this.#hasEnd;
    this.#owner.moved(this, count);
    this.#write(buffer, count);
    return count;
  }

  /** False: not all was taken; what was not is kept, or the peer is gone. */
  #write(bytes: Uint8Array<ArrayBuffer>, count: number): boolean {
    const { libc } = this.#tools;
    // The last bytes wait in the kernel for the end that follows at once, and
    // go in one packet with it: two packets less, with the acknowledgement.
    const flags = this.#state === "ending"
      ? MSG_NOSIGNAL | MSG_MORE
      : MSG_NOSIGNAL;
    const written = libc.call.send(this.peer.fd, bytes, count, flags);
    if (written === count) {
      this.#rest = undefined;
      return true;
    }
    if (written === -1) {
      const errno = libc.errno();
      if (errno !== EAGAIN && errno !== EINTR) {
        this.#owner.moved(this, -count);
        this.#end(true);
        return false;
      }
    }
    this.peer.#isFull();
    // A copy: the buffer is everybody's. It is small, and this is rare.
    const rest = bytes.slice(Math.max(0, written), count);
    this.#rest = { bytes: rest, count: rest.length };
    return false;
  }

  /** It takes no more for now. */
  #isFull(): void {
    this.#writable = false;
    if (this.#isWriteWatched) return;
    this.#isWriteWatched = true;
    // Should it take more again by now, this tells of it.
    this.#tools.poller.change(this.fd, HALF_EVENTS);
  }

  /** @returns bytes read; below 1 where there were none */
  #fillPipe(): number {
    const { libc } = this.#tools;
    const pipe = this.#pipe!;
    const count = libc.call.splice(
      this.fd,
      null,
      pipe.writeFd,
      null,
      pipe.bytes,
      SPLICE_F_MOVE | SPLICE_F_NONBLOCK,
    );
    if (count <= 0) {
      this.#readEnded(count);
      return count;
    }
    this.#owner.moved(this, count);
    this.#inPipe = count;
    // The flow has become thin, and a copy is cheaper then.
    if (count < COPY_BYTES) this.#isBulk = false;
    return count;
  }

  /** False: not all was taken, or the peer is gone. */
  #emptyPipe(): boolean {
    const { libc } = this.#tools;
    while (this.#inPipe > 0) {
      const count = libc.call.splice(
        this.#pipe!.readFd,
        null,
        this.peer.fd,
        null,
        this.#inPipe,
        SPLICE_F_MOVE | SPLICE_F_NONBLOCK,
      );
      if (count > 0) {
        this.#inPipe -= count;
        continue;
      }
      const errno = libc.errno();
      if (errno === EAGAIN || errno === EINTR) this.peer.#isFull();
      else {
        this.#owner.moved(this, -this.#inPipe);
        this.#end(true);
      }
      return false;
    }
    return true;
  }

  /** A read returned 0 or -1. */
  #readEnded(count: number): void {
    if (count === 0) {
      this.#state = "ending";
      return;
    }
    const errno = this.#tools.libc.errno();
    if (errno === EINTR) return;
    // errno is asked for by a second call. What the runtime does in between
    // can set it, a futex to EAGAIN for one, and a reset that is taken for
    // "nothing yet" would never be told again: epoll's own word goes first.
    if (errno === EAGAIN && !this.#hasError) {
      this.#readable = false;
      return;
    }
    // The sender broke off, or keep-alive found it dead. Nothing can reach it
    // any more, so the other direction has no purpose either.
    this.#owner.broken();
  }

  #end(isBroken: boolean): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#isBroken = isBroken;
    this.release();
    // Harmless if the peer is gone; and if it has ended, both are closed now.
    // But closing a socket with something unread resets it, and with it what
    // waits in the kernel for its end: the answer to a broken upload.
    if (!this.peer.hasEnded || this.peer.#isBroken) {
      this.#tools.libc.call.shutdown(this.peer.fd, SHUT_WR);
    }
    this.#owner.directionEnded(this, isBroken);
  }

  #takePipe(): boolean {
    this.#pipe ??= this.#tools.pipes.take();
    return this.#pipe !== undefined;
  }

  #releasePipe(): void {
    if (this.#pipe === undefined) return;
    this.#tools.pipes.giveBack(this.#pipe, this.#inPipe === 0);
    this.#pipe = undefined;
  }

  /** Gives back what it holds, and moves nothing any more. */
  release(): void {
    this.#state = "ended";
    this.#rest = undefined;
    this.#releasePipe();
    this.#inPipe = 0;
  }
}

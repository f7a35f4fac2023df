/**
 * One epoll set: the only place where a data thread ever waits. In: sockets,
 * each with whom to tell. Out: calls of `onEvents`, one after another.
 *
 * @module
 */
import { EINTR } from "./errors.ts";
import { epollEventLayout } from "./layouts.ts";
import {
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  type Libc,
} from "./libc.ts";

/** Events that one call of `epoll_wait` can return; more wait for the next. */
const EVENTS_MAX = 256;

const EVENT = epollEventLayout(Deno.build.arch);

/** Told what the kernel says of one descriptor: a set of `EPOLL…` bits. */
export interface EventHandler {
  onEvents(events: number, fd: number): void;
}

export class Poller {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #events = new Int32Array(EVENTS_MAX * EVENT.int32s);
  readonly #event = new Int32Array(EVENT.int32s);
  /** By descriptor, a small number that the kernel uses again. */
  readonly #handlers: (EventHandler | undefined)[] = [];
  readonly #closing: number[] = [];
  #count = 0;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#fd = libc.call.epoll_create1(EPOLL_CLOEXEC);
    if (this.#fd === -1) throw new Error("Cannot create an epoll set");
  }

  /** False: the kernel has no memory for it; `errno` says so. */
  add(fd: number, events: number, handler: EventHandler): boolean {
    if (!this.#control(EPOLL_CTL_ADD, fd, events)) return false;
    this.#handlers[fd] = handler;
    return true;
  }

  /** Other events from now on; 0: none. */
  change(fd: number, events: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events);
  }

  /** Somebody else is told from now on. */
  handOver(fd: number, handler: EventHandler): void {
    this.#handlers[fd] = handler;
  }

  /** No longer watched, and still open: another thread has it now. */
  giveAway(fd: number): void {
    this.#handlers[fd] = undefined;
    this.#control(EPOLL_CTL_DEL, fd, 0);
  }

  /**
   * Nobody hears of it any more, and it is closed at the end of this round.
   * Not at once: the number could belong to a new connection, for which events
   * of the old one are still in our list.
   */
  close(fd: number): void {
    this.#handlers[fd] = undefined;
    this.#closing.push(fd);
  }

  /**
   * Waits for at most `timeoutMs` (-1: for ever) until something happens; then
   * `dispatch` tells of it.
   */
  wait(timeoutMs: number): void {
    const count = this.#libc.call.epoll_wait(
      this.#fd,
      this.#events,
      EVENTS_MAX,
      timeoutMs,
    );
    if (count === -1 && this.#libc.errno() !== EINTR) {
      throw new Error("Cannot wait for events");
    }
    this.#count = Math.max(0, count);
  }

  /**
   * Calls the handlers of what `wait` found.
   *
   * @param failed told what a handler threw; the next are called all the same
   */
  dispatch(failed: (error: unknown) => void): void {
    for (let index = 0; index < this.#count; index++) {
      const at = index * EVENT.int32s;
      const fd = this.#events[at + EVENT.fd]!;
      try {
        this.#handlers[fd]?.onEvents(this.#events[at]!, fd);
      } catch (error) {
        failed(error);
      }
    }
    this.#count = 0;
  }

  /** Closes what `close` was told. */
  finishRound(): void {
    for (const fd of this.#closing) this.#libc.call.close(fd);
    this.#closing.length = 0;
  }

  /** Closes the set itself. */
  [Symbol.dispose](): void {
    this.finishRound();
    this.#libc.call.close(this.#fd);
  }

  #control(operation: number, fd: number, events: number): boolean {
    this.#event[0] = events;
    this.#event[EVENT.fd] = fd;
    return this.#libc.call.epoll_ctl(this.#fd, operation, fd, this.#event) ===
      0;
  }
}

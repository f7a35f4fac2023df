/**
 * Timers of a data thread, which has no event loop to give it any. In: a delay
 * and what to do. Out: calls, from the loop, when they are due.
 *
 * Timers of the same delay end in the order in which they began, so that each
 * delay has a queue, and a timer enters and leaves it at the same cost however
 * many there are: every connection sets one for its dial, and nearly all of
 * them are cleared. There are only a few delays (dial time-outs, linger times,
 * ages), so that the next one due is found by a look at each queue's head.
 *
 * @module
 */

/** A place in a queue. Reused by its owner: setting it again moves it. */
export class Timer {
  readonly due: () => void;
  /** Milliseconds of the loop's clock; meaningful while it is set. */
  at = 0;
  queue: Queue | undefined;
  next: Timer | undefined;
  previous: Timer | undefined;

  constructor(due: () => void) {
    this.due = due;
  }
}

interface Queue {
  readonly delayMs: number;
  first: Timer | undefined;
  last: Timer | undefined;
}

export class Timers {
  readonly #queues = new Map<number, Queue>();

  /** Calls it after `delayMs`, and not at the time it was set for before. */
  set(timer: Timer, { now, delayMs }: { now: number; delayMs: number }): void {
    this.clear(timer);
    let queue = this.#queues.get(delayMs);
    if (queue === undefined) {
      queue = { delayMs, first: undefined, last: undefined };
      this.#queues.set(delayMs, queue);
    }
    timer.at = now + delayMs;
    timer.queue = queue;
    timer.previous = queue.last;
    if (queue.last === undefined) queue.first = timer;
    else queue.last.next = timer;
    queue.last = timer;
  }

  /** Does nothing if it is not set. */
  clear(timer: Timer): void {
    const { queue, next, previous } = timer;
    if (queue === undefined) return;
    if (previous === undefined) queue.first = next;
    else previous.next = next;
    if (next === undefined) queue.last = previous;
    else next.previous = previous;
    timer.queue = timer.next = timer.previous = undefined;
  }

  /** Milliseconds until the next is due, rounded up; -1: none is set. */
  untilNext(now: number): number {
    let at = Infinity;
    for (const { first } of this.#queues.values()) {
      if (first !== undefined && first.at < at) at = first.at;
    }
    return at === Infinity ? -1 : Math.max(0, Math.ceil(at - now));
  }

  /** Calls all that are due. */
  run(now: number): void {
    for (const queue of this.#queues.values()) {
      for (
        let timer = queue.first;
        timer !== undefined && timer.at <= now;
        timer = queue.first
      ) {
        this.clear(timer);
        timer.due();
      }
      // Ages differ from Service to Service: a delay that nobody uses any more
      // shall not be looked at for ever.
      if (queue.first === undefined) this.#queues.delete(queue.delayMs);
    }
  }
}

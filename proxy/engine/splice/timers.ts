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

/**
 * What has a time limit. A base class, so that a connection is its own timer
 * and needs no second object; setting it again moves it.
 */
export abstract class Timed {
  /** In milliseconds of the loop's clock; meaningful while it is set. */
  dueAt = 0;
  queue: Queue | undefined;
  next: Timed | undefined;
  previous: Timed | undefined;

  /** Called by {@linkcode Timers}, once for each time it was set. */
  abstract due(): void;
}

/** For what needs a timer beside its own. */
export class Timer extends Timed {
  readonly #due: () => void;

  constructor(due: () => void) {
    super();
    this.#due = due;
  }

  override due(): void {
    this.#due();
  }
}

interface Queue {
  readonly delayMs: number;
  first: Timed | undefined;
  last: Timed | undefined;
}

export class Timers {
  readonly #queues = new Map<number, Queue>();

  /** Calls it after `delayMs`, and not at the time it was set for before. */
  set(timer: Timed, { now, delayMs }: { now: number; delayMs: number }): void {
    this.clear(timer);
    let queue = this.#queues.get(delayMs);
    if (queue === undefined) {
      queue = { delayMs, first: undefined, last: undefined };
      this.#queues.set(delayMs, queue);
    }
    timer.dueAt = now + delayMs;
    timer.queue = queue;
    timer.previous = queue.last;
    if (queue.last === undefined) queue.first = timer;
    else queue.last.next = timer;
    queue.last = timer;
  }

  /** Does nothing if it is not set. */
  clear(timer: Timed): void {
    const { queue, next, previous } = timer;
    if (queue === undefined) return;
    if (previous === undefined) queue.first = next;
    else previous.next = next;
    if (next === undefined) queue.last = previous;
    else next.previous = previous;
    timer.queue = timer.next = timer.previous = undefined;
  }

  get isEmpty(): boolean {
    return this.#queues.size === 0;
  }

  /** Milliseconds until the next is due, rounded up; -1: none is set. */
  untilNext(now: number): number {
    let at = Infinity;
    for (const { first } of this.#queues.values()) {
      if (first !== undefined && first.dueAt < at) at = first.dueAt;
    }
    return at === Infinity ? -1 : Math.max(0, Math.ceil(at - now));
  }

  /** Calls all that are due. */
  run(now: number): void {
    for (const queue of this.#queues.values()) {
      for (
        let timer = queue.first;
        timer !== undefined && timer.dueAt <= now;
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

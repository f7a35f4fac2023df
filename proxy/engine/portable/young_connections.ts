/**
 * Why a flood to one Service does not hold up the others: they share one event
 * loop, in which each connection waits for all others that have something to
 * do, and a flood that is accepted faster than it is served would leave a
 * thousand of them in it. In: a listener's connections, and when each has passed
 * its first bytes on. Out: whether it may accept more, or when.
 *
 * @module
 */

/**
 * So long it may take a connection to grow up, for each that is under way at the
 * same time, in milliseconds: more than one that is dialled nearby takes, also
 * on a slow machine.
 */
export const YOUNG_MS = 1;
/**
 * Young connections of one listener, while others have clients: at first one,
 * since everybody else waits for what they all do in a turn of the loop, and
 * two are not served faster than one after the other. Where they grow old
 * instead of up it is the endpoints that take their time, and not the loop, so
 * there may be one more; up to eight milliseconds away, that comes to a thousand
 * a second.
 */
export const YOUNG_MAX = 8;
/** Of a listener whose clients are the only ones. */
export const YOUNG_MAX_ALONE = 16;
/** For so long others count as being there, in milliseconds. */
export const OTHERS_MS = 1_000;

/** Connections of all listeners of an engine. */
export class OpenConnections {
  #open = 0;

  opened(): void {
    this.#open++;
  }

  closed(): void {
    this.#open--;
  }

  /** Whether there are more than these. */
  isMoreThan(own: number): boolean {
    return this.#open > own;
  }
}

/** What it costs, a connection costs at its beginning: this is one. */
export interface Young {
  readonly oldAt: number;
}

/**
 * Those of one listener that have not passed a byte on yet. Nothing in it
 * waits: a connection that nobody says has grown up is forgotten when it is
 * old.
 */
export class YoungConnections {
  readonly #now: () => number;
  /** The oldest first. */
  readonly #young = new Set<Young>();
  #max = 1;
  #othersUntil = -Infinity;
  #room: PromiseWithResolvers<void> | undefined;

  /** @param now milliseconds of a clock that nobody sets */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  add(): Young {
    const count = this.#young.size + 1;
    const young = { oldAt: this.#now() + YOUNG_MS * count };
    this.#young.add(young);
    return young;
  }

  has(young: Young): boolean {
    return this.#young.has(young);
  }

  /** Its first bytes were passed on, or it has ended; may be said again. */
  grown(young: Young): void {
    if (!this.#young.delete(young)) return;
    if (this.#now() >= young.oldAt) this.#growRoom();
    else this.#max = Math.max(1, this.#max - 1);
    this.#room?.resolve();
  }

  /**
   * Waits until there may be room for one more, which is to be asked again.
   *
   * @param hasOthers other listeners have clients
   * @returns undefined: there is
   */
  untilRoom(hasOthers: boolean): Promise<void> | undefined {
    const delayMs = this.roomInMs(hasOthers);
    if (delayMs === 0) return undefined;
    const { promise, resolve } = this.#room = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, delayMs);
    return promise.finally(() => clearTimeout(timer));
  }

  /** Until there is room, if none grows up before; 0: there is. */
  roomInMs(hasOthers: boolean): number {
    const now = this.#now();
    if (hasOthers) this.#othersUntil = now + OTHERS_MS;
    for (const young of this.#young) {
      if (now < young.oldAt) break;
      this.#young.delete(young);
      this.#growRoom();
    }
    const isAlone = now >= this.#othersUntil;
    const max = isAlone ? YOUNG_MAX_ALONE : this.#max;
    if (this.#young.size < max) return 0;
    const [oldest] = this.#young;
    return oldest!.oldAt - now;
  }

  #growRoom(): void {
    this.#max = Math.min(this.#max + 1, YOUNG_MAX);
  }
}

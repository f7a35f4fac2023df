/**
 * One list of endpoints, visited in turn. In: the list, as it changes. Out: the
 * endpoint whose turn it is. It knows neither clients nor Services:
 * `load_balancer.ts` keeps one for each distinct list of a ServicePort.
 *
 * @module
 */
import type { EndpointAddress } from "./engine/engine.ts";

/** An endpoint, and its name in maps, logs and statistics. */
export interface Candidate {
  readonly key: string;
  readonly endpoint: EndpointAddress;
}

/** What a choice passes over, by key. */
export interface Keys {
  has(key: string): boolean;
}

/**
 * Each endpoint in turn.
 *
 * 1. While the list and `tried` stay the same, any n·k calls of `next` in a row
 *    visit each of the n endpoints that are not in `tried` k times.
 * 2. An update goes on where the rotation was: the endpoint that was next, or
 *    the first one after it that is still there, is next.
 * 3. An update never makes the endpoint that was picked last be the next one,
 *    unless it is the only one. (The first userspace proxy began at index 0
 *    after every change, so that in a rollout the first endpoint got most.)
 */
export class Rotation {
  #candidates: readonly Candidate[] = [];
  #indexes: ReadonlyMap<string, number> = new Map();
  /** Index of the endpoint whose turn it is. */
  #next = 0;
  /** Key of the endpoint picked last. */
  #last: string | undefined;

  /** @param candidates distinct, in the order they shall be visited */
  constructor(candidates: readonly Candidate[] = []) {
    this.update(candidates);
  }

  /** Another one that goes on from where this one is. */
  copy(): Rotation {
    const copy = new Rotation();
    copy.#candidates = this.#candidates;
    copy.#indexes = this.#indexes;
    copy.#next = this.#next;
    copy.#last = this.#last;
    return copy;
  }

  get(key: string): EndpointAddress | undefined {
    const index = this.#indexes.get(key);
    return index === undefined ? undefined : this.#candidates[index]!.endpoint;
  }

  /** Whether `next` would find one. */
  hasOther(tried: Keys): boolean {
    return this.#candidates.some(({ key }) => !tried.has(key));
  }

  /**
   * The next one whose key is not in `tried`; `undefined` if there is none.
   *
   * @param open if given, the endpoint with the smallest number in it is taken
   *   (none is 0), and among equals the one whose turn is first: a look at all
   *   of them, where the turn alone costs the same for any number
   */
  next(
    tried: Keys,
    open?: ReadonlyMap<string, number>,
  ): Candidate | undefined {
    const count = this.#candidates.length;
    let fewest = Infinity;
    let found = -1;
    for (let step = 0; step < count && fewest > 0; step++) {
      const index = (this.#next + step) % count;
      const { key } = this.#candidates[index]!;
      if (tried.has(key)) continue;
      const connections = open?.get(key) ?? 0;
      if (connections < fewest) [fewest, found] = [connections, index];
    }
    if (found === -1) return undefined;
    const candidate = this.#candidates[found]!;
    this.#next = (found + 1) % count;
    this.#last = candidate.key;
    return candidate;
  }

  update(candidates: readonly Candidate[]): void {
    const indexes = new Map(candidates.map(({ key }, index) => [key, index]));
    this.#next = this.#nextIn(indexes);
    this.#candidates = candidates;
    this.#indexes = indexes;
  }

  #nextIn(indexes: ReadonlyMap<string, number>): number {
    if (indexes.size === 0) return 0;
    const count = this.#candidates.length;
    for (let step = 0; step < count; step++) {
      const { key } = this.#candidates[(this.#next + step) % count]!;
      const index = indexes.get(key);
      if (index !== undefined && key !== this.#last) return index;
    }
    // Of the old list at most the one just picked is left: go past it.
    const last = this.#last === undefined ? undefined : indexes.get(this.#last);
    return last === undefined ? 0 : (last + 1) % indexes.size;
  }
}

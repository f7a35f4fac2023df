/**
 * Which proxy port each Service address has. A port belongs to an address as
 * long as somebody wants the address, listened on or not; then it is not given
 * to another for as long as possible. Pure.
 *
 * @module
 */

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/**
 * Below the range of NodePorts (30000–32767) and of the ports that Linux gives
 * to outgoing connections (32768–60999), where somebody may hold any of them.
 */
export const DEFAULT_PROXY_PORTS: PortRange = { first: 20_000, last: 29_999 };

/** The ports of one protocol. */
export class ProxyPorts {
  readonly #first: number;
  readonly #count: number;
  readonly #portOf = new Map<string, number>();
  readonly #used = new Set<number>();
  #next = 0;

  /**
   * The port on which nobody ever listens, for those that get none of their
   * own: the last of the range.
   */
  readonly closed: number;

  /** @throws {RangeError} if the range does not hold two ports */
  constructor({ first, last }: PortRange) {
    if (first < 1 || last > 65_535 || last <= first) {
      throw new RangeError(`Not a range of ports: ${first}-${last}`);
    }
    this.#first = first;
    this.#count = last - first;
    this.closed = last;
  }

  /**
   * The port of this key, its own from now on.
   *
   * @returns `undefined` if all are taken
   */
  take(key: string): number | undefined {
    return this.#portOf.get(key) ?? this.#takeNext(key);
  }

  /** Takes a certain port, if it is in the range and free. */
  adopt(key: string, port: number): void {
    const isOurs = port >= this.#first && port < this.#first + this.#count;
    if (!isOurs || this.#used.has(port) || this.#portOf.has(key)) return;
    this.#portOf.set(key, port);
    this.#used.add(port);
  }

  /** Another port, since somebody else holds the one that it had. */
  move(key: string): number | undefined {
    const before = this.#portOf.get(key);
    const port = this.#takeNext(key);
    // Given back only now, so that it is not the one that is found.
    if (before !== undefined && port !== undefined) this.#used.delete(before);
    return port;
  }

  release(key: string): void {
    const port = this.#portOf.get(key);
    if (port === undefined) return;
    this.#portOf.delete(key);
    this.#used.delete(port);
  }

  /** Round and round: what was given back last comes last. */
  #takeNext(key: string): number | undefined {
    for (let tries = 0; tries < this.#count; tries++) {
      const port = this.#first + this.#next;
      this.#next = (this.#next + 1) % this.#count;
      if (this.#used.has(port)) continue;
      this.#used.add(port);
      this.#portOf.set(key, port);
      return port;
    }
    return undefined;
  }
}

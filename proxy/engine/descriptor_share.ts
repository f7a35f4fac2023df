/**
 * How the descriptors of the process are shared out: connections leave some to
 * the rest of it, and those of one ServicePort leave some to the others, so
 * that a flood to one Service is not a flood to all. In: the limit, and
 * listeners as they come and go. Out: numbers to hold arrivals against.
 *
 * @module
 */

/**
 * Descriptors that connections leave to the rest of the process, which has an
 * API server to talk to; a quarter of all where there are few.
 */
const RESERVED_DESCRIPTORS_MAX = 64;

/** What Deno has open, about, before anything is asked of it. */
const DESCRIPTORS_OF_PROCESS = 24;

/** A connection is two sockets: its client's and its endpoint's. */
const DESCRIPTORS_OF_CONNECTION = 2;

/**
 * Of all connections that there can be. Much, since most nodes have a few busy
 * Services and no flood; what is left is enough for the others to be served.
 */
const SHARE_OF_SERVICE_PORT = 3 / 4;

/** Why a client of a ServicePort that has its share is turned away. */
export const SHARE_TAKEN = "its Service has its share of descriptors";

/** The number from which on descriptors are not for connections. */
export function descriptorsForConnections(limit: number): number {
  return limit - Math.min(RESERVED_DESCRIPTORS_MAX, Math.floor(limit / 4));
}

export class DescriptorShare {
  /** Descriptors that the process may have; infinite where nobody knows. */
  limit = Infinity;
  /** Those that are neither listeners' nor connections'. */
  inUse = DESCRIPTORS_OF_PROCESS;
  #listeners = 0;

  listenerOpened(): void {
    this.#listeners++;
  }

  listenerClosed(): void {
    this.#listeners--;
  }

  /** TCP connections that a ServicePort may have open; 1 at least. */
  get connectionsMax(): number {
    const left = descriptorsForConnections(this.limit) - this.inUse -
      this.#listeners;
    const connections = left / DESCRIPTORS_OF_CONNECTION;
    return Math.max(1, Math.floor(connections * SHARE_OF_SERVICE_PORT));
  }
}

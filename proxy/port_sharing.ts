/**
 * Two processes that listen on one address for a moment, of which the one
 * replaces the other. In: whether this one may, and listeners that cannot be
 * handed over (`portable`'s). Out: their end, in a way by which nobody is lost.
 *
 * Such sockets (SO_REUSEPORT) let any process of the same user listen there too,
 * and have a share of the clients; `handover/README.md` says what that means.
 *
 * @module
 */

/**
 * 1: what waits in the queue of a listener that is closed passes on to another
 * one at its address (Linux 5.14), else it is reset. Of each network namespace
 * its own; 0 unless it is set.
 */
export const TCP_MIGRATE_REQ = "/proc/sys/net/ipv4/tcp_migrate_req";

/** A listener at an address that another process may have, too. */
export interface SharedListener {
  /** Closes it when nobody waits there; resolves when it is gone. */
  leave(): Promise<void>;
}

export class PortSharing {
  /** Addresses of Services are shared. */
  readonly isOn: boolean;
  /** And the network namespace of each; `undefined`: this process's. */
  readonly #listeners = new Map<SharedListener, string | undefined>();

  /** @param takesOver `--take-over` */
  constructor(takesOver: boolean) {
    // On other systems one of the two sockets gets all clients. And where Deno
    // runs without --unstable-net, asking for one would end the process.
    this.isOn = takesOver && Deno.build.os === "linux" &&
      Deno.listenDatagram !== undefined;
  }

  /** @returns to be called when it is closed */
  opened(
    listener: SharedListener,
    { namespace }: { readonly namespace?: string },
  ): () => void {
    this.#listeners.set(listener, namespace);
    return () => this.#listeners.delete(listener);
  }

  /** Some are open in this network namespace. */
  get isUsedHere(): boolean {
    return [...this.#listeners.values()].includes(undefined);
  }

  /** The other process listens everywhere: this one leaves. */
  async leave(): Promise<void> {
    await Promise.all([...this.#listeners.keys()].map((each) => each.leave()));
  }
}

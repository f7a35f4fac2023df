/**
 * Two processes that listen on one address for a moment, of which the one
 * replaces the other. In: whether this one may, and when it is replaced. Out:
 * how listeners that cannot be handed over (`portable`'s) are opened and closed.
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

export class PortSharing {
  /** Service's own addresses are shared. */
  readonly isOn: boolean;
  #isReplaced = false;

  constructor(isOn: boolean) {
    // Elsewhere the last socket gets all clients, or none does.
    this.isOn = isOn && Deno.build.os === "linux";
  }

  /** The other process listens everywhere: here, the last clients come. */
  get isReplaced(): boolean {
    return this.#isReplaced;
  }

  replaced(): void {
    this.#isReplaced = true;
  }
}

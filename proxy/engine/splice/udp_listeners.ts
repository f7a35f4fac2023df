/**
 * Listening datagram sockets, from the control thread's side. In: addresses,
 * and whose datagrams come there. Out: listeners; errors of the system at once,
 * since sockets are bound here and not by the thread that receives.
 *
 * @module
 */
import type {
  ListenAddress,
  Listener,
  ListenOptions,
  NamespaceOpener,
} from "../engine.ts";
import { openAt } from "../network_namespaces.ts";
import type { DataThreads } from "./data_threads.ts";
import type { Libc } from "./libc.ts";
import { openDatagramListener } from "./udp_socket.ts";

export interface UdpListenersOptions {
  readonly libc: Libc;
  readonly threads: DataThreads;
  readonly freeBind: boolean;
  readonly namespaces?: NamespaceOpener | undefined;
}

export class UdpListeners {
  readonly #options: UdpListenersOptions;
  /** Told to close, and not closed yet: their addresses are still taken. */
  readonly #closing = new Map<number, PromiseWithResolvers<void>>();
  readonly #open = new Set<Listener>();
  #last = 0;

  constructor(options: UdpListenersOptions) {
    this.#options = options;
  }

  /**
   * Binds, and has the data thread serve it. Where one of ours that is being
   * closed has the address, waits for it: an address can change hands at once.
   *
   * @param owner.isWanted asked after that wait
   * @returns undefined: it is no longer wanted
   * @throws the error of the system
   */
  async listen(
    address: ListenAddress,
    owner: {
      readonly port: number;
      readonly options: ListenOptions;
      readonly isWanted: () => boolean;
    },
  ): Promise<Listener | undefined> {
    const closing = [...this.#closing.values()].map(({ promise }) => promise);
    await Promise.all(closing);
    if (!owner.isWanted()) return undefined;
    const { libc, threads, freeBind, namespaces } = this.#options;
    const socket = openAt(
      address,
      namespaces,
      () => openDatagramListener(libc, address, { freeBind }),
    );
    const { port, options } = owner;
    const number = ++this.#last;
    threads.send(
      { type: "udp listen", port, listener: number, ...socket, options },
      "udp",
    );
    const listener: Listener = {
      address: socket.address,
      close: () => {
        if (!this.#open.delete(listener)) return;
        this.#closing.set(number, Promise.withResolvers());
        threads.send({ type: "udp unlisten", listener: number }, "udp");
      },
    };
    this.#open.add(listener);
    return listener;
  }

  /** The data thread: it is closed. */
  closed(number: number): void {
    this.#closing.get(number)?.resolve();
    this.#closing.delete(number);
  }

  /** The threads are no more. */
  [Symbol.dispose](): void {
    for (const { resolve } of this.#closing.values()) resolve();
    this.#closing.clear();
  }
}

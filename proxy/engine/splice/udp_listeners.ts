/**
 * Listening datagram sockets, from the control thread's side. In: addresses,
 * and whose datagrams come there. Out: listeners; errors of the system at once,
 * since sockets are bound here and not by the thread that receives.
 *
 * @module
 */
import type { ListenAddress, Listener, ListenOptions } from "../engine.ts";
import type { ListeningSockets } from "../listening_sockets.ts";
import type { DataThreads } from "./data_threads.ts";

/**
 * How long answers still go out through a socket that another process has taken
 * over: for questions that came before.
 */
const LAST_ANSWERS_MS = 1_000;

export interface UdpListenersOptions {
  readonly threads: DataThreads;
  readonly sockets: ListeningSockets;
  readonly freeBind: boolean;
}

export class UdpListeners {
  readonly #options: UdpListenersOptions;
  /** Told to close, and not closed yet: their addresses are still taken. */
  readonly #closing = new Map<number, PromiseWithResolvers<void>>();
  readonly #open = new Set<Listener>();
  /** Quiet, and not to be closed yet. */
  readonly #answering = new Set<Promise<void>>();
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
    const { threads, sockets, freeBind } = this.#options;
    const { port, options } = owner;
    const { serviceAddress } = options;
    const socket = sockets.open(address, {
      protocol: "UDP",
      serviceAddress,
      freeBind,
    });
    const number = ++this.#last;
    threads.send(
      { type: "udp listen", port, listener: number, ...socket, options },
      "udp",
    );
    const listener: Listener = {
      address: socket.address,
      close: () => {
        if (!this.#open.delete(listener)) return;
        sockets.close(socket);
        this.#closing.set(number, Promise.withResolvers());
        const unlisten = () =>
          threads.send({ type: "udp unlisten", listener: number }, "udp");
        if (!sockets.isShared) return unlisten();
        threads.send({ type: "udp quiet", listener: number }, "udp");
        this.#answerFor(LAST_ANSWERS_MS).then(unlisten);
      },
    };
    this.#open.add(listener);
    return listener;
  }

  #answerFor(ms: number): Promise<void> {
    const answered = new Promise<void>((resolve) => setTimeout(resolve, ms))
      .then(() => void this.#answering.delete(answered));
    this.#answering.add(answered);
    return answered;
  }

  /** Resolves when no answer is waited for that another process will not give. */
  async answered(): Promise<void> {
    await Promise.all(this.#answering);
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

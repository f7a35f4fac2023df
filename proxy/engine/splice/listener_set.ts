/**
 * Listening sockets, from the control thread's side. In: addresses, and whose
 * connections come there. Out: listeners; errors of the system at once, since
 * sockets are bound here and not by the thread that accepts.
 *
 * @module
 */
import type {
  Forwarder,
  ListenAddress,
  Listener,
  ListenOptions,
  RedirectedListener,
} from "../engine.ts";
import type { ListeningSockets } from "../listening_sockets.ts";
import type { DataThreads } from "./data_threads.ts";
import type { EngineParts } from "./engine.ts";
import { SpliceForwarder } from "./forwarder.ts";
import type { Route } from "./messages.ts";

export interface ListenerSetOptions {
  readonly threads: DataThreads;
  readonly sockets: ListeningSockets;
  readonly freeBind: boolean;
}

/** A listener, and the number by which the acceptor knows it. */
export interface NumberedListener extends Listener {
  readonly number: number;
}

export class ListenerSet {
  readonly #options: ListenerSetOptions;
  readonly #open = new Set<NumberedListener>();
  #last = 0;

  constructor(options: ListenerSetOptions) {
    this.#options = options;
  }

  /**
   * Binds, and has the acceptor serve it.
   *
   * @param route undefined: each connection's original destination says
   * @throws the error of the system
   */
  listen(address: ListenAddress, route: Route | undefined): NumberedListener {
    const { threads, sockets, freeBind } = this.#options;
    const serviceAddress = route?.options.serviceAddress;
    const socket = sockets.open(address, { serviceAddress, freeBind });
    const number = ++this.#last;
    threads.send(
      { type: "listen", listener: number, ...socket, route },
      "acceptor",
    );
    const listener: NumberedListener = {
      number,
      address: socket.address,
      close: () => {
        if (!this.#open.delete(listener)) return;
        sockets.close(socket);
        threads.send({ type: "unlisten", listener: number }, "acceptor");
      },
    };
    this.#open.add(listener);
    return listener;
  }

  close(): void {
    for (const listener of [...this.#open]) listener.close();
  }
}

/** See `Engine.listenForRedirected`. */
export function listenForRedirected(
  { listeners, threads }: EngineParts,
  address: ListenAddress,
): RedirectedListener {
  const listener = listeners.listen(address, undefined);
  const setRoute = (destination: ListenAddress, route: Route | undefined) => {
    const { number } = listener;
    threads.send(
      { type: "route", listener: number, destination, route },
      "acceptor",
    );
  };
  return {
    address: listener.address,
    close: listener.close,
    route(
      destination: ListenAddress,
      forwarder: Forwarder,
      options: ListenOptions,
    ) {
      if (!(forwarder instanceof SpliceForwarder)) {
        throw new TypeError("Cannot route to a forwarder of another engine");
      }
      setRoute(destination, { port: forwarder.port, options });
    },
    unroute(destination: ListenAddress) {
      setRoute(destination, undefined);
    },
  };
}

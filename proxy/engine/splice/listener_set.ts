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
import { formatHostPort } from "../../ip.ts";
import type { Route, RouteTo } from "./messages.ts";

export interface ListenerSetOptions {
  readonly threads: DataThreads;
  readonly sockets: ListeningSockets;
  readonly freeBind: boolean;
}

/** A listener, and the number by which the acceptor knows it. */
export interface NumberedListener extends Listener {
  readonly number: number;
}

/** One that is bound. */
export interface BoundListener extends NumberedListener {
  /** Whose connections these are: one ServicePort's, or by destination. */
  serve(routes: {
    readonly route?: Route;
    readonly routes?: readonly RouteTo[];
  }): void;
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
   * @throws the error of the system
   */
  listen(address: ListenAddress, route: Route): NumberedListener {
    const bound = this.bind(address, route.options.serviceAddress);
    bound.serve({ route });
    return bound;
  }

  /**
   * Binds; clients wait until it is served.
   *
   * @throws the error of the system
   */
  bind(
    address: ListenAddress,
    serviceAddress: ListenAddress | undefined,
  ): BoundListener {
    const { threads, sockets, freeBind } = this.#options;
    const socket = sockets.open(address, { serviceAddress, freeBind });
    const number = ++this.#last;
    let isServed = false;
    const serve = (routes: Parameters<BoundListener["serve"]>[0]) => {
      if (isServed) return;
      isServed = true;
      const { route } = routes;
      const listen = { listener: number, ...socket, ...routes, route };
      threads.send({ type: "listen", ...listen }, "acceptor");
    };
    const listener: BoundListener = {
      number,
      address: socket.address,
      serve,
      close: () => {
        if (!this.#open.delete(listener)) return;
        sockets.close(socket);
        // It is for the acceptor to close the descriptor.
        if (!isServed) serve({});
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
  const listener = listeners.bind(address, undefined);
  /** Until it is started; then the acceptor has them. */
  let waiting: Map<string, RouteTo> | undefined = new Map();
  const setRoute = (destination: ListenAddress, route: Route | undefined) => {
    if (waiting !== undefined) {
      const key = formatHostPort(destination.ip, destination.port);
      if (route === undefined) waiting.delete(key);
      else waiting.set(key, { destination, route });
      return;
    }
    const { number } = listener;
    threads.send(
      { type: "route", listener: number, destination, route },
      "acceptor",
    );
  };
  return {
    address: listener.address,
    close: listener.close,
    start() {
      if (waiting === undefined) return;
      const routes = [...waiting.values()];
      waiting = undefined;
      listener.serve({ routes });
    },
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

/**
 * Listeners that many ServicePorts share: where steering leads all TCP addresses
 * of a family to one port, and the engine can ask where a connection was meant
 * to go. In: an address to bind, and whose connections to a Service address
 * are. Out: a listener for that Service address alone, as if it had its own.
 *
 * @module
 */
import type {
  Engine,
  Forwarder,
  ListenAddress,
  Listener,
  ListenOptions,
  RedirectedListener,
} from "./engine/engine.ts";
import { formatHostPort } from "./ip.ts";

interface Shared {
  readonly opening: Promise<RedirectedListener>;
  users: number;
}

/** Whose connections, and to which address clients make them. */
export interface SharedRoute {
  readonly serviceAddress: ListenAddress;
  readonly forwarder: Forwarder;
  readonly options: ListenOptions;
}

export class SharedListeners {
  readonly #engine: Engine;
  readonly #open = new Map<string, Shared>();
  readonly #listeners = new Set<RedirectedListener>();
  /** Opened, and not accepting yet. */
  readonly #waiting: RedirectedListener[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /**
   * Leads connections that were made to a Service address, and arrive at
   * `bind`, to a forwarder. The first one opens the port, the last one that is
   * closed gives it back.
   *
   * @throws the error of the system, as `Forwarder.listen` does
   * @throws {TypeError} if the engine cannot tell connections apart
   */
  async listen(
    bind: ListenAddress,
    { serviceAddress, forwarder, options }: SharedRoute,
  ): Promise<Listener> {
    const key = formatHostPort(bind.ip, bind.port);
    let shared = this.#open.get(key);
    if (shared === undefined) {
      shared = { opening: this.#listen(bind), users: 0 };
      this.#open.set(key, shared);
    }
    shared.users++;
    const listener = await shared.opening.catch((error) => {
      if (this.#open.get(key) === shared) this.#open.delete(key);
      throw error;
    });
    const leave = () => {
      if (--shared.users > 0) return;
      this.#open.delete(key);
      this.#listeners.delete(listener);
      listener.close();
    };
    try {
      listener.route(serviceAddress, forwarder, options);
    } catch (error) {
      leave();
      throw error;
    }
    let isOpen = true;
    return {
      address: listener.address,
      close: () => {
        if (!isOpen) return;
        isOpen = false;
        listener.unroute(serviceAddress);
        leave();
      },
    };
  }

  /** Has those accept that were opened since: all of their routes are known. */
  start(): void {
    for (const listener of this.#waiting.splice(0)) listener.start();
  }

  /**
   * Closes all of them, whoever uses them: none accepts from here on, and
   * nobody is turned away while one route after another goes.
   */
  close(): void {
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
  }

  async #listen(bind: ListenAddress): Promise<RedirectedListener> {
    const { name, listenForRedirected } = this.#engine;
    if (listenForRedirected === undefined) {
      throw new TypeError(`Cannot share a port: engine "${name}" has one each`);
    }
    const listener = await listenForRedirected.call(this.#engine, bind);
    this.#listeners.add(listener);
    this.#waiting.push(listener);
    return listener;
  }
}

/**
 * Accepts the connections of one listening socket. In: a socket, and whose its
 * connections are. Out: connections at their ServicePort. Whatever `accept`
 * says, it goes on: a listener that died silently would look like an open port
 * that nobody answers.
 *
 * @module
 */
import { formatHostPort, ipFamily } from "../../ip.ts";
import { Admission } from "../admission.ts";
import type { ListenAddress } from "../engine.ts";
import { EAGAIN, ECONNABORTED, EINTR, EINVAL, errnoText } from "./errors.ts";
import { PeerAddress, SOCKADDR_BYTES_MAX } from "./layouts.ts";
import { EPOLLIN, SOCK_CLOEXEC, SOCK_NONBLOCK } from "./libc.ts";
import type { Route } from "./messages.ts";
import type { EventHandler } from "./poller.ts";
import type { ServicePort, ServicePortHost } from "./service_port.ts";
import {
  acceptQueue,
  localAddress,
  nextDescriptor,
  originalDestination,
  resetOnClose,
} from "./socket.ts";
import { Timer } from "./timers.ts";

/** Connections accepted before it is another's turn; the rest is told again. */
const ACCEPTS_MAX = 16;

/** Pause after an accept that failed, doubled until the maximum. */
const ACCEPT_PAUSE_MIN_MS = 10;
const ACCEPT_PAUSE_MAX_MS = 1_000;

/** What a listener asks of its thread. */
export interface ListenerHost extends ServicePortHost {
  /** See `descriptorsForConnections`. */
  readonly reservedFrom: number;
  servicePort(port: number): ServicePort | undefined;
  logListener(event: {
    readonly kind: string;
    readonly message: string;
    readonly properties: Readonly<Record<string, unknown>>;
  }): void;
}

interface ResolvedRoute {
  readonly port: number;
  readonly admission: Admission;
  /** The address that clients use, where it is known. */
  readonly serviceAddress: ListenAddress | undefined;
}

const FEW_DESCRIPTORS = "Too many open files (few descriptors are left)";

const sockaddr = new Uint8Array(SOCKADDR_BYTES_MAX);
const length = new Uint32Array(1);

export class AcceptingListener implements EventHandler {
  readonly #host: ListenerHost;
  readonly #fd: number;
  readonly #address: ListenAddress;
  readonly #route: ResolvedRoute | undefined;
  /** Original destination → whose connections these are. */
  readonly #routes = new Map<string, ResolvedRoute>();
  readonly #resume = new Timer(() => this.#listen());
  #pauseMs = ACCEPT_PAUSE_MIN_MS;

  /** @param route undefined: `setRoute` will say, by original destination */
  constructor(
    fd: number,
    options: {
      readonly host: ListenerHost;
      readonly address: ListenAddress;
      readonly route: Route | undefined;
    },
  ) {
    this.#fd = fd;
    this.#host = options.host;
    this.#address = options.address;
    this.#route = options.route && resolve(options.route);
    // Level-triggered: what one round does not accept, the next is told of.
    if (!this.#host.poller.add(fd, EPOLLIN, this)) this.#pause("epoll");
  }

  setRoute(destination: ListenAddress, route: Route | undefined): void {
    const key = formatHostPort(destination.ip, destination.port);
    if (route === undefined) this.#routes.delete(key);
    else this.#routes.set(key, resolve(route));
  }

  close(): void {
    this.#host.timers.clear(this.#resume);
    // Another process may have it too: then closing it ends no events.
    this.#host.poller.giveAway(this.#fd);
    this.#host.poller.close(this.#fd);
  }

  onEvents(): void {
    const { libc, poller } = this.#host;
    // As many as there are: an accept that finds nobody costs 2 µs, which the
    // kernel needs to make a socket and to take it apart.
    let limit = 1;
    for (let count = 0; count < limit; count++) {
      length[0] = SOCKADDR_BYTES_MAX;
      const fd = libc.call.accept4(
        this.#fd,
        sockaddr,
        length,
        SOCK_NONBLOCK | SOCK_CLOEXEC,
      );
      if (fd === -1) {
        const errno = libc.errno();
        if (errno === EAGAIN) return;
        // The client was gone before we got to it: nothing is wrong with us.
        if (errno === ECONNABORTED || errno === EINTR) continue;
        // It listens no more: the control thread has closed it, and says so.
        if (errno === EINVAL) return poller.giveAway(this.#fd);
        return this.#pause(errnoText(errno));
      }
      this.#accepted(fd);
      if (fd >= this.#host.reservedFrom) return this.#pause(FEW_DESCRIPTORS);
      this.#pauseMs = ACCEPT_PAUSE_MIN_MS;
      if (count === 0) {
        limit = Math.min(1 + acceptQueue(libc, this.#fd), ACCEPTS_MAX);
      }
    }
  }

  #accepted(fd: number): void {
    const { libc, poller } = this.#host;
    const client = new PeerAddress(sockaddr);
    const route = this.#route ?? this.#originalRoute(fd);
    const port = route && this.#host.servicePort(route.port);
    if (route === undefined || port === undefined) {
      resetOnClose(libc, fd);
      return poller.close(fd);
    }
    const destination = () =>
      route.serviceAddress ?? this.#originalDestination(fd) ?? this.#address;
    port.accept({ fd, client, destination }, route.admission);
  }

  #originalDestination(fd: number): ListenAddress | undefined {
    const { libc } = this.#host;
    return this.#route === undefined
      ? originalDestination(libc, fd, ipFamily(this.#address.ip))
      : localAddress(libc, fd);
  }

  #originalRoute(fd: number): ResolvedRoute | undefined {
    const destination = this.#originalDestination(fd) ?? this.#address;
    const key = formatHostPort(destination.ip, destination.port);
    const route = this.#routes.get(key);
    if (route === undefined) {
      this.#host.logListener({
        kind: "no route",
        message: "Turned a client away: no ServicePort has this address",
        properties: { destination: key },
      });
    }
    return route;
  }

  /**
   * Clients wait in the kernel's backlog. Out of descriptors accept fails again
   * at once: without a pause this thread would do nothing else.
   */
  #pause(cause: string): void {
    const { timers, poller, now } = this.#host;
    this.#host.logListener({
      kind: `accept ${cause}`,
      message: "Cannot accept connections; trying again",
      properties: {
        address: this.#address.ip,
        port: this.#address.port,
        cause,
      },
    });
    poller.change(this.#fd, 0);
    timers.set(this.#resume, { now, delayMs: this.#pauseMs });
    this.#pauseMs = Math.min(this.#pauseMs * 2, ACCEPT_PAUSE_MAX_MS);
  }

  #listen(): void {
    const { libc, reservedFrom } = this.#host;
    if (nextDescriptor(libc, this.#fd) >= reservedFrom) {
      return this.#pause(FEW_DESCRIPTORS);
    }
    this.#host.poller.change(this.#fd, EPOLLIN);
  }
}

function resolve({ port, options }: Route): ResolvedRoute {
  const { serviceAddress } = options;
  return { port, admission: new Admission(options), serviceAddress };
}

/**
 * From "this client wants the Service" to two connected sockets: dials one
 * endpoint after another, each as the balancer names it, until one answers.
 * The rules are those of `../portable/dial.ts`; here it is a state machine,
 * since a data thread has nothing to await with.
 *
 * @module
 */
import type { ClientAddress, EndpointListName } from "../../load_balancer.ts";
import { OWN_ADDRESS, type OwnAddresses } from "../own_addresses.ts";
import type { Endpoint } from "./endpoint.ts";
import { EINPROGRESS, errnoText, isExhausted } from "./errors.ts";
import { HALF_EVENTS } from "./half.ts";
import { EPOLLERR, EPOLLHUP, EPOLLOUT, type Libc } from "./libc.ts";
import type { EventHandler, Poller } from "./poller.ts";
import {
  isSelfConnection,
  openDialSocket,
  resetOnClose,
  socketError,
} from "./socket.ts";
import { Timed, type Timers } from "./timers.ts";

/** What the searches of a thread share. */
export interface SearchTools {
  readonly libc: Libc;
  readonly poller: Poller;
  readonly timers: Timers;
  readonly dialTimeoutsMs: readonly number[];
  /** What would lead back here counts as an endpoint that refuses. */
  readonly ownAddresses: OwnAddresses;
  readonly now: number;
}

/** A socket that epoll watches, and what it has said of it. */
export interface WatchedSocket {
  readonly fd: number;
  readonly events: number;
}

export type SearchFailure = "no endpoint" | "refused" | "timeout" | "exhausted";

/** What a search asks, and tells. */
export interface SearchOwner {
  pick(
    client: ClientAddress,
    list: EndpointListName,
    tried: ReadonlySet<string>,
  ): Endpoint | undefined;
  dialled(endpoint: Endpoint): void;
  /** @param cause undefined: the client left, nobody failed */
  dialFailed(endpoint: Endpoint, cause: DialFailure | undefined): void;
  /** Owns both sockets from here on, which the poller watches. */
  connected(search: Search, found: {
    readonly client: WatchedSocket;
    readonly endpoint: WatchedSocket;
    readonly to: Endpoint;
  }): void;
  /** The client was reset. `reason` undefined: it left by itself. */
  ended(search: Search, reason?: SearchFailure, cause?: string): void;
}

export interface DialFailure {
  readonly type: "refused" | "timeout";
  readonly cause?: string;
}

/** How a client came, and to what. */
export interface Arrival {
  readonly client: ClientAddress;
  readonly list: EndpointListName;
}

const NONE: ReadonlySet<string> = new Set();

/**
 * 1. An endpoint that refused is not asked again for this connection.
 * 2. One that did not answer in time is asked again only when no other is
 *    left, with the next, longer time-out.
 * 3. It gives up when all have refused, or after as many time-outs as there
 *    are in `dialTimeoutsMs`, or when this machine has no descriptors.
 */
export class Search extends Timed implements EventHandler {
  readonly arrival: Arrival;
  /** Milliseconds, of `performance.now()`. */
  readonly startedAt: number = performance.now();
  readonly #tools: SearchTools;
  readonly #owner: SearchOwner;
  readonly #clientFd: number;
  #clientEvents = 0;
  #dialFd = -1;
  #endpoint: Endpoint | undefined;
  #timeouts = 0;
  // Made when a dial fails: nearly every connection needs neither.
  #refused: Set<string> | undefined;
  #tried: Set<string> | undefined;
  #last: DialFailure | undefined;

  /** Owns the socket. */
  constructor(clientFd: number, options: {
    readonly tools: SearchTools;
    readonly owner: SearchOwner;
    readonly arrival: Arrival;
  }) {
    super();
    this.#clientFd = clientFd;
    this.#tools = options.tools;
    this.#owner = options.owner;
    this.arrival = options.arrival;
  }

  start(): void {
    const { poller, libc } = this.#tools;
    if (poller.add(this.#clientFd, HALF_EVENTS, this)) return this.#dialNext();
    this.#end("exhausted", errnoText(libc.errno()));
  }

  /** The client is reset, and nobody is told but the owner. */
  cut(): void {
    this.#abandonDial();
    this.#end();
  }

  onEvents(events: number, fd: number): void {
    if (fd === this.#dialFd) return this.#dialEvents(events);
    this.#clientEvents |= events;
    // Both directions are over, and we ended none: a reset. One that merely
    // ends its own is waited for: `nc -N host port </dev/null` looks like that.
    if ((events & (EPOLLERR | EPOLLHUP)) !== 0) this.cut();
  }

  #dialNext(): void {
    const { libc, poller, timers, dialTimeoutsMs, ownAddresses, now } =
      this.#tools;
    const { client, list } = this.arrival;
    while (this.#timeouts < dialTimeoutsMs.length) {
      const endpoint = this.#owner.pick(client, list, this.#tried ?? NONE) ??
        this.#owner.pick(client, list, this.#refused ?? NONE);
      if (endpoint === undefined) break;
      if (ownAddresses.has(endpoint.key)) {
        const failure = { type: "refused", cause: OWN_ADDRESS } as const;
        this.#endpoint = endpoint;
        this.#owner.dialled(endpoint);
        this.#dialFailed(failure);
        this.#owner.dialFailed(endpoint, failure);
        continue;
      }
      const fd = openDialSocket(libc, endpoint.sockaddr);
      if (fd === -1) return this.#end("exhausted", errnoText(libc.errno()));
      this.#owner.dialled(endpoint);
      this.#endpoint = endpoint;
      this.#dialFd = fd;
      const { sockaddr } = endpoint;
      const result = libc.call.connect(fd, sockaddr, sockaddr.length);
      const errno = result === -1 ? libc.errno() : 0;
      if (errno !== 0 && errno !== EINPROGRESS) {
        if (isExhausted(errno)) return this.#exhausted(errno);
        this.#dialFailed({ type: "refused", cause: errnoText(errno) });
        continue;
      }
      if (!poller.add(fd, HALF_EVENTS, this)) {
        return this.#exhausted(libc.errno());
      }
      timers.set(this, {
        now,
        delayMs: dialTimeoutsMs[this.#timeouts]!,
      });
      return;
    }
    const last = this.#last;
    this.#end(last?.type ?? "no endpoint", last?.cause);
  }

  #dialEvents(events: number): void {
    const { libc } = this.#tools;
    const fd = this.#dialFd;
    if ((events & (EPOLLERR | EPOLLHUP)) !== 0) {
      const errno = socketError(libc, fd);
      // It may have connected and been reset since; that, too, is a no.
      this.#dialFailed({ type: "refused", cause: errnoText(errno) });
      return this.#dialNext();
    }
    if ((events & EPOLLOUT) === 0) return;
    const endpoint = this.#endpoint!;
    if (isSelfConnection(libc, fd, endpoint.sockaddr)) {
      this.#dialFailed({ type: "refused", cause: "Connected to itself" });
      return this.#dialNext();
    }
    this.#tools.timers.clear(this);
    this.#owner.connected(this, {
      client: { fd: this.#clientFd, events: this.#clientEvents },
      endpoint: { fd, events },
      to: endpoint,
    });
  }

  /** The endpoint did not answer in time. */
  override due(): void {
    this.#timeouts++;
    this.#dialFailed({ type: "timeout" });
    this.#dialNext();
  }

  #dialFailed(failure: DialFailure): void {
    const { key } = this.#endpoint!;
    if (failure.type === "refused") (this.#refused ??= new Set()).add(key);
    (this.#tried ??= new Set()).add(key);
    this.#last = failure;
    this.#abandonDial(failure);
  }

  #exhausted(errno: number): void {
    this.#abandonDial();
    this.#end("exhausted", errnoText(errno));
  }

  #abandonDial(failure?: DialFailure): void {
    if (this.#dialFd === -1) return;
    this.#tools.timers.clear(this);
    this.#tools.poller.close(this.#dialFd);
    this.#dialFd = -1;
    this.#owner.dialFailed(this.#endpoint!, failure);
  }

  #end(reason?: SearchFailure, cause?: string): void {
    this.#owner.ended(this, reason, cause);
    resetOnClose(this.#tools.libc, this.#clientFd);
    this.#tools.poller.close(this.#clientFd);
  }
}

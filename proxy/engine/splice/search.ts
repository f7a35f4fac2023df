/**
 * From "this client wants the Service" to two connected sockets: dials one
 * endpoint after another, each as the balancer names it, until one answers.
 * The rules are those of `../portable/dial.ts`; here it is a state machine,
 * since a data thread has nothing to await with.
 *
 * @module
 */
import type { ClientAddress, EndpointListName } from "../../load_balancer.ts";
import type { ListenAddress } from "../engine.ts";
import { OWN_ADDRESS, type OwnAddresses } from "../own_addresses.ts";
import type { Endpoint } from "./endpoint.ts";
import {
  EAGAIN,
  EALREADY,
  EINPROGRESS,
  EINTR,
  errnoText,
  isExhausted,
} from "./errors.ts";
import {
  HALF_EVENTS,
  READ_EVENTS,
  type WatchedSocket,
  type Words,
} from "./half.ts";
import { EPOLLERR, EPOLLHUP, EPOLLOUT, type Libc } from "./libc.ts";
import type { EventHandler, Poller } from "./poller.ts";
import type { Rostered } from "./roster.ts";
import {
  openDialSocket,
  resetOnClose,
  selfConnection,
  socketError,
} from "./socket.ts";
import { Timed, type Timers } from "./timers.ts";

/** What the searches of a thread share. */
export interface SearchTools {
  readonly libc: Libc;
  readonly poller: Poller;
  readonly timers: Timers;
  /** One for all: nothing stays in it when a call here returns. */
  readonly buffer: Uint8Array<ArrayBuffer>;
  readonly dialTimeoutsMs: readonly number[];
  /** What would lead back here counts as an endpoint that refuses. */
  readonly ownAddresses: OwnAddresses;
  readonly now: number;
}

/** A client, and the endpoint that was found for it. */
export interface Pair {
  readonly client: WatchedSocket;
  readonly endpoint: WatchedSocket;
  /** What the client has said and the endpoint has yet to hear. */
  readonly first: Words | undefined;
  /** Of the client's bytes, how many the endpoint was sent already. */
  readonly sentBytes: number;
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
  dialFailed(
    search: Search,
    endpoint: Endpoint,
    cause: DialFailure | undefined,
  ): void;
  /** Owns both sockets from here on, which the poller watches. */
  connected(search: Search, pair: Pair, to: Endpoint): void;
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
  /** The address it used, where its endpoint is to be told. */
  readonly destination: ListenAddress | undefined;
}

const NONE: ReadonlySet<string> = new Set();

/** For how long an endpoint's address is believed not to be ours. */
const ELSEWHERE_MS = 1_000;

const TO_ITSELF = { type: "refused", cause: "Connected to itself" } as const;

/**
 * What of a client's first words is read before the dial, in bytes; a request,
 * mostly. They fit into any new socket, with a PROXY header before them.
 */
const FIRST_BYTES = 4 * 1024;

/**
 * 1. An endpoint that refused is not asked again for this connection.
 * 2. One that did not answer in time is asked again only when no other is
 *    left, with the next, longer time-out.
 * 3. It gives up when all have refused, or after as many time-outs as there
 *    are in `dialTimeoutsMs`, or when this machine has no descriptors.
 * 4. A client that speaks first is heard first: its words go to the endpoint
 *    together with the end of the handshake, which spares a packet. On this
 *    machine, where the endpoint has answered before `connect` returns, that
 *    is at once, with no round of the loop between.
 */
export class Search extends Timed implements EventHandler, Rostered {
  readonly arrival: Arrival;
  /** In milliseconds of the loop's clock. */
  readonly startedAt: number;
  place = -1;
  readonly #tools: SearchTools;
  readonly #owner: SearchOwner;
  readonly #clientFd: number;
  #clientEvents = 0;
  /** What was read from the client; nobody has it yet. */
  #first: Words | undefined;
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
    this.startedAt = options.tools.now;
    this.#owner = options.owner;
    this.arrival = options.arrival;
  }

  start(): void {
    const { poller, libc, buffer } = this.#tools;
    const count = libc.call.read(this.#clientFd, buffer, FIRST_BYTES);
    if (count > 0) this.#first = { bytes: buffer, count };
    else if (count === -1) {
      const errno = libc.errno();
      // A reset is told once, and has been now.
      if (errno !== EAGAIN && errno !== EINTR) return this.#end();
    }
    if (!poller.add(this.#clientFd, READ_EVENTS, this)) {
      return this.#end("exhausted", errnoText(libc.errno()));
    }
    this.#dialNext();
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
    const { client, list } = this.arrival;
    while (this.#timeouts < this.#tools.dialTimeoutsMs.length) {
      const endpoint = this.#owner.pick(client, list, this.#tried ?? NONE) ??
        this.#owner.pick(client, list, this.#refused ?? NONE);
      if (endpoint === undefined) break;
      if (this.#dial(endpoint)) return;
    }
    const last = this.#last;
    this.#end(last?.type ?? "no endpoint", last?.cause);
  }

  /** False: it said no at once. */
  #dial(endpoint: Endpoint): boolean {
    const { libc, ownAddresses } = this.#tools;
    this.#endpoint = endpoint;
    if (ownAddresses.has(endpoint.key)) {
      const failure = { type: "refused", cause: OWN_ADDRESS } as const;
      this.#owner.dialled(endpoint);
      this.#dialFailed(failure);
      this.#owner.dialFailed(this, endpoint, failure);
      return false;
    }
    const { sockaddr } = endpoint;
    const willSpeak = this.#first !== undefined;
    const fd = openDialSocket(libc, sockaddr, { willSpeak });
    if (fd === -1) {
      this.#end("exhausted", errnoText(libc.errno()));
      return true;
    }
    this.#owner.dialled(endpoint);
    this.#dialFd = fd;
    let errno = this.#connect(fd, sockaddr);
    // A second look: the endpoint may have answered while we asked.
    if (errno === EINPROGRESS && willSpeak) {
      errno = this.#connect(fd, sockaddr);
      if (errno === 0) return this.#connectedAtOnce();
    }
    if (errno === 0 || errno === EINPROGRESS || errno === EALREADY) {
      this.#wait();
      return true;
    }
    if (isExhausted(errno)) {
      this.#exhausted(errno);
      return true;
    }
    this.#dialFailed({ type: "refused", cause: errnoText(errno) });
    return false;
  }

  /** @returns `errno`; 0: it is connected */
  #connect(fd: number, sockaddr: Uint8Array<ArrayBuffer>): number {
    const { libc } = this.#tools;
    const result = libc.call.connect(fd, sockaddr, sockaddr.length);
    return result === -1 ? libc.errno() : 0;
  }

  /** False: to itself. */
  #connectedAtOnce(): boolean {
    const { libc, poller } = this.#tools;
    const fd = this.#dialFd;
    if (this.#isToItself()) {
      this.#dialFailed(TO_ITSELF);
      return false;
    }
    if (poller.add(fd, READ_EVENTS, this)) {
      this.#connected({ fd, events: 0, isWriteWatched: false });
    } else this.#exhausted(libc.errno());
    return true;
  }

  #isToItself(): boolean {
    const { libc, now } = this.#tools;
    const endpoint = this.#endpoint!;
    if (now < endpoint.isElsewhereUntil) return false;
    const answer = selfConnection(libc, this.#dialFd, endpoint.sockaddr);
    if (answer === "never") endpoint.isElsewhereUntil = now + ELSEWHERE_MS;
    return answer === "yes";
  }

  #wait(): void {
    const { libc, poller, timers, dialTimeoutsMs, now } = this.#tools;
    if (!poller.add(this.#dialFd, HALF_EVENTS, this)) {
      return this.#exhausted(libc.errno());
    }
    timers.set(this, { now, delayMs: dialTimeoutsMs[this.#timeouts]! });
    if (this.#first === undefined) return;
    const { bytes, count } = this.#first;
    this.#first = { bytes: bytes.slice(0, count), count };
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
    if (this.#isToItself()) {
      this.#dialFailed(TO_ITSELF);
      return this.#dialNext();
    }
    this.#tools.timers.clear(this);
    this.#connected({ fd, events, isWriteWatched: true });
  }

  #connected(endpoint: WatchedSocket): void {
    const client = {
      fd: this.#clientFd,
      events: this.#clientEvents,
      isWriteWatched: false,
    };
    const first = this.#first;
    const pair = { client, endpoint, first, sentBytes: 0 };
    this.#owner.connected(this, pair, this.#endpoint!);
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
    this.#owner.dialFailed(this, this.#endpoint!, failure);
  }

  #end(reason?: SearchFailure, cause?: string): void {
    this.#owner.ended(this, reason, cause);
    resetOnClose(this.#tools.libc, this.#clientFd);
    this.#tools.poller.close(this.#clientFd);
  }
}

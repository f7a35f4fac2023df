/**
 * The sockets of this process that listen, for connections or datagrams, and
 * that another one can take over, or that it has taken over itself: by
 * descriptor, so that nobody who waits in a socket's queue is lost. In: addresses. Out: sockets, made or inherited. Knows
 * neither Services nor how the descriptors travel.
 *
 * Contract:
 * 1. `open` gives the inherited socket of an address, if there is one that
 *    nobody has asked for, and makes one otherwise.
 * 2. While sockets are shared (another process has them too), one that is
 *    closed here goes on there: it is not shut down.
 * 3. Closing a descriptor is up to whoever polls it; `close` only ends that new
 *    connections come.
 *
 * @module
 */
import { formatHostPort } from "../ip.ts";
import type { ListenAddress, NamespaceOpener } from "./engine.ts";
import { openAt } from "./network_namespaces.ts";
import type { Libc } from "./splice/libc.ts";
import {
  type ListeningSocket,
  openListeningSocket,
  stopListening,
} from "./splice/socket.ts";
import { openDatagramListener } from "./splice/udp_socket.ts";

/** What another process has to know of a socket, to find it by. */
export interface SocketLabel {
  /** TCP if it is missing. */
  readonly protocol?: "UDP" | undefined;
  /** As it was bound. */
  readonly address: ListenAddress;
  /** The address that clients use, where that is another one. */
  readonly serviceAddress?: ListenAddress | undefined;
}

/** A socket, with its descriptor in this process. */
export interface LabelledSocket extends SocketLabel {
  readonly fd: number;
}

export interface OpenOptions {
  /** TCP if it is missing. */
  readonly protocol?: "UDP" | undefined;
  readonly serviceAddress?: ListenAddress | undefined;
  /** The address need not be of this machine (yet). */
  readonly freeBind?: boolean;
}

export class ListeningSockets {
  readonly #libc: Libc;
  readonly #namespaces: NamespaceOpener | undefined;
  readonly #open = new Map<number, LabelledSocket>();
  /** By the address they are bound to. */
  readonly #inherited = new Map<string, LabelledSocket>();
  /** Service address → where its inherited socket is bound. */
  readonly #chosen = new Map<string, string>();
  #isShared = false;

  constructor(libc: Libc, namespaces: NamespaceOpener | undefined) {
    this.#libc = libc;
    this.#namespaces = namespaces;
  }

  /** Those that listen. */
  get all(): readonly LabelledSocket[] {
    return [...this.#open.values()];
  }

  /** There are inherited ones that nobody has asked for. */
  get hasInherited(): boolean {
    return this.#inherited.size > 0;
  }

  /**
   * A socket that listens, inherited or new.
   *
   * @throws the error of the system
   */
  open(address: ListenAddress, options: OpenOptions = {}): ListeningSocket {
    const { protocol, serviceAddress, freeBind = false } = options;
    const make = protocol === "UDP"
      ? openDatagramListener
      : openListeningSocket;
    const label = { protocol, address, serviceAddress };
    const socket = this.#takeInherited(label) ?? openAt(
      address,
      this.#namespaces,
      () => make(this.#libc, address, { freeBind }),
    );
    const { fd, address: { ip, port } } = socket;
    const { namespace } = address;
    this.#open.set(fd, {
      fd,
      protocol,
      address: { ip, port, ...namespace === undefined ? {} : { namespace } },
      serviceAddress,
    });
    return { fd, address: { ip, port } };
  }

  /**
   * A port that the kernel was to choose is found by the Service address it is
   * for: so it stays the same.
   */
  #takeInherited(
    { protocol, address, serviceAddress }: SocketLabel,
  ): LabelledSocket | undefined {
    const key = address.port === 0
      ? serviceAddress && this.#chosen.get(keyOf(serviceAddress, protocol))
      : keyOf(address, protocol);
    const socket = key === undefined ? undefined : this.#inherited.get(key);
    if (key === undefined || socket?.address.ip !== address.ip) {
      return undefined;
    }
    this.#inherited.delete(key);
    return socket;
  }

  /** New connections end here; whoever polls the descriptor closes it. */
  close({ fd }: Pick<ListeningSocket, "fd">): void {
    const socket = this.#open.get(fd);
    this.#open.delete(fd);
    if (socket === undefined || this.#isShared) return;
    // A datagram socket has no connections to end.
    if (socket.protocol === undefined) stopListening(this.#libc, fd);
  }

  /** Another process has them too. */
  get isShared(): boolean {
    return this.#isShared;
  }

  /** From now on another process has them too, or no longer has. */
  setShared(isShared: boolean): void {
    this.#isShared = isShared;
  }

  /** Takes sockets that another process has given; `open` finds them. */
  inherit(sockets: readonly LabelledSocket[]): void {
    for (const socket of sockets) {
      const { protocol, address, serviceAddress } = socket;
      const key = keyOf(address, protocol);
      // Of a try before, which came to nothing.
      const before = this.#inherited.get(key);
      if (before !== undefined) this.#libc.call.close(before.fd);
      this.#inherited.set(key, socket);
      if (serviceAddress !== undefined) {
        this.#chosen.set(keyOf(serviceAddress, protocol), key);
      }
    }
  }

  /** Closes those that nobody asked for. */
  dropInherited(): void {
    for (const { fd } of this.#inherited.values()) this.#libc.call.close(fd);
    this.#inherited.clear();
    this.#chosen.clear();
  }
}

function keyOf(
  { ip, port, namespace = "" }: ListenAddress,
  protocol: string = "TCP",
): string {
  return `${namespace} ${protocol} ${formatHostPort(ip, port)}`;
}

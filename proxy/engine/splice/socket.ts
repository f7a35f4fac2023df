/**
 * Sockets as this engine wants them: what a `Deno.listen` and a `Deno.connect`
 * would do, in single, non-blocking calls. In: addresses and descriptors. Out:
 * descriptors, or the number of an error. It waits for nothing.
 *
 * @module
 */
import { ipFamily } from "../../ip.ts";
import type { ListenAddress } from "../engine.ts";
import { errnoError } from "./errors.ts";
import {
  decodeSockaddr,
  encodeSockaddr,
  LINGER_RESET,
  SOCKADDR_BYTES_MAX,
  TCP_INFO_BYTES,
  TCP_INFO_UNACKED,
} from "./layouts.ts";
import {
  AF_INET,
  AF_INET6,
  F_DUPFD_CLOEXEC,
  IP_FREEBIND,
  IPV6_FREEBIND,
  IPV6_V6ONLY,
  type Libc,
  RLIMIT_NOFILE,
  SHUT_RDWR,
  SO_ERROR,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_ORIGINAL_DST,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  SOL_TCP,
  TCP_INFO,
  TCP_NODELAY,
  TCP_QUICKACK,
} from "./libc.ts";

/** The kernel lowers it to net.core.somaxconn; see the portable listener. */
const BACKLOG = 4096;

const ON = new Int32Array([1]);
const OFF = new Int32Array([0]);
const value = new Int32Array(1);
const length = new Uint32Array(1);
const STREAM = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

/** A socket that listens, and where. */
export interface ListeningSocket {
  readonly fd: number;
  readonly address: ListenAddress;
}

/**
 * Binds and listens.
 *
 * No-delay is set here, since accepted connections inherit it: a call for each
 * connection less.
 *
 * @param options.freeBind the address need not be of this machine (yet)
 * @throws Deno.errors.AddrInUse, AddrNotAvailable, PermissionDenied, as
 *   `Deno.listen` does
 */
export function openListeningSocket(
  libc: Libc,
  address: ListenAddress,
  options: { readonly freeBind: boolean },
): ListeningSocket {
  return openBoundSocket(libc, address, {
    ...options,
    type: STREAM,
    settings: [
      // Without it, connections of a listener that was closed keep its port for
      // a minute (TIME_WAIT). Two that listen still exclude each other.
      [SOL_SOCKET, SO_REUSEADDR, ON],
      [SOL_TCP, TCP_NODELAY, ON],
    ],
    backlog: BACKLOG,
  });
}

export interface BoundSocketOptions {
  /** The address need not be of this machine (yet). */
  readonly freeBind: boolean;
  /** Of `socket(2)`. */
  readonly type: number;
  /** Level, name and value of `setsockopt(2)`. */
  readonly settings: readonly (readonly [number, number, Int32Array])[];
  /** It is to listen, and this many may wait. */
  readonly backlog?: number;
}

/**
 * A socket at an address.
 *
 * @throws Deno.errors.AddrInUse, AddrNotAvailable, PermissionDenied, as
 *   `Deno.listen` does
 */
export function openBoundSocket(
  libc: Libc,
  address: ListenAddress,
  { freeBind, type, settings, backlog }: BoundSocketOptions,
): ListeningSocket {
  const { call } = libc;
  const isIpv4 = ipFamily(address.ip) === "IPv4";
  const where = `"${address.ip}" port ${address.port}`;
  const action = `Cannot listen on ${where}${
    backlog === undefined ? " (UDP)" : ""
  }`;
  const fd = call.socket(isIpv4 ? AF_INET : AF_INET6, type, 0);
  if (fd === -1) throw errnoError(action, libc.errno());
  const check = (result: number) => {
    if (result !== -1) return;
    const errno = libc.errno();
    call.close(fd);
    throw errnoError(action, errno);
  };
  const set = (level: number, name: number, value: Int32Array) =>
    check(call.setsockopt(fd, level, name, value, value.byteLength));
  for (const setting of settings) set(...setting);
  // An IPv6 listener is for IPv6 clients, whatever net.ipv6.bindv6only says.
  if (!isIpv4) set(SOL_IPV6, IPV6_V6ONLY, ON);
  if (freeBind && isIpv4) set(SOL_IP, IP_FREEBIND, ON);
  if (freeBind && !isIpv4) set(SOL_IPV6, IPV6_FREEBIND, ON);
  const sockaddr = encodeSockaddr(address);
  check(call.bind(fd, sockaddr, sockaddr.length));
  if (backlog !== undefined) check(call.listen(fd, backlog));
  return { fd, address: { ip: address.ip, port: localAddress(libc, fd).port } };
}

/**
 * Refuses connections from now on and makes the address free for others, while
 * the descriptor stays for the thread that polls it to close: a number that
 * another thread has closed may be a different socket already.
 */
export function stopListening(libc: Libc, fd: number): void {
  libc.call.shutdown(fd, SHUT_RDWR);
}

const info = new Uint32Array(TCP_INFO_BYTES / 4);

/** How many connections wait to be accepted. */
export function acceptQueue(libc: Libc, fd: number): number {
  length[0] = TCP_INFO_BYTES;
  libc.call.getsockopt(fd, SOL_TCP, TCP_INFO, info, length);
  return info[TCP_INFO_UNACKED / 4]!;
}

/**
 * A socket to dial `sockaddr` with.
 *
 * @param options.willSpeak bytes are sent as soon as it is connected, so that
 *   the last acknowledgement of the handshake can go with them (Linux does so
 *   where quick acknowledgements are off, and then turns them on). Without
 *   bytes the endpoint would not hear of its connection for up to 200 ms
 * @returns its descriptor, or -1 and `errno`
 */
export function openDialSocket(
  libc: Libc,
  sockaddr: Uint8Array,
  options: { readonly willSpeak: boolean },
): number {
  const { call } = libc;
  const fd = call.socket(sockaddr[0]!, STREAM, 0);
  if (fd === -1) return -1;
  // We write what has arrived as it arrived. Waiting for more would add up to
  // 40 ms (Nagle against delayed acknowledgements) that a direct connection
  // does not have.
  call.setsockopt(fd, SOL_TCP, TCP_NODELAY, ON, 4);
  if (options.willSpeak) call.setsockopt(fd, SOL_TCP, TCP_QUICKACK, OFF, 4);
  return fd;
}

/** Makes the coming `close` of it a reset. */
export function resetOnClose(libc: Libc, fd: number): void {
  libc.call.setsockopt(fd, SOL_SOCKET, SO_LINGER, LINGER_RESET, 8);
}

const sockaddrOut = new Uint8Array(SOCKADDR_BYTES_MAX);

/** The error that waits at this socket; 0: none. Asking takes it away. */
export function socketError(libc: Libc, fd: number): number {
  value[0] = 0;
  length[0] = 4;
  libc.call.getsockopt(fd, SOL_SOCKET, SO_ERROR, value, length);
  return value[0];
}

export function localAddress(libc: Libc, fd: number): ListenAddress {
  length[0] = SOCKADDR_BYTES_MAX;
  libc.call.getsockname(fd, sockaddrOut, length);
  return decodeSockaddr(sockaddrOut);
}

/**
 * Whether a connection that was dialled leads to its own socket.
 *
 * Dialling a port of this machine that nobody listens on, the kernel may pick
 * that very port as the source; both ends of the handshake are then our own
 * socket, and the client would get its own bytes back.
 *
 * @returns `never`: nor does any other to that endpoint, whose address is not
 *   the one we come from
 */
export function selfConnection(
  libc: Libc,
  fd: number,
  sockaddr: Uint8Array,
): "yes" | "no" | "never" {
  length[0] = SOCKADDR_BYTES_MAX;
  libc.call.getsockname(fd, sockaddrOut, length);
  // From 4 on is the address, in both families.
  for (let at = 4; at < sockaddr.length; at++) {
    if (sockaddr[at] !== sockaddrOut[at]) return "never";
  }
  return sockaddrOut[2] === sockaddr[2] && sockaddrOut[3] === sockaddr[3]
    ? "yes"
    : "no";
}

/**
 * Finds a peer that vanished without a word. Not for every new connection:
 * most are gone before it would matter, and it costs two timers in the kernel.
 */
export function keepAlive(libc: Libc, fd: number): void {
  libc.call.setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, ON, 4);
}

/**
 * Where a connection was going before a rule of the kernel (REDIRECT, DNAT)
 * sent it here; its own address if none did; `undefined` if it cannot be told.
 */
export function originalDestination(
  libc: Libc,
  fd: number,
  family: "IPv4" | "IPv6",
): ListenAddress | undefined {
  length[0] = SOCKADDR_BYTES_MAX;
  const level = family === "IPv4" ? SOL_IP : SOL_IPV6;
  const result = libc.call.getsockopt(
    fd,
    level,
    SO_ORIGINAL_DST,
    sockaddrOut,
    length,
  );
  if (result === 0) return decodeSockaddr(sockaddrOut);
  // Conntrack knows nothing of it, or is not there at all.
  return libc.call.getsockname(fd, sockaddrOut, length) === 0
    ? decodeSockaddr(sockaddrOut)
    : undefined;
}

/** How many descriptors this process may have. */
export function descriptorLimit(libc: Libc): number {
  const limits = new BigUint64Array(2);
  libc.call.getrlimit(RLIMIT_NOFILE, limits);
  return Number(limits[0]);
}

/**
 * The number that the next descriptor would get: the smallest that is free, so
 * that it says how many there are, about. Infinity if there is none.
 */
export function nextDescriptor(libc: Libc, anyFd: number): number {
  const fd = libc.call.fcntl(anyFd, F_DUPFD_CLOEXEC, 0);
  if (fd === -1) return Infinity;
  libc.call.close(fd);
  return fd;
}

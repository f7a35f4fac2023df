/**
 * Datagram sockets in single, non-blocking calls: what listens for clients, and
 * what leads to one endpoint. In: addresses. Out: descriptors, or the number of
 * an error.
 *
 * @module
 */
import type { ListenAddress } from "../engine.ts";
import {
  type Libc,
  SO_RCVBUF,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
} from "./libc.ts";
import { type ListeningSocket, openBoundSocket } from "./socket.ts";

const DATAGRAM = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;

/**
 * What may wait at a listener for its thread, in bytes as the kernel counts
 * them; it lowers this to net.core.rmem_max. A burst shall not be lost because
 * the thread was busy with something else for a millisecond.
 */
const RECEIVE_QUEUE_BYTES = new Int32Array([4 * 1024 * 1024]);

/**
 * Binds. Without SO_REUSEADDR, by which two sockets would share datagrams.
 *
 * @param options.freeBind the address need not be of this machine (yet)
 * @throws Deno.errors.AddrInUse, AddrNotAvailable, PermissionDenied, as
 *   `Deno.listenDatagram` does
 */
export function openDatagramListener(
  libc: Libc,
  address: ListenAddress,
  options: { readonly freeBind: boolean },
): ListeningSocket {
  return openBoundSocket(libc, address, {
    ...options,
    type: DATAGRAM,
    settings: [[SOL_SOCKET, SO_RCVBUF, RECEIVE_QUEUE_BYTES]],
  });
}

/**
 * A socket of its own for one flow, with a port that the kernel draws. It is
 * connected: the kernel then drops what others send there, and tells of an
 * endpoint that has nobody at that port (ICMP port unreachable).
 *
 * @returns its descriptor, or -1 and the number of the error
 */
export function openFlowSocket(
  libc: Libc,
  sockaddr: Uint8Array<ArrayBuffer>,
): { readonly fd: number; readonly errno: number } {
  const { call } = libc;
  const fd = call.socket(sockaddr[0]!, DATAGRAM, 0);
  if (fd === -1) return { fd, errno: libc.errno() };
  if (call.connect(fd, sockaddr, sockaddr.length) === 0) {
    return { fd, errno: 0 };
  }
  const errno = libc.errno();
  call.close(fd);
  return { fd: -1, errno };
}

/**
 * Datagram sockets in single, non-blocking calls: what listens for clients, and
 * what leads to one endpoint. In: addresses. Out: descriptors, or the number of
 * an error.
 *
 * @module
 */
import { ipFamily } from "../../ip.ts";
import type { ListenAddress } from "../engine.ts";
import { errnoError } from "./errors.ts";
import { encodeSockaddr } from "./layouts.ts";
import {
  AF_INET,
  AF_INET6,
  IP_FREEBIND,
  IPV6_FREEBIND,
  IPV6_V6ONLY,
  type Libc,
  SO_RCVBUF,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
} from "./libc.ts";
import { type ListeningSocket, localAddress } from "./socket.ts";

const DATAGRAM = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
const ON = new Int32Array([1]);

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
  const { call } = libc;
  const isIpv4 = ipFamily(address.ip) === "IPv4";
  const action = `Cannot listen on "${address.ip}" port ${address.port} (UDP)`;
  const fd = call.socket(isIpv4 ? AF_INET : AF_INET6, DATAGRAM, 0);
  if (fd === -1) throw errnoError(action, libc.errno());
  const check = (result: number) => {
    if (result !== -1) return;
    const errno = libc.errno();
    call.close(fd);
    throw errnoError(action, errno);
  };
  check(call.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_QUEUE_BYTES, 4));
  if (!isIpv4) check(call.setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, ON, 4));
  if (options.freeBind) {
    check(
      isIpv4
        ? call.setsockopt(fd, SOL_IP, IP_FREEBIND, ON, 4)
        : call.setsockopt(fd, SOL_IPV6, IPV6_FREEBIND, ON, 4),
    );
  }
  const sockaddr = encodeSockaddr(address);
  check(call.bind(fd, sockaddr, sockaddr.length));
  return { fd, address: { ip: address.ip, port: localAddress(libc, fd).port } };
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

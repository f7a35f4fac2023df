/**
 * How the structures that cross into C lie in memory, as typed arrays. In:
 * values. Out: bytes, and back. A test compares every offset with what a C
 * compiler says; there is nothing else here that could be wrong.
 *
 * @module
 */
import { bytesToIp, ipBytes, ipFamily } from "../../ip.ts";
import type { ListenAddress } from "../engine.ts";
import { AF_INET, AF_INET6 } from "./libc.ts";

/** Both supported architectures are little-endian; ports are not, in C. */
const LITTLE_ENDIAN = true;

/**
 * `struct sockaddr_in`, 16 bytes, and `struct sockaddr_in6`, 28 bytes:
 *
 * | offset | in           | in6            |
 * | ------ | ------------ | -------------- |
 * | 0      | family, u16  | family, u16    |
 * | 2      | port, be16   | port, be16     |
 * | 4      | address, 4   | flow info, u32 |
 * | 8      | zeros, 8     | address, 16    |
 * | 24     |              | scope id, u32  |
 */
export const SOCKADDR_IN_BYTES = 16;
export const SOCKADDR_IN6_BYTES = 28;
/** Room for either. */
export const SOCKADDR_BYTES_MAX = SOCKADDR_IN6_BYTES;

export function encodeSockaddr(
  { ip, port }: ListenAddress,
): Uint8Array<ArrayBuffer> {
  const isIpv4 = ipFamily(ip) === "IPv4";
  const bytes = new Uint8Array(isIpv4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, isIpv4 ? AF_INET : AF_INET6, LITTLE_ENDIAN);
  view.setUint16(2, port);
  bytes.set(ipBytes(ip), isIpv4 ? 4 : 8);
  return bytes;
}

/**
 * The canonical address in a `sockaddr` that the kernel wrote. A scope id is
 * dropped: nothing here listens on link-local addresses.
 */
export function decodeSockaddr(bytes: Uint8Array): ListenAddress {
  const port = (bytes[2]! << 8) | bytes[3]!;
  const family = bytes[0]! | (bytes[1]! << 8);
  const ip = family === AF_INET
    ? `${bytes[4]}.${bytes[5]}.${bytes[6]}.${bytes[7]}`
    : bytesToIp([...bytes.subarray(8, 24)]);
  return { ip, port };
}

/**
 * The address in a `sockaddr` that the kernel wrote, read out of it when it is
 * asked for: most connections need nobody's name, and a text costs as much as
 * a system call.
 */
export class PeerAddress implements ListenAddress {
  readonly port: number;
  readonly #ipv4: number;
  #ip: string | undefined;

  /** `bytes` may be written to again afterwards. */
  constructor(bytes: Uint8Array) {
    this.port = (bytes[2]! << 8) | bytes[3]!;
    const isIpv4 = (bytes[0]! | (bytes[1]! << 8)) === AF_INET;
    this.#ipv4 = isIpv4
      ? (bytes[4]! << 24) | (bytes[5]! << 16) | (bytes[6]! << 8) | bytes[7]!
      : 0;
    this.#ip = isIpv4 ? undefined : decodeSockaddr(bytes).ip;
  }

  get ip(): string {
    const bits = this.#ipv4;
    return this.#ip ??= `${bits >>> 24}.${(bits >> 16) & 255}.${
      (bits >> 8) & 255
    }.${bits & 255}`;
  }
}

/** Where things are in an array of `struct epoll_event`, in 32-bit numbers. */
export interface EpollEventLayout {
  /** From one event to the next. */
  readonly int32s: number;
  /** From an event's start, where `events` is, to the descriptor. */
  readonly fd: number;
}

/**
 * `struct epoll_event`: `events`, u32, and 8 bytes that come back as they were
 * given, of which the first 4 hold our descriptor.
 *
 * On x86-64 it is packed (12 bytes, data at 4), so that 32-bit programs see the
 * same; everywhere else data is aligned (16 bytes, data at 8).
 */
export function epollEventLayout(
  arch: typeof Deno.build.arch,
): EpollEventLayout {
  return arch === "x86_64" ? { int32s: 3, fd: 1 } : { int32s: 4, fd: 2 };
}

/**
 * Where `struct tcp_info` has `tcpi_unacked`, a 32-bit number, which for a
 * socket that listens is how many connections wait to be accepted; and how
 * much of it must be asked for.
 */
export const TCP_INFO_UNACKED = 24;
export const TCP_INFO_BYTES: number = TCP_INFO_UNACKED + 4;

/**
 * `struct linger { int l_onoff; int l_linger; }`: on, for 0 seconds, which
 * makes `close` send a reset and drop what is not sent yet.
 */
export const LINGER_RESET: Int32Array<ArrayBuffer> = new Int32Array([1, 0]);

/**
 * `struct iovec { void *iov_base; size_t iov_len; }`, 16 bytes, and `struct
 * mmsghdr`, 64 bytes, in 32-bit numbers. Pointers and sizes are two of them, of
 * which the high half of a size is always 0:
 *
 * | at | iovec | mmsghdr                                |
 * | -- | ----- | -------------------------------------- |
 * | 0  | base  | address of the peer (`msg_name`)       |
 * | 2  | len   | its length, u32                        |
 * | 4  |       | address of the iovecs                  |
 * | 6  |       | how many, size_t                       |
 * | 8  |       | control messages: none                 |
 * | 10 |       | their length, size_t                   |
 * | 12 |       | flags, that the kernel sets            |
 * | 14 |       | bytes of this message (`msg_len`), u32 |
 *
 * Both architectures lay them out alike; the gaps (3, 13, 15) are padding.
 */
export const IOVEC = { int32s: 4, base: 0, length: 2 } as const;
export const MMSGHDR = {
  int32s: 16,
  name: 0,
  nameLength: 2,
  iovecs: 4,
  iovecCount: 6,
  length: 14,
} as const;

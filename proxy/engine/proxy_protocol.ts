/**
 * The header that tells an endpoint who its client is, before the client's
 * first byte: HAProxy's PROXY protocol, versions 1 and 2. In: two addresses.
 * Out: bytes. Pure, and the same for every engine.
 *
 * Specification: https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt
 *
 * @module
 */
import { ipBytes, ipFamily } from "../ip.ts";
import type { ListenAddress } from "./engine.ts";

const SIGNATURE = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10];
/** Version 2, command PROXY: we speak for somebody else. */
const VERSION_AND_COMMAND = 0x21;
const TCP_OVER_IPV4 = 0x11;
const TCP_OVER_IPV6 = 0x21;

export interface ProxiedConnection {
  /** The client. */
  readonly source: ListenAddress;
  /** The address it used: the Service's, not the endpoint's. */
  readonly destination: ListenAddress;
}

/**
 * The header of a TCP connection; canonical addresses in, both families.
 *
 * Where the two addresses are of different families (a listener on an IPv6
 * wildcard, a Service address that steering has carried over to another
 * family) the IPv4 one is written IPv4-mapped, since a header has one family.
 */
export function proxyHeader(
  version: "v1" | "v2",
  connection: ProxiedConnection,
): Uint8Array<ArrayBuffer> {
  const { source, destination } = connection;
  const isIpv4 = ipFamily(source.ip) === "IPv4" &&
    ipFamily(destination.ip) === "IPv4";
  return version === "v1"
    ? textHeader(connection, isIpv4)
    : binaryHeader(connection, isIpv4);
}

/** `PROXY TCP4 192.0.2.1 10.96.0.1 56324 443\r\n` */
function textHeader(
  { source, destination }: ProxiedConnection,
  isIpv4: boolean,
): Uint8Array<ArrayBuffer> {
  const ip = isIpv4 ? (ip: string) => ip : ipv6Text;
  return new TextEncoder().encode(
    `PROXY ${isIpv4 ? "TCP4" : "TCP6"} ${ip(source.ip)} ${
      ip(destination.ip)
    } ${source.port} ${destination.port}\r\n`,
  );
}

function binaryHeader(
  { source, destination }: ProxiedConnection,
  isIpv4: boolean,
): Uint8Array<ArrayBuffer> {
  const bytes = isIpv4 ? ipBytes : ipv6Bytes;
  const addresses = [
    ...bytes(source.ip),
    ...bytes(destination.ip),
    ...portBytes(source.port),
    ...portBytes(destination.port),
  ];
  return new Uint8Array([
    ...SIGNATURE,
    VERSION_AND_COMMAND,
    isIpv4 ? TCP_OVER_IPV4 : TCP_OVER_IPV6,
    ...portBytes(addresses.length), // a length is written as a port is
    ...addresses,
  ]);
}

function portBytes(port: number): [number, number] {
  return [port >> 8, port & 0xff];
}

const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

function ipv6Bytes(ip: string): readonly number[] {
  return ipFamily(ip) === "IPv4"
    ? [...MAPPED_PREFIX, ...ipBytes(ip)]
    : ipBytes(ip);
}

/** In hexadecimal throughout: not every parser takes `::ffff:192.0.2.1`. */
function ipv6Text(ip: string): string {
  if (ipFamily(ip) === "IPv6") return ip;
  const [a = 0, b = 0, c = 0, d = 0] = ipBytes(ip);
  return `::ffff:${(a << 8 | b).toString(16)}:${(c << 8 | d).toString(16)}`;
}

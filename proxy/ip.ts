/**
 * IP addresses and CIDRs as text: one canonical form for each, and the few
 * questions this program asks about them. Serves every stage and knows none.
 *
 * Reading is as sloppy as Kubernetes' own (`172.30.0.041` means `172.30.0.41`:
 * leading zeros are decimal), since objects with such addresses exist and other
 * proxies accept them. What comes out is always canonical, so that two
 * spellings of one address are equal strings.
 *
 * @module
 */
import { isIP, isIPv4 } from "node:net";

/** As `spec.ipFamilies` of a Service spells it. */
export type IpFamily = "IPv4" | "IPv6";

/**
 * The canonical form of an address: no leading zeros, IPv6 as RFC 5952 writes
 * it, an IPv4-mapped IPv6 address as IPv4 (as Go's `net.ParseIP` does).
 *
 * @returns `undefined` for anything else, zones (`fe80::1%eth0`) included
 */
export function canonicalIp(text: string): string | undefined {
  // Nearly always so, and this is asked for every endpoint of a cluster.
  if (isIPv4(text)) return text;
  const tail = SLOPPY_IPV4_TAIL_REGEXP.exec(text)?.[0];
  if (tail !== undefined) {
    // `isIP` takes no leading zeros and `URL` reads them as octal: neither is
    // what Kubernetes means, so they go before anybody else looks.
    text = text.slice(0, -tail.length) +
      tail.split(".").map((part) => Number(part)).join(".");
  }
  const version = isIP(text);
  if (version === 4) return text;
  if (version === 0 || text.includes("%")) return undefined;
  const canonical = new URL(`http://[${text}]`).hostname.slice(1, -1);
  if (!canonical.startsWith("::ffff:")) return canonical;
  const bytes = ipBytes(canonical);
  return canonical.split(":").length === 5 // ::ffff:102:304, not ::ffff:1
    ? bytes.slice(12).join(".")
    : canonical;
}

const SLOPPY_IPV4_TAIL_REGEXP = /(?<![\da-z.])\d+\.\d+\.\d+\.\d+$/i;

/**
 * The canonical form of a CIDR, its host bits zero: `203.0.113.009/025` is
 * `203.0.113.0/25`.
 *
 * @returns `undefined` for anything else, an IPv4-mapped address included:
 *   nobody can say which family its prefix counts in
 */
export function canonicalCidr(text: string): string | undefined {
  const slash = text.indexOf("/");
  const ip = canonicalIp(text.slice(0, slash === -1 ? 0 : slash));
  const prefixText = text.slice(slash + 1);
  if (ip === undefined || !/^\d{1,4}$/.test(prefixText)) return undefined;
  if (isIPv4(ip) && text.includes(":")) return undefined;
  const prefix = Number(prefixText);
  const bytes = ipBytes(ip);
  if (prefix > bytes.length * 8) return undefined;
  const masked = bytes.map((byte, i) => byte & maskByte(prefix, i));
  return `${bytesToIp(masked)}/${prefix}`;
}

/** The CIDR that holds this one address: `/32` or `/128`. */
export function singleAddressCidr(ip: string): string {
  return ipFamily(ip) === "IPv4" ? `${ip}/32` : `${ip}/128`;
}

/** The family of a canonical address, or of the address part of a CIDR. */
export function ipFamily(ipOrCidr: string): IpFamily {
  return ipOrCidr.includes(":") ? "IPv6" : "IPv4";
}

/** Whether a canonical address is in `127.0.0.0/8` or is `::1`. */
export function isLoopback(ip: string): boolean {
  return ip === "::1" || ip.startsWith("127.");
}

/**
 * Whether an address lies in a CIDR, both canonical. Always false across
 * families.
 */
export function cidrContains(cidr: string, ip: string): boolean {
  return samePrefix(cidr, ip, cidrPrefix(cidr));
}

/** Whether two canonical CIDRs share an address: one then holds the other. */
export function cidrsOverlap(a: string, b: string): boolean {
  return samePrefix(a, b, Math.min(cidrPrefix(a), cidrPrefix(b)));
}

/** Whether `inner` lies in `outer` with all its addresses, both canonical. */
export function cidrContainsCidr(outer: string, inner: string): boolean {
  return cidrPrefix(outer) <= cidrPrefix(inner) && cidrsOverlap(outer, inner);
}

/** `10.96.0.1:443`, `[fd00::1]:443`. */
export function formatHostPort(ip: string, port: number): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

function cidrPrefix(cidr: string): number {
  return Number(cidr.slice(cidr.indexOf("/") + 1));
}

/** Compares the first bits of two addresses; what follows a `/` is ignored. */
function samePrefix(a: string, b: string, prefix: number): boolean {
  if (ipFamily(a) !== ipFamily(b)) return false;
  const bBytes = ipBytes(b);
  return ipBytes(a).every((byte, i) =>
    ((byte ^ (bBytes[i] ?? 0)) & maskByte(prefix, i)) === 0
  );
}

/** The mask's byte at `index`: `maskByte(20, 2)` is 0xf0. */
function maskByte(prefix: number, index: number): number {
  const bits = Math.min(8, Math.max(0, prefix - index * 8));
  return (0xff00 >> bits) & 0xff;
}

/** 4 or 16 bytes of a canonical address; what follows a `/` is ignored. */
export function ipBytes(ip: string): readonly number[] {
  const slash = ip.indexOf("/");
  const address = slash === -1 ? ip : ip.slice(0, slash);
  if (!address.includes(":")) return address.split(".").map(Number);
  const [head = "", tail] = address.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = new Array<string>(8 - left.length - right.length).fill("0");
  return [...left, ...zeros, ...right].flatMap((group) => {
    const value = parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

/** The canonical address that these 4 or 16 bytes are. */
export function bytesToIp(bytes: readonly number[]): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) {
    groups.push((((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)).toString(16));
  }
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}

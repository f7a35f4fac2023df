/**
 * The n-th address of a CIDR, and back: what handing out ClusterIPs needs and
 * node:net has not (it tells an address's family, and whether it is inside).
 * Nothing else in the project counts with addresses.
 *
 * @module
 */
import { BlockList, isIP, isIPv4 } from "node:net";

export type Family = "IPv4" | "IPv6";

/** `undefined`: not an IP address (one with a zone, `fe80::1%lo`, is none). */
export function familyOf(address: string): Family | undefined {
  if (address.includes("%")) return undefined;
  const version = isIP(address);
  return version === 4 ? "IPv4" : version === 6 ? "IPv6" : undefined;
}

/** The one way to write an address: lower case, `::` for the longest zeros. */
export function canonicalAddress(address: string): string {
  if (isIPv4(address)) return address;
  return new URL(`http://[${address}]/`).hostname.slice(1, -1);
}

/** @returns is it `ADDRESS/BITS`, the bits in the family's range? */
export function isCIDR(text: string): boolean {
  const [address = "", bits = "", ...rest] = text.split("/");
  const family = familyOf(address);
  return family !== undefined && rest.length === 0 &&
    /^(0|[1-9]\d{0,2})$/.test(bits) &&
    Number(bits) <= (family === "IPv4" ? 32 : 128);
}

/** The addresses of one CIDR that Services can have. */
export class AddressRange {
  readonly family: Family;
  readonly #base: bigint;
  /** Of all addresses in the CIDR. */
  readonly #size: bigint;
  readonly #members = new BlockList();

  /** @throws {RangeError} not a CIDR, or one with fewer than four addresses */
  constructor(readonly cidr: string) {
    if (!isCIDR(cidr)) {
      throw new RangeError(`Cannot use Service CIDR "${cidr}": not a CIDR`);
    }
    const [address = "", bits = ""] = cidr.split("/");
    this.family = familyOf(address)!;
    const width = this.family === "IPv4" ? 32 : 128;
    const free = BigInt(width - Number(bits));
    if (free < 2n) {
      throw new RangeError(
        `Cannot use Service CIDR "${cidr}": fewer than four addresses`,
      );
    }
    this.#size = 1n << free;
    this.#base = (toNumber(address) >> free) << free;
    this.#members.addSubnet(
      address,
      Number(bits),
      this.family === "IPv4" ? "ipv4" : "ipv6",
    );
  }

  /** How many can be handed out: without the network and, for IPv4, broadcast. */
  get count(): bigint {
    return this.#size - (this.family === "IPv4" ? 2n : 1n);
  }

  /** The n-th of them, from 0: the first is the one after the network's. */
  at(index: bigint): string {
    return toText(this.#base + 1n + index, this.family);
  }

  /** Can it be handed out? */
  contains(address: string): boolean {
    if (familyOf(address) !== this.family) return false;
    const type = this.family === "IPv4" ? "ipv4" : "ipv6";
    if (!this.#members.check(address, type)) return false;
    const index = toNumber(address) - this.#base - 1n;
    return index >= 0n && index < this.count;
  }
}

function toNumber(address: string): bigint {
  if (isIPv4(address)) {
    return address.split(".").reduce(
      (sum, part) => (sum << 8n) + BigInt(part),
      0n,
    );
  }
  const [head = "", tail] = canonicalAddress(address).split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = new Array(8 - before.length - after.length).fill("0");
  return [...before, ...zeros, ...after].reduce(
    (sum, part) => (sum << 16n) + BigInt(`0x${part}`),
    0n,
  );
}

function toText(value: bigint, family: Family): string {
  const parts: string[] = [];
  if (family === "IPv4") {
    for (let shift = 24n; shift >= 0n; shift -= 8n) {
      parts.push(String((value >> shift) & 0xffn));
    }
    return parts.join(".");
  }
  for (let shift = 112n; shift >= 0n; shift -= 16n) {
    parts.push(((value >> shift) & 0xffffn).toString(16));
  }
  return canonicalAddress(parts.join(":"));
}

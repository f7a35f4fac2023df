/**
 * The memory that datagrams pass through, up to 64 at once: received by one
 * `recvmmsg`, sent on from the same place by one `sendmmsg`, and never copied.
 * In: descriptors. Out: how many datagrams there are in which slots. A data
 * thread has one, which is empty between two events.
 *
 * @module
 */
import {
  IOVEC,
  MMSGHDR,
  SOCKADDR_BYTES_MAX,
  SOCKADDR_IN_BYTES,
} from "./layouts.ts";
import { type Libc, MSG_NOSIGNAL } from "./libc.ts";

/** Datagrams of one `recvmmsg`. */
export const BATCH_SLOTS = 64;

/** More than any datagram has: 65,507 bytes over IPv4, 65,487 over IPv6. */
const SLOT_BYTES = 65_536;

/**
 * From one slot to the next. Not a power of two: the beginnings of all slots,
 * all there is of small datagrams, would compete for the same cache lines. The
 * pages of a slot that nothing was received in are not there.
 */
const SLOT_STRIDE = SLOT_BYTES + 17 * 64;

/** From one address to the next; a multiple of 4 that holds either family. */
const NAME_STRIDE = 32;
const NAME_UINT16S = NAME_STRIDE / 2;

export class DatagramBatch {
  /** What each slot holds, to be cut by {@linkcode length}. */
  readonly slots: readonly Uint8Array<ArrayBuffer>[];
  /** The address that each came from, if it was received from clients. */
  readonly names: readonly Uint8Array<ArrayBuffer>[];
  readonly #libc: Libc;
  readonly #nameUint16s: Uint16Array;
  /** The address that all are sent to. */
  readonly #client: Uint8Array<ArrayBuffer>;
  readonly #fromClients: Vector;
  readonly #fromEndpoint: Vector;
  readonly #toEndpoint: Vector;
  readonly #toClient: Vector;
  readonly #lengths: Uint32Array;
  /** How many names the last `recvmmsg` has shortened. */
  #named = BATCH_SLOTS;

  constructor(libc: Libc) {
    this.#libc = libc;
    const data = new Uint8Array(new ArrayBuffer(BATCH_SLOTS * SLOT_STRIDE));
    const names = new Uint8Array(new ArrayBuffer(BATCH_SLOTS * NAME_STRIDE));
    const cut = (
      bytes: Uint8Array<ArrayBuffer>,
      stride: number,
      size: number,
    ) =>
      Array.from(
        { length: BATCH_SLOTS },
        (_, slot) => bytes.subarray(slot * stride, slot * stride + size),
      );
    this.slots = cut(data, SLOT_STRIDE, SLOT_BYTES);
    this.names = cut(names, NAME_STRIDE, SOCKADDR_BYTES_MAX);
    this.#nameUint16s = new Uint16Array(names.buffer);
    this.#client = new Uint8Array(new ArrayBuffer(NAME_STRIDE));
    const dataAt = libc.call.addressOf(data, 0, 0);
    // Received is up to a whole slot, sent what was received.
    const room = iovecs(dataAt);
    const filled = iovecs(dataAt);
    this.#lengths = filled;
    this.#fromClients = new Vector(libc, {
      iovecs: room,
      names: { memory: names, stride: NAME_STRIDE },
    });
    this.#fromEndpoint = new Vector(libc, { iovecs: room });
    this.#toEndpoint = new Vector(libc, { iovecs: filled });
    this.#toClient = new Vector(libc, {
      iovecs: filled,
      names: { memory: this.#client, stride: 0 },
    });
  }

  /**
   * From slot 0 on, with {@linkcode names}; -1: none, and `errno` says why.
   *
   * @param most of {@linkcode BATCH_SLOTS}
   */
  receiveFromClients(fd: number, most = BATCH_SLOTS): number {
    // The kernel has written how long the names were.
    this.#fromClients.setNameLengths(SOCKADDR_BYTES_MAX, 0, this.#named);
    const count = this.#receive(fd, this.#fromClients, most);
    this.#named = Math.max(0, count);
    return count;
  }

  /** From slot 0 on, by a connected socket; -1: none, and `errno` says why. */
  receiveFromEndpoint(fd: number): number {
    return this.#receive(fd, this.#fromEndpoint, BATCH_SLOTS);
  }

  /** Bytes in a slot. */
  length(slot: number): number {
    return this.#lengths[slot * IOVEC.int32s + IOVEC.length]!;
  }

  /** A number or a text, the same for the same IP address and port. */
  nameKey(slot: number, isIpv4: boolean): number | string {
    const at = slot * NAME_UINT16S;
    const part = (index: number) => this.#nameUint16s[at + index]!;
    return isIpv4
      ? part(1) * 2 ** 32 + part(2) * 2 ** 16 + part(3)
      // deno-fmt-ignore
      : String.fromCharCode(
        part(1), part(4), part(5), part(6), part(7), part(8), part(9), part(10), part(11),
      );
  }

  /**
   * Sends slots `from` to `to` (not included) by a connected socket.
   *
   * @returns how many; -1: not even the first, and `errno` says why
   */
  sendToEndpoint(fd: number, from: number, to: number): number {
    const { call } = this.#libc;
    if (to - from > 1) {
      return call.sendmmsg(
        fd,
        this.#toEndpoint.from[from]!,
        to - from,
        MSG_NOSIGNAL,
      );
    }
    const length = this.length(from);
    return call.send(fd, this.slots[from]!, length, MSG_NOSIGNAL) === -1
      ? -1
      : 1;
  }

  /** The same, to an address. */
  sendToClient(
    fd: number,
    client: Uint8Array<ArrayBuffer>,
    range: { readonly from: number; readonly to: number },
  ): number {
    const { call } = this.#libc;
    const { from, to } = range;
    if (to - from > 1) {
      this.#client.set(client);
      this.#toClient.setNameLengths(client.length, from, to);
      return call.sendmmsg(
        fd,
        this.#toClient.from[from]!,
        to - from,
        MSG_NOSIGNAL,
      );
    }
    const sent = call.sendto(
      fd,
      this.slots[from]!,
      this.length(from),
      MSG_NOSIGNAL,
      client,
      client.length,
    );
    return sent === -1 ? -1 : 1;
  }

  #receive(fd: number, vector: Vector, most: number): number {
    const { call } = this.#libc;
    const count = call.recvmmsg(fd, vector.from[0]!, most, 0, null);
    for (let slot = 0; slot < count; slot++) {
      this.#lengths[slot * IOVEC.int32s + IOVEC.length] = vector.length(slot);
    }
    return count;
  }
}

/** The length of the address that is in a `sockaddr` of this family. */
export function nameBytes(isIpv4: boolean): number {
  return isIpv4 ? SOCKADDR_IN_BYTES : SOCKADDR_BYTES_MAX;
}

/** One `iovec` for each slot, as long as a slot. */
function iovecs(dataAt: number | bigint): Uint32Array<ArrayBuffer> {
  const numbers = new Uint32Array(
    new ArrayBuffer(BATCH_SLOTS * IOVEC.int32s * 4),
  );
  for (let slot = 0; slot < BATCH_SLOTS; slot++) {
    const at = slot * IOVEC.int32s;
    const base = BigInt(dataAt) + BigInt(slot * SLOT_STRIDE);
    writePointer(numbers, at + IOVEC.base, base);
    numbers[at + IOVEC.length] = SLOT_BYTES;
  }
  return numbers;
}

/** One `mmsghdr` for each slot. Keeps alive what it points to. */
class Vector {
  /** What a call is given that begins with this slot. */
  readonly from: readonly Uint32Array<ArrayBuffer>[];
  readonly #numbers: Uint32Array<ArrayBuffer>;
  /** Never read, and needed: the kernel writes there. */
  readonly pointsTo: readonly Uint8Array[];

  constructor(libc: Libc, { iovecs, names }: {
    readonly iovecs: Uint32Array<ArrayBuffer>;
    readonly names?: {
      readonly memory: Uint8Array<ArrayBuffer>;
      readonly stride: number;
    };
  }) {
    const { addressOf } = libc.call;
    const bytes = BATCH_SLOTS * MMSGHDR.int32s * 4;
    const numbers = new Uint32Array(new ArrayBuffer(bytes));
    const iovecBytes = new Uint8Array(iovecs.buffer);
    const iovecsAt = BigInt(addressOf(iovecBytes, 0, 0));
    const namesAt = names && BigInt(addressOf(names.memory, 0, 0));
    for (let slot = 0; slot < BATCH_SLOTS; slot++) {
      const at = slot * MMSGHDR.int32s;
      const iovec = iovecsAt + BigInt(slot * IOVEC.int32s * 4);
      writePointer(numbers, at + MMSGHDR.iovecs, iovec);
      numbers[at + MMSGHDR.iovecCount] = 1;
      if (names === undefined || namesAt === undefined) continue;
      const name = namesAt + BigInt(slot * names.stride);
      writePointer(numbers, at + MMSGHDR.name, name);
    }
    this.#numbers = numbers;
    this.pointsTo = [iovecBytes, ...names === undefined ? [] : [names.memory]];
    this.from = Array.from(
      { length: BATCH_SLOTS },
      (_, slot) => numbers.subarray(slot * MMSGHDR.int32s),
    );
  }

  /** Bytes of the message that was received there. */
  length(slot: number): number {
    return this.#numbers[slot * MMSGHDR.int32s + MMSGHDR.length]!;
  }

  setNameLengths(bytes: number, from: number, to: number): void {
    for (let slot = from; slot < to; slot++) {
      this.#numbers[slot * MMSGHDR.int32s + MMSGHDR.nameLength] = bytes;
    }
  }
}

function writePointer(numbers: Uint32Array, at: number, address: bigint): void {
  numbers[at] = Number(address & 0xffffffffn);
  numbers[at + 1] = Number(address >> 32n);
}

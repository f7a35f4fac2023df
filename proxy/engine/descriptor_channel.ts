/**
 * Passes descriptors from one process to another: a unix socket of its own, with
 * an abstract name, and SCM_RIGHTS. In: numbers of this process. Out: numbers of
 * the other one, for the same open sockets. Knows nothing of what they are for.
 *
 * The kernel says who is at the other end (SO_PEERCRED), which nobody can
 * pretend: only root and the own user are spoken to.
 *
 * Nothing here waits: what one process has sent is there when it tells the
 * other one so, by whatever way they talk.
 *
 * @module
 */
import { EAGAIN, errnoText } from "./splice/errors.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK } from "./splice/libc.ts";
import { SOCK_STREAM, SOL_SOCKET } from "./splice/libc.ts";
import { openLibrary } from "./splice/libc.ts";

/**
 * `sendmsg` and `recvmsg` take a structure that points to others. Pointers to
 * JavaScript's memory are not to be had with a scoped permission; `mmap` tells
 * where its memory is, and `memcpy` writes there and reads it back.
 */
const SYMBOLS = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  accept4: { parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  getsockopt: {
    parameters: ["i32", "i32", "i32", "buffer", "buffer"],
    result: "i32",
  },
  geteuid: { parameters: [], result: "u32" },
  close: { parameters: ["i32"], result: "i32" },
  sendmsg: { parameters: ["i32", "usize", "i32"], result: "i32" },
  recvmsg: { parameters: ["i32", "usize", "i32"], result: "i32" },
  mmap: {
    parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"],
    result: "usize",
  },
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  writeMemory: {
    name: "memcpy",
    parameters: ["usize", "buffer", "u32"],
    result: "void",
  },
  readMemory: {
    name: "memcpy",
    parameters: ["buffer", "usize", "u32"],
    result: "void",
  },
  __errno_location: { parameters: [], result: "usize" },
} as const satisfies Deno.ForeignLibraryInterface;

type Library = Deno.DynamicLibrary<typeof SYMBOLS>;

const SO_PEERCRED = 17;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CTRUNC = 0x8;
const MSG_CMSG_CLOEXEC = 0x40000000;
const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_FAILED = 2n ** 64n - 1n;

/** Where things are in the one page; offsets of C's structures are LP64's. */
const PAGE_BYTES = 4096;
const AT = { header: 0, vector: 64, data: 128, control: 1024 };
const DATA_BYTES_MAX = AT.control - AT.data;
const CONTROL_HEADER_BYTES = 16;
const LITTLE_ENDIAN = true;

/** The kernel takes 253 in one message. */
export const DESCRIPTORS_MAX = 250;

/** The number of bytes in `sun_path`. */
const NAME_BYTES_MAX = 107;

/** A message: descriptors, and at least one byte. */
export interface DescriptorMessage {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly descriptors: readonly number[];
}

/** One end of a connection. Disposing it closes it. */
export class DescriptorChannel implements Disposable {
  readonly #library: Library;
  readonly #memory: bigint;
  readonly #page = new Uint8Array(PAGE_BYTES);
  readonly #view = new DataView(this.#page.buffer);
  readonly #fd: number;

  /**
   * Owns both from here on.
   *
   * @throws {Error} if there is no memory; then both are the caller's again
   */
  constructor(library: Library, fd: number) {
    this.#library = library;
    this.#fd = fd;
    this.#memory = library.symbols.mmap(
      null,
      BigInt(PAGE_BYTES),
      PROT_READ_WRITE,
      MAP_PRIVATE_ANONYMOUS,
      -1,
      0n,
    );
    if (this.#memory !== MAP_FAILED) return;
    throw new Error(`Cannot get memory: ${errnoText(errno(library))}`);
  }

  /**
   * Connects to a {@linkcode DescriptorListener}.
   *
   * @throws {Error} if nobody is there, or another user; one sentence
   */
  static connect(name: string): DescriptorChannel {
    const library = openLibrary(SYMBOLS);
    try {
      const fd = unixSocket(library);
      const address = abstractAddress(name);
      const connected = library.symbols.connect(fd, address, address.length);
      if (connected === -1) {
        const why = errnoText(errno(library));
        library.symbols.close(fd);
        throw new Error(`Cannot connect to the other process: ${why}`);
      }
      return trusted(library, fd);
    } catch (error) {
      library.close();
      throw error;
    }
  }

  /**
   * Sends at once.
   *
   * @param data at least one byte, which the descriptors travel with
   * @throws {Error} if the kernel does not take it
   */
  send({ data, descriptors }: DescriptorMessage): void {
    if (data.length === 0 || data.length > DATA_BYTES_MAX) {
      throw new RangeError(`Cannot send ${data.length} bytes`);
    }
    if (descriptors.length > DESCRIPTORS_MAX) {
      throw new RangeError(`Cannot send ${descriptors.length} descriptors`);
    }
    this.#page.fill(0);
    this.#page.set(data, AT.data);
    const bytes = descriptors.length === 0
      ? 0
      : CONTROL_HEADER_BYTES + 4 * descriptors.length;
    this.#layOut({ dataBytes: data.length, controlBytes: bytes });
    if (bytes > 0) {
      this.#view.setBigUint64(AT.control, BigInt(bytes), LITTLE_ENDIAN);
      this.#view.setInt32(AT.control + 8, SOL_SOCKET, LITTLE_ENDIAN);
      this.#view.setInt32(AT.control + 12, SCM_RIGHTS, LITTLE_ENDIAN);
      descriptors.forEach((descriptor, index) =>
        this.#view.setInt32(
          AT.control + CONTROL_HEADER_BYTES + 4 * index,
          descriptor,
          LITTLE_ENDIAN,
        )
      );
    }
    const { symbols } = this.#library;
    symbols.writeMemory(this.#memory, this.#page, PAGE_BYTES);
    const sent = symbols.sendmsg(
      this.#fd,
      this.#memory,
      MSG_DONTWAIT | MSG_NOSIGNAL,
    );
    if (sent === data.length) return;
    const why = sent === -1 ? errnoText(errno(this.#library)) : "it was cut";
    throw new Error(`Cannot send descriptors: ${why}`);
  }

  /**
   * Takes what was sent already. The descriptors are the caller's to close.
   *
   * @throws {Error} if there is nothing, or not all of it arrived
   */
  receive(): DescriptorMessage {
    const { symbols } = this.#library;
    const controlBytes = CONTROL_HEADER_BYTES + 4 * DESCRIPTORS_MAX;
    this.#page.fill(0);
    this.#layOut({ dataBytes: DATA_BYTES_MAX, controlBytes });
    symbols.writeMemory(this.#memory, this.#page, PAGE_BYTES);
    const received = symbols.recvmsg(
      this.#fd,
      this.#memory,
      MSG_DONTWAIT | MSG_CMSG_CLOEXEC,
    );
    if (received <= 0) {
      const number = received === 0 ? EAGAIN : errno(this.#library);
      throw new Error(`Cannot receive descriptors: ${errnoText(number)}`);
    }
    symbols.readMemory(this.#page, this.#memory, PAGE_BYTES);
    const descriptors = this.#receivedDescriptors();
    const flags = this.#view.getInt32(AT.header + 48, LITTLE_ENDIAN);
    if ((flags & MSG_CTRUNC) !== 0) {
      for (const descriptor of descriptors) symbols.close(descriptor);
      throw new Error("Cannot receive descriptors: too many open files");
    }
    const data = this.#page.slice(AT.data, AT.data + received);
    return { data, descriptors };
  }

  #receivedDescriptors(): number[] {
    const controlBytes = this.#view.getBigUint64(AT.header + 40, true);
    if (controlBytes < BigInt(CONTROL_HEADER_BYTES)) return [];
    const bytes = Number(this.#view.getBigUint64(AT.control, LITTLE_ENDIAN));
    const isRights = this.#view.getInt32(AT.control + 8, true) === SOL_SOCKET &&
      this.#view.getInt32(AT.control + 12, true) === SCM_RIGHTS;
    if (!isRights) return [];
    const count = (bytes - CONTROL_HEADER_BYTES) / 4;
    return Array.from({ length: count }, (_, index) =>
      this.#view.getInt32(
        AT.control + CONTROL_HEADER_BYTES + 4 * index,
        LITTLE_ENDIAN,
      ));
  }

  /** `struct msghdr`, and the one `struct iovec` it points to. */
  #layOut(
    { dataBytes, controlBytes }: { dataBytes: number; controlBytes: number },
  ): void {
    const pointer = (at: number, to: number) =>
      this.#view.setBigUint64(at, this.#memory + BigInt(to), LITTLE_ENDIAN);
    const size = (at: number, value: number) =>
      this.#view.setBigUint64(at, BigInt(value), LITTLE_ENDIAN);
    pointer(AT.header + 16, AT.vector);
    size(AT.header + 24, 1);
    if (controlBytes > 0) pointer(AT.header + 32, AT.control);
    size(AT.header + 40, controlBytes);
    pointer(AT.vector, AT.data);
    size(AT.vector + 8, dataBytes);
  }

  [Symbol.dispose](): void {
    const { symbols } = this.#library;
    symbols.close(this.#fd);
    symbols.munmap(this.#memory, BigInt(PAGE_BYTES));
    this.#library.close();
  }
}

/** Waits for the one process that is to connect. */
export class DescriptorListener implements Disposable {
  /** To be told to that process; hard to guess, and no secret. */
  readonly name: string;
  readonly #library: Library;
  readonly #fd: number;

  /**
   * @throws {NoLibcError} where there is no FFI
   * @throws {Error} if there is no socket to be had
   */
  constructor() {
    this.name = `kube-portal-${crypto.randomUUID()}`;
    this.#library = openLibrary(SYMBOLS);
    try {
      this.#fd = unixSocket(this.#library);
    } catch (error) {
      this.#library.close();
      throw error;
    }
    const address = abstractAddress(this.name);
    const { symbols } = this.#library;
    const isUp = symbols.bind(this.#fd, address, address.length) === 0 &&
      symbols.listen(this.#fd, 1) === 0;
    if (isUp) return;
    const why = errnoText(errno(this.#library));
    this[Symbol.dispose]();
    throw new Error(`Cannot listen for the other process: ${why}`);
  }

  /**
   * Who has connected already.
   *
   * @throws {Error} if nobody has, or another user
   */
  accept(): DescriptorChannel {
    const library = openLibrary(SYMBOLS);
    try {
      const flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
      const fd = library.symbols.accept4(this.#fd, null, null, flags);
      if (fd === -1) {
        const why = errnoText(errno(library));
        throw new Error(`Nobody has connected to take descriptors: ${why}`);
      }
      return trusted(library, fd);
    } catch (error) {
      library.close();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#library.symbols.close(this.#fd);
    this.#library.close();
  }
}

/**
 * Owns the descriptor.
 *
 * @throws {Error} if the other end belongs to another user
 */
function trusted(library: Library, fd: number): DescriptorChannel {
  const credentials = new Uint32Array(3);
  const length = new Uint32Array([credentials.byteLength]);
  const { symbols } = library;
  const result = symbols.getsockopt(
    fd,
    SOL_SOCKET,
    SO_PEERCRED,
    credentials,
    length,
  );
  const [, uid = 0] = credentials;
  const isTrusted = result === 0 && (uid === 0 || uid === symbols.geteuid());
  try {
    if (isTrusted) return new DescriptorChannel(library, fd);
    throw new Error(`The other process belongs to another user (uid ${uid})`);
  } catch (error) {
    symbols.close(fd);
    throw error;
  }
}

function unixSocket(library: Library): number {
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = library.symbols.socket(AF_UNIX, type, 0);
  if (fd !== -1) return fd;
  throw new Error(`Cannot open a socket: ${errnoText(errno(library))}`);
}

/** `struct sockaddr_un` as far as it is used, which is how long the name is. */
function abstractAddress(name: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(name);
  if (text.length >= NAME_BYTES_MAX) throw new RangeError("Too long a name");
  const bytes = new Uint8Array(3 + text.length);
  new DataView(bytes.buffer).setUint16(0, AF_UNIX, LITTLE_ENDIAN);
  bytes.set(text, 3);
  return bytes;
}

function errno({ symbols }: Library): number {
  const value = new Int32Array(1);
  symbols.readMemory(value, symbols.__errno_location(), 4);
  return value[0]!;
}

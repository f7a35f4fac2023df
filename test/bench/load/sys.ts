/**
 * The system calls of the load generator and its endpoint, by FFI, with an
 * epoll loop over them. In: descriptors. Out: events. On purpose not the
 * engine's own FFI layer: what measures must not change with what is measured.
 *
 * @module
 */

const LIBRARIES: Partial<Record<typeof Deno.build.arch, string>> = {
  x86_64: "/lib/x86_64-linux-gnu/libc.so.6",
  aarch64: "/lib/aarch64-linux-gnu/libc.so.6",
};

const LIBRARY = Deno.build.os === "linux"
  ? LIBRARIES[Deno.build.arch]
  : undefined;
if (LIBRARY === undefined) {
  throw new Error("The load generator needs Linux on x86-64 or arm64");
}

/** libc, as V8 calls it fastest: 32-bit numbers and buffers. */
export const sys = Deno.dlopen(LIBRARY, {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  accept4: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: {
    parameters: ["i32", "i32", "i32", "buffer", "u32"],
    result: "i32",
  },
  close: { parameters: ["i32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  send: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  recvfrom: {
    parameters: ["i32", "buffer", "u32", "i32", "buffer", "buffer"],
    result: "i32",
  },
  sendto: {
    parameters: ["i32", "buffer", "u32", "i32", "buffer", "u32"],
    result: "i32",
  },
  epoll_create1: { parameters: ["i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  epoll_pwait2: {
    parameters: ["i32", "buffer", "i32", "buffer", "pointer"],
    result: "i32",
  },
  prctl: { parameters: ["i32", "u32"], result: "i32" },
}).symbols;

export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
const EPOLLET = 1 << 31;
/** Whatever happens, told once each time it begins. */
export const EVERYTHING = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_FLAGS = 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SOL_TCP = 6;
const TCP_NODELAY = 1;
const MSG_NOSIGNAL = 0x4000;
const EPOLL_CTL_ADD = 1;
const BACKLOG = 4096;
const EVENTS_MAX = 512;
const PR_SET_TIMERSLACK = 29;

const ON = new Int32Array([1]);

/** `struct epoll_event` in 32-bit numbers: packed on x86-64 alone. */
const EVENT = Deno.build.arch === "x86_64"
  ? { int32s: 3, fd: 1 }
  : { int32s: 4, fd: 2 };

/** An IPv4 address and a port. */
export interface Address {
  readonly ip: string;
  readonly port: number;
}

/** `struct sockaddr_in`. */
export function sockaddr({ ip, port }: Address): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(16);
  bytes[0] = AF_INET;
  bytes[2] = port >> 8;
  bytes[3] = port & 255;
  bytes.set(ip.split(".").map(Number), 4);
  return bytes;
}

/** A listening TCP socket. */
export function listen(address: Address): number {
  const fd = checked(sys.socket(AF_INET, SOCK_STREAM | SOCK_FLAGS, 0));
  sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, ON, 4);
  sys.setsockopt(fd, SOL_TCP, TCP_NODELAY, ON, 4);
  const to = sockaddr(address);
  checked(sys.bind(fd, to, to.length));
  checked(sys.listen(fd, BACKLOG));
  return fd;
}

/** -1: nobody waits. */
export function accept(listener: number): number {
  return sys.accept4(listener, null, null, SOCK_FLAGS);
}

/** Begins to connect: writable once it is, EPOLLERR if it cannot. */
export function dial(to: Uint8Array<ArrayBuffer>): number {
  const fd = checked(sys.socket(AF_INET, SOCK_STREAM | SOCK_FLAGS, 0));
  sys.setsockopt(fd, SOL_TCP, TCP_NODELAY, ON, 4);
  sys.connect(fd, to, to.length);
  return fd;
}

/** A UDP socket, bound to an address or connected to one. */
export function datagramSocket(
  how: "bind" | "connect",
  address: Address,
): number {
  const fd = checked(sys.socket(AF_INET, SOCK_DGRAM | SOCK_FLAGS, 0));
  const to = sockaddr(address);
  try {
    checked(sys[how](fd, to, to.length));
  } catch (error) {
    sys.close(fd);
    throw error;
  }
  return fd;
}

/** Bytes; 0: the end; -1: nothing now, or broken. */
export function receive(fd: number, into: Uint8Array<ArrayBuffer>): number {
  return sys.recv(fd, into, into.length, 0);
}

export function send(
  fd: number,
  bytes: Uint8Array<ArrayBuffer>,
  length = bytes.length,
): number {
  return sys.send(fd, bytes, length, MSG_NOSIGNAL);
}

function checked(result: number): number {
  if (result === -1) throw new Error("A system call has failed");
  return result;
}

/** One epoll set, and the only place where its process waits. */
export class Loop {
  readonly #fd = checked(sys.epoll_create1(0));
  readonly #events = new Int32Array(EVENTS_MAX * EVENT.int32s);
  readonly #event = new Int32Array(EVENT.int32s);
  readonly #timeout = new BigInt64Array(2);

  constructor() {
    // A timer of 40 µs would otherwise fire up to 50 µs late.
    sys.prctl(PR_SET_TIMERSLACK, 1);
  }

  add(fd: number, events = EVERYTHING): void {
    this.#event[0] = events;
    this.#event[EVENT.fd] = fd;
    checked(sys.epoll_ctl(this.#fd, EPOLL_CTL_ADD, fd, this.#event));
  }

  /** Waits at most `timeoutMs` (fractions count), and tells what happened. */
  turn(timeoutMs: number, onEvent: (fd: number, events: number) => void): void {
    const ms = Math.max(0, timeoutMs);
    const seconds = Math.floor(ms / 1000);
    this.#timeout[0] = BigInt(seconds);
    this.#timeout[1] = BigInt(Math.floor((ms - seconds * 1000) * 1e6));
    const count = sys.epoll_pwait2(
      this.#fd,
      this.#events,
      EVENTS_MAX,
      this.#timeout,
      null,
    );
    for (let index = 0; index < count; index++) {
      const at = index * EVENT.int32s;
      onEvent(this.#events[at + EVENT.fd]!, this.#events[at]!);
    }
  }

  close(): void {
    sys.close(this.#fd);
  }
}

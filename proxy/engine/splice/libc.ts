/**
 * The few functions of the C library that this engine stands on, called
 * through Deno's FFI. In: numbers and byte arrays, as C wants them. Out: what
 * the function returned. It knows calls and their constants, and no policy;
 * `layouts.ts` knows what the bytes mean, `socket.ts` puts both together.
 *
 * Linux with glibc, x86-64 and arm64. Everything is written for a *scoped*
 * permission (`--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6`), which forbids
 * `Deno.UnsafePointer`: memory is lent to C as typed arrays, for the time of a
 * call. The one place where addresses are written down is `udp_batch.ts`, since
 * the structures for many datagrams at once hold pointers; what they point to
 * lives as long as they do.
 *
 * @module
 */

/**
 * How sizes and results are declared decides what a call costs (Deno 2.9.6):
 * with 32-bit numbers and buffers V8 calls C directly, in some 10 ns; a `usize`
 * goes through BigInt, and each call takes 200–300 ns more. No length here
 * comes near 2³¹, and both architectures pass a `u32` zero-extended and return
 * the low half of a `ssize_t` in the same register, -1 included.
 *
 * `fcntl` and `open` are variadic in C. On Linux, unlike on macOS, both architectures pass
 * variadic integers as they pass others.
 */
const SYMBOLS = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  accept4: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getsockopt: {
    parameters: ["i32", "i32", "i32", "buffer", "buffer"],
    result: "i32",
  },
  setsockopt: {
    parameters: ["i32", "i32", "i32", "buffer", "u32"],
    result: "i32",
  },
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  write: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  send: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  sendto: {
    parameters: ["i32", "buffer", "u32", "i32", "buffer", "u32"],
    result: "i32",
  },
  // The last one, a time limit, is null: sockets here never wait.
  recvmmsg: {
    parameters: ["i32", "buffer", "u32", "i32", "pointer"],
    result: "i32",
  },
  sendmmsg: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  pipe2: { parameters: ["buffer", "i32"], result: "i32" },
  // Two 64-bit numbers; the first is the limit in force.
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // Without O_CREAT it has no third argument.
  open: { parameters: ["buffer", "i32"], result: "i32" },
  setns: { parameters: ["i32", "i32"], result: "i32" },
  // The two offsets are null: sockets and pipes have none.
  splice: {
    parameters: ["i32", "pointer", "i32", "pointer", "u32", "u32"],
    result: "i32",
  },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  sched_yield: { parameters: [], result: "i32" },
  epoll_create1: { parameters: ["i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  epoll_wait: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
  // As a number and not as a pointer, so that `memcpy` can be given it.
  __errno_location: { parameters: [], result: "usize" },
  memcpy: { parameters: ["buffer", "usize", "u32"], result: "void" },
  // Writes nothing (of length 0) and returns the address it was given: the one
  // way to learn it that a scoped permission leaves.
  addressOf: {
    name: "memset",
    parameters: ["buffer", "i32", "u32"],
    result: "usize",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The functions, and `errno`. Belongs to the thread that opened it. */
export interface Libc {
  readonly call: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  /**
   * Why the call before this one returned -1. Ask at once: the runtime itself
   * makes system calls on this thread.
   */
  errno(): number;
  /** Calls are errors afterwards. */
  close(): void;
}

/** What decides whether there is a library to open. */
export interface Platform {
  readonly os: string;
  readonly arch: string;
  /** By architecture. */
  readonly paths: Readonly<Record<string, readonly string[]>>;
}

/**
 * Where glibc is. A scoped permission is given for one path and is compared as
 * text, so these, too, are absolute: Debian's and Fedora's places.
 */
const THIS_PLATFORM: Platform = {
  os: Deno.build.os,
  arch: Deno.build.arch,
  paths: {
    x86_64: ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6"],
    aarch64: ["/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"],
  },
};

/** Thrown by {@linkcode openLibc} where this engine cannot run. */
export class NoLibcError extends Error {
  override readonly name = "NoLibcError";
}

/**
 * Opens the C library.
 *
 * @throws {NoLibcError} with a sentence that says what is missing. It never
 *   asks for a permission: without one, that is what is missing
 */
export function openLibc(): Libc {
  return wrap(openLibrary(SYMBOLS));
}

/** As {@linkcode openLibc}, for other functions of it. */
export function openLibrary<Symbols extends Deno.ForeignLibraryInterface>(
  symbols: Symbols,
  platform: Platform = THIS_PLATFORM,
): Deno.DynamicLibrary<Symbols> {
  const { os, arch } = platform;
  const paths = os === "linux" ? platform.paths[arch] : undefined;
  if (paths === undefined) {
    throw new NoLibcError(
      `it needs Linux on x86-64 or arm64, not ${os} ${arch}`,
    );
  }
  const granted = paths.filter((path) =>
    Deno.permissions.querySync({ name: "ffi", path }).state === "granted"
  );
  if (granted.length === 0) {
    throw new NoLibcError(`it needs --allow-ffi (or --allow-ffi=${paths[0]})`);
  }
  let cause: unknown;
  for (const path of granted) {
    try {
      return Deno.dlopen(path, symbols);
    } catch (error) {
      cause = error;
    }
  }
  throw new NoLibcError(`it needs glibc at ${granted.join(" or ")}`, { cause });
}

function wrap(library: Deno.DynamicLibrary<typeof SYMBOLS>): Libc {
  const call = library.symbols;
  // errno is a variable of each thread, at an address that never changes.
  // Reading it by `memcpy` takes 24 ns, `Deno.UnsafePointerView` 60 ns and a
  // permission for everything.
  const location = call.__errno_location();
  const value = new Int32Array(1);
  return {
    call,
    errno() {
      call.memcpy(value, location, 4);
      return value[0]!;
    },
    close: () => library.close(),
  };
}

// From the kernel's include/uapi, for architectures that use asm-generic (both
// of ours do). Named as in C, so that they can be looked up.

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const O_WRONLY = 1;
export const CLONE_NEWNET = 0x40000000;
export const EFD_NONBLOCK = 0o4000;
export const EFD_CLOEXEC = 0o2000000;
export const EPOLL_CLOEXEC = 0o2000000;

export const SOL_IP = 0;
export const SOL_SOCKET = 1;
export const SOL_TCP = 6;
export const SOL_IPV6 = 41;
export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_RCVBUF = 8;
export const SO_KEEPALIVE = 9;
export const SO_LINGER = 13;
export const TCP_NODELAY = 1;
export const TCP_INFO = 11;
export const TCP_QUICKACK = 12;
export const IP_FREEBIND = 15;
export const IPV6_V6ONLY = 26;
export const IPV6_FREEBIND = 78;
/** The same number for both families, each at its own level. */
export const SO_ORIGINAL_DST = 80;

export const SHUT_WR = 1;
export const SHUT_RDWR = 2;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;
export const RLIMIT_NOFILE = 7;
export const F_DUPFD_CLOEXEC = 1030;
export const F_SETPIPE_SZ = 1031;
export const F_GETPIPE_SZ = 1032;
export const SPLICE_F_MOVE = 1;
export const SPLICE_F_NONBLOCK = 2;

export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
/** Bit 31: negative as a JavaScript integer, the same bits in the array. */
export const EPOLLET = 1 << 31;

/**
 * Every layout and constant that crosses into C, against the two who know: the
 * kernel, by what it does, and a C compiler, by what its headers say.
 */
import assert from "node:assert/strict";
import * as errors from "../../../../proxy/engine/splice/errors.ts";
import {
  decodeSockaddr,
  encodeSockaddr,
  epollEventLayout,
  IOVEC,
  LINGER_RESET,
  MMSGHDR,
  SOCKADDR_BYTES_MAX,
  SOCKADDR_IN6_BYTES,
  SOCKADDR_IN_BYTES,
  TCP_INFO_UNACKED,
} from "../../../../proxy/engine/splice/layouts.ts";
import * as libcModule from "../../../../proxy/engine/splice/libc.ts";
import {
  AF_INET,
  EPOLL_CTL_ADD,
  EPOLLIN,
  F_GETPIPE_SZ,
  NoLibcError,
  O_CLOEXEC,
  O_NONBLOCK,
  SO_LINGER,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../../../../proxy/engine/splice/libc.ts";
import { ffi, testLibc } from "../../../support/ffi.ts";
import { program, testWith } from "../../../support/needs.ts";
import { noIpv6 } from "../../../support/tcp.ts";

testWith([ffi], "a call that fails returns -1 and leaves its errno", () => {
  using libc = testLibc();
  const buffer = new Uint8Array(8);
  assert.equal(libc.call.read(-1, buffer, 8), -1);
  assert.equal(libc.errno(), 9); // EBADF
  const fd = libc.call.eventfd(0, O_NONBLOCK | O_CLOEXEC);
  assert.equal(libc.call.read(fd, buffer, 8), -1);
  assert.equal(libc.errno(), errors.EAGAIN);
  assert.equal(libc.call.close(fd), 0);
});

testWith([ffi], "epoll gives back the descriptor of each event", () => {
  using libc = testLibc();
  const { int32s, fd: at } = epollEventLayout(Deno.build.arch);
  const epoll = libc.call.epoll_create1(O_CLOEXEC);
  const fds = [1, 2, 3].map((count) => libc.call.eventfd(count, O_CLOEXEC));
  for (const fd of fds) {
    const event = new Int32Array(int32s);
    event[0] = EPOLLIN;
    event[at] = fd;
    assert.equal(libc.call.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, event), 0);
  }
  const events = new Int32Array(8 * int32s);
  assert.equal(libc.call.epoll_wait(epoll, events, 8, 0), 3);
  const told = [0, 1, 2].map((n) => events[n * int32s + at]!);
  assert.deepEqual(told.sort(), [...fds].sort());
  assert.deepEqual(
    [0, 1, 2].map((n) => events[n * int32s]),
    [EPOLLIN, EPOLLIN, EPOLLIN],
  );
  for (const fd of [epoll, ...fds]) libc.call.close(fd);
});

Deno.test("an epoll event is packed on x86-64 alone", () => {
  assert.deepEqual(epollEventLayout("x86_64"), { int32s: 3, fd: 1 });
  assert.deepEqual(epollEventLayout("aarch64"), { int32s: 4, fd: 2 });
});

const IPV6 = () => noIpv6();
for (const [ip, needs] of [["127.0.0.1", []], ["::1", [IPV6]]] as const) {
  testWith(
    [ffi, ...needs],
    `an address goes to the kernel and back: ${ip}`,
    () => {
      using libc = testLibc();
      const wanted = encodeSockaddr({ ip, port: 0 });
      const family = wanted[0]!;
      const fd = libc.call.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
      assert.equal(libc.call.bind(fd, wanted, wanted.length), 0);
      const bytes = new Uint8Array(SOCKADDR_BYTES_MAX);
      const length = new Uint32Array([bytes.length]);
      assert.equal(libc.call.getsockname(fd, bytes, length), 0);
      assert.equal(length[0], wanted.length);
      const bound = decodeSockaddr(bytes);
      assert.equal(bound.ip, ip);
      assert.ok(bound.port > 0);
      assert.deepEqual(encodeSockaddr(bound), bytes.slice(0, length[0]));
      libc.call.close(fd);
    },
  );
}

Deno.test("an address is written as C lays it out", () => {
  assert.deepEqual(
    [...encodeSockaddr({ ip: "10.96.0.1", port: 443 })],
    [2, 0, 1, 187, 10, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
  );
  assert.deepEqual(
    [...encodeSockaddr({ ip: "fd00::1", port: 80 })],
    // deno-fmt-ignore
    [10, 0, 0, 80, 0, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
  );
});

testWith(
  [ffi],
  "the linger structure switches lingering on, for no time",
  () => {
    using libc = testLibc();
    const fd = libc.call.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const set = libc.call.setsockopt(
      fd,
      SOL_SOCKET,
      SO_LINGER,
      LINGER_RESET,
      8,
    );
    assert.equal(set, 0);
    const got = new Int32Array(2).fill(-1);
    const length = new Uint32Array([8]);
    libc.call.getsockopt(fd, SOL_SOCKET, SO_LINGER, got, length);
    assert.deepEqual([...got], [1, 0]);
    libc.call.close(fd);
  },
);

testWith([ffi], "a pipe has two descriptors and a size", () => {
  using libc = testLibc();
  const fds = new Int32Array(2);
  assert.equal(libc.call.pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
  assert.ok(libc.call.fcntl(fds[0]!, F_GETPIPE_SZ, 0) >= 4096);
  for (const fd of fds) libc.call.close(fd);
});

testWith([ffi], "addressOf() tells where memory is, and writes nothing", () => {
  using libc = testLibc();
  const memory = new Uint8Array(new ArrayBuffer(64)).fill(7);
  const at = BigInt(libc.call.addressOf(memory, 0, 0));
  const part = BigInt(libc.call.addressOf(memory.subarray(16), 0, 0));
  assert.equal(part - at, 16n);
  const copy = new Uint8Array(64);
  libc.call.memcpy(copy, at, 64);
  assert.deepEqual(copy, memory);
});

for (
  const { name, platform, why } of [
    {
      name: "another system",
      platform: { os: "darwin", arch: "aarch64" },
      why: "it needs Linux on x86-64 or arm64, not darwin aarch64",
    },
    {
      name: "another architecture",
      platform: { os: "linux", arch: "riscv64" },
      why: "it needs Linux on x86-64 or arm64, not linux riscv64",
    },
    {
      name: "no glibc, as with musl",
      platform: { paths: ["/nowhere/libc.so.6", "/nowhere/else/libc.so.6"] },
      why: "it needs glibc at /nowhere/libc.so.6 or /nowhere/else/libc.so.6",
    },
    {
      name: "a file that is no library",
      platform: { paths: [import.meta.filename!] },
      why: `it needs glibc at ${import.meta.filename}`,
    },
  ]
) {
  Deno.test(`openLibrary() says what is missing: ${name}`, () => {
    const { os = "linux", arch = "x86_64", paths = ["/nowhere"] } = platform;
    const symbols = { close: { parameters: ["i32"], result: "i32" } } as const;
    const here = { os, arch, paths: { x86_64: paths } };
    assert.throws(
      () => libcModule.openLibrary(symbols, here),
      (error) => error instanceof NoLibcError && error.message === why,
    );
  });
}

/** What a compiler for each architecture is called; `cc` is this machine's. */
const COMPILERS = {
  x86_64: "x86_64-linux-gnu-gcc",
  aarch64: "aarch64-linux-gnu-gcc",
} as const;

for (const arch of ["x86_64", "aarch64"] as const) {
  testWith(
    [program(COMPILERS[arch])],
    `every constant and layout is what the C headers say, on ${arch}`,
    () => assertInC(COMPILERS[arch], expectedInC(arch)),
  );
}

/** Expressions of C, and the values that we take them for. */
function expectedInC(
  arch: keyof typeof COMPILERS,
): readonly (readonly [string, number])[] {
  const constants = Object.entries({ ...libcModule, ...errors });
  const isConstant =
    /^(AF|SOCK|O|EFD|EPOLL|SOL|SO|TCP|IP|IPV6|SHUT|MSG|F|RLIMIT|SPLICE_F)_|^E[A-Z]+$/;
  const named = constants.filter((each): each is [string, number] =>
    isConstant.test(each[0]) && typeof each[1] === "number"
  );
  assert.ok(named.length > 40);
  const { int32s, fd } = epollEventLayout(arch);
  return [
    ...named,
    ["sizeof(struct sockaddr_in)", SOCKADDR_IN_BYTES],
    ["offsetof(struct sockaddr_in, sin_port)", 2],
    ["offsetof(struct sockaddr_in, sin_addr)", 4],
    ["sizeof(struct sockaddr_in6)", SOCKADDR_IN6_BYTES],
    ["offsetof(struct sockaddr_in6, sin6_port)", 2],
    ["offsetof(struct sockaddr_in6, sin6_addr)", 8],
    ["sizeof(struct epoll_event)", int32s * 4],
    ["offsetof(struct epoll_event, data)", fd * 4],
    ["sizeof(struct linger)", 8],
    ["offsetof(struct linger, l_linger)", 4],
    ["offsetof(struct tcp_info, tcpi_unacked)", TCP_INFO_UNACKED],
    ["sizeof(struct iovec)", IOVEC.int32s * 4],
    ["offsetof(struct iovec, iov_base)", IOVEC.base * 4],
    ["offsetof(struct iovec, iov_len)", IOVEC.length * 4],
    ["sizeof(struct mmsghdr)", MMSGHDR.int32s * 4],
    ["offsetof(struct mmsghdr, msg_hdr.msg_name)", MMSGHDR.name * 4],
    ["offsetof(struct mmsghdr, msg_hdr.msg_namelen)", MMSGHDR.nameLength * 4],
    ["offsetof(struct mmsghdr, msg_hdr.msg_iov)", MMSGHDR.iovecs * 4],
    ["offsetof(struct mmsghdr, msg_hdr.msg_iovlen)", MMSGHDR.iovecCount * 4],
    ["offsetof(struct mmsghdr, msg_hdr.msg_control)", 8 * 4],
    ["offsetof(struct mmsghdr, msg_hdr.msg_flags)", 12 * 4],
    ["offsetof(struct mmsghdr, msg_len)", MMSGHDR.length * 4],
    ["sizeof(((struct mmsghdr *)0)->msg_hdr.msg_namelen)", 4],
    ["sizeof(((struct mmsghdr *)0)->msg_len)", 4],
    ["sizeof(void *)", 8],
    ["sizeof(size_t)", 8],
  ];
}

/** Compiles, and need not run: a compiler for another machine will do. */
async function assertInC(
  compiler: string,
  expected: readonly (readonly [string, number])[],
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const lines = expected.map(([expression, value]) =>
      `_Static_assert((int)(${expression}) == (int)(${value}), "${expression}");`
    );
    await Deno.writeTextFile(`${folder}/values.c`, HEADERS + lines.join("\n"));
    const { success, stderr } = await new Deno.Command(compiler, {
      args: ["-fsyntax-only", `${folder}/values.c`],
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const HEADERS = `#define _GNU_SOURCE
  #include <errno.h>
  #include <fcntl.h>
  #include <netinet/in.h>
  #include <netinet/tcp.h>
  #include <stddef.h>
  #include <sys/resource.h>
  #include <sys/epoll.h>
  #include <sys/eventfd.h>
  #include <sys/socket.h>
  #include <sys/uio.h>
  #include <linux/netfilter_ipv4.h>
  #ifndef IPV6_FREEBIND
  #define IPV6_FREEBIND 78
  #endif
`;

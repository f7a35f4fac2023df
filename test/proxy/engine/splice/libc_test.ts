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
  LINGER_RESET,
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

testWith(
  [ffi, program("cc")],
  "every constant and layout is what the C headers say",
  async () => {
    const constants = { ...libcModule, ...errors };
    const names = Object.keys(constants).filter((name) =>
      /^(AF|SOCK|O|EFD|EPOLL|SOL|SO|TCP|IP|IPV6|SHUT|MSG|F|RLIMIT|SPLICE_F)_/
        .test(
          name,
        ) ||
      /^E[A-Z]+$/.test(name)
    );
    assert.ok(names.length > 40);
    const layouts = [
      "sizeof(struct sockaddr_in)",
      "offsetof(struct sockaddr_in, sin_port)",
      "offsetof(struct sockaddr_in, sin_addr)",
      "sizeof(struct sockaddr_in6)",
      "offsetof(struct sockaddr_in6, sin6_port)",
      "offsetof(struct sockaddr_in6, sin6_addr)",
      "sizeof(struct epoll_event) / 4",
      "offsetof(struct epoll_event, data) / 4",
      "sizeof(struct linger)",
      "offsetof(struct linger, l_linger)",
      "offsetof(struct tcp_info, tcpi_unacked)",
    ];
    const { int32s, fd } = epollEventLayout(Deno.build.arch);
    const wanted = [
      ...[SOCKADDR_IN_BYTES, 2, 4, SOCKADDR_IN6_BYTES, 2, 8, int32s, fd, 8, 4],
      TCP_INFO_UNACKED,
      ...names.map((name) => constants[name as keyof typeof constants]),
    ];
    const told = await valuesInC([...layouts, ...names]);
    const all = [...layouts, ...names];
    for (const [index, name] of all.entries()) {
      assert.equal(told[index], wanted[index], name);
    }
  },
);

/** What a C program prints for each expression, as a signed 32-bit number. */
async function valuesInC(expressions: readonly string[]): Promise<number[]> {
  const folder = await Deno.makeTempDir();
  try {
    const source = `#define _GNU_SOURCE
      #include <errno.h>
      #include <fcntl.h>
      #include <netinet/in.h>
      #include <netinet/tcp.h>
      #include <stddef.h>
      #include <stdio.h>
      #include <sys/resource.h>
      #include <sys/epoll.h>
      #include <sys/eventfd.h>
      #include <sys/socket.h>
      #include <linux/netfilter_ipv4.h>
      #ifndef IPV6_FREEBIND
      #define IPV6_FREEBIND 78
      #endif
      int main(void) { ${
      expressions.map((text) => `printf("%d\\n", (int)(${text}));`).join("\n")
    } return 0; }`;
    await Deno.writeTextFile(`${folder}/values.c`, source);
    const cc = new Deno.Command("cc", {
      args: ["-o", `${folder}/values`, `${folder}/values.c`],
    });
    const compiled = await cc.output();
    assert.ok(compiled.success, new TextDecoder().decode(compiled.stderr));
    const { stdout } = await new Deno.Command(`${folder}/values`).output();
    return new TextDecoder().decode(stdout).trim().split("\n").map(Number);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

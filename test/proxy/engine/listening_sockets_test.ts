import assert from "node:assert/strict";
import { ListeningSockets } from "../../../proxy/engine/listening_sockets.ts";
import {
  F_DUPFD_CLOEXEC,
  type Libc,
} from "../../../proxy/engine/splice/libc.ts";
import { localAddress } from "../../../proxy/engine/splice/socket.ts";
import { ffi, testLibc } from "../../support/ffi.ts";
import { testWith } from "../../support/needs.ts";
import { descriptors } from "../../support/tcp.ts";

const ANY = { ip: "127.0.0.1", port: 0 };
const FIRST = { ip: "10.96.0.1", port: 80 };
const SECOND = { ip: "10.96.0.2", port: 80 };

/** As it comes out of the other process. */
function handOver(libc: Libc, from: ListeningSockets, to: ListeningSockets) {
  from.setShared(true);
  to.inherit(from.all.map((socket) => ({
    ...socket,
    fd: libc.call.fcntl(socket.fd, F_DUPFD_CLOEXEC, 0),
  })));
  to.setShared(true);
}

async function answers(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: ANY.ip, port })).close();
    return true;
  } catch (error) {
    assert.ok(error instanceof Deno.errors.ConnectionRefused);
    return false;
  }
}

testWith(
  [ffi],
  "ListeningSockets finds an inherited socket by its address, and one whose port the kernel chose by what it is for",
  () => {
    using libc = testLibc();
    const from = new ListeningSockets(libc, undefined);
    const to = new ListeningSockets(libc, undefined);
    const own = from.open(ANY);
    const first = from.open(ANY, { serviceAddress: FIRST });
    const second = from.open(ANY, { serviceAddress: SECOND });
    // The same address, and yet another socket.
    const udp = from.open(own.address, { protocol: "UDP" });
    handOver(libc, from, to);
    const got = [
      to.open(ANY, { serviceAddress: SECOND }),
      to.open(own.address),
      to.open(ANY, { serviceAddress: FIRST }),
      to.open(udp.address, { protocol: "UDP" }),
    ];
    const want = [second, own, first, udp];
    assert.deepEqual(
      got.map(({ address }) => address),
      want.map(({ address }) => address),
    );
    assert.deepEqual(
      got.map(({ fd }) => localAddress(libc, fd)),
      want.map(({ address }) => address),
    );
    // Each once.
    assert.throws(() => to.open(own.address), Deno.errors.AddrInUse);
    for (const { fd } of [...got, ...want]) libc.call.close(fd);
  },
);

testWith(
  [ffi],
  "ListeningSockets shuts down what it closes only while nobody else has it",
  async () => {
    using libc = testLibc();
    const from = new ListeningSockets(libc, undefined);
    const to = new ListeningSockets(libc, undefined);
    const socket = from.open(ANY);
    const { port } = socket.address;
    handOver(libc, from, to);
    const got = to.open(socket.address);
    from.close(socket);
    libc.call.close(socket.fd);
    assert.ok(await answers(port));
    to.setShared(false);
    to.close(got);
    assert.equal(await answers(port), false);
    libc.call.close(got.fd);
  },
);

testWith(
  [ffi],
  "ListeningSockets closes what was inherited and nobody asked for",
  async () => {
    using libc = testLibc();
    const from = new ListeningSockets(libc, undefined);
    const to = new ListeningSockets(libc, undefined);
    const socket = from.open(ANY);
    handOver(libc, from, to);
    from.close(socket);
    libc.call.close(socket.fd);
    assert.ok(await answers(socket.address.port));
    to.dropInherited();
    assert.equal(await answers(socket.address.port), false);
  },
);

testWith(
  [ffi],
  "ListeningSockets closes a socket that it was given for an address twice",
  () => {
    using libc = testLibc();
    const from = new ListeningSockets(libc, undefined);
    const to = new ListeningSockets(libc, undefined);
    const socket = from.open(ANY);
    const before = descriptors();
    handOver(libc, from, to);
    handOver(libc, from, to);
    assert.equal(descriptors(), before + 1);
    to.dropInherited();
    assert.equal(descriptors(), before);
    libc.call.close(socket.fd);
  },
);

import assert from "node:assert/strict";
import {
  DescriptorChannel,
  DescriptorListener,
  DESCRIPTORS_MAX,
} from "../../../proxy/engine/descriptor_channel.ts";
import {
  localAddress,
  openListeningSocket,
} from "../../../proxy/engine/splice/socket.ts";
import { ffi, testLibc } from "../../support/ffi.ts";
import { program, testWith } from "../../support/needs.ts";

const BYTE = new Uint8Array([1]);

function pair() {
  using listener = new DescriptorListener();
  const from = DescriptorChannel.connect(listener.name);
  return { from, to: listener.accept() };
}

testWith(
  [ffi],
  "DescriptorChannel passes a listening socket that goes on when its first owner has closed it",
  async () => {
    using libc = testLibc();
    const { from, to } = pair();
    using _from = from;
    using _to = to;
    const address = { ip: "127.0.0.1", port: 0 };
    const socket = openListeningSocket(libc, address, { freeBind: false });
    from.send({ data: BYTE, descriptors: [socket.fd] });
    libc.call.close(socket.fd);
    const { data, descriptors: [fd = -1] } = to.receive();
    assert.deepEqual([...data], [1]);
    assert.deepEqual(localAddress(libc, fd), socket.address);
    const { ip: hostname, port } = socket.address;
    (await Deno.connect({ hostname, port })).close();
    libc.call.close(fd);
  },
);

testWith([ffi], "DescriptorChannel passes as many as there may be", () => {
  using libc = testLibc();
  const { from, to } = pair();
  using _from = from;
  using _to = to;
  const descriptors = Array.from(
    { length: DESCRIPTORS_MAX },
    () => libc.call.eventfd(0, 0),
  );
  const data = new TextEncoder().encode("what they are");
  from.send({ data, descriptors });
  const received = to.receive();
  assert.deepEqual(received.data, data);
  assert.equal(received.descriptors.length, DESCRIPTORS_MAX);
  for (const fd of [...descriptors, ...received.descriptors]) {
    assert.equal(libc.call.close(fd), 0);
  }
  assert.throws(() => to.receive(), /Resource temporarily unavailable/);
  assert.throws(
    () => from.send({ data, descriptors: [...descriptors, 0] }),
    RangeError,
  );
});

testWith([ffi], "DescriptorChannel says that nobody is there", () => {
  using listener = new DescriptorListener();
  assert.throws(() => listener.accept(), /Nobody has connected/);
  assert.throws(
    () => DescriptorChannel.connect("kube-portal-nobody"),
    /Cannot connect to the other process: Connection refused/,
  );
});

testWith(
  [ffi, program("setpriv"), () => Deno.uid() === 0 ? undefined : "not root"],
  "DescriptorChannel speaks to no other user",
  async () => {
    using listener = new DescriptorListener();
    const url = new URL(
      "../../../proxy/engine/descriptor_channel.ts",
      import.meta.url,
    );
    const { stdout } = await new Deno.Command("setpriv", {
      args: [
        ...["--reuid=65534", "--clear-groups", Deno.execPath()],
        ...["eval", "--quiet", "--no-lock", "--ext=ts"],
        `import { DescriptorChannel, DescriptorListener } from ${
          JSON.stringify(url.href)
        };
         try {
           DescriptorChannel.connect(${JSON.stringify(listener.name)});
           console.log("let in");
         } catch (error) { console.log(error.message); }`,
      ],
      env: { DENO_DIR: "/nonexistent/cache" },
    }).output();
    // It trusts root, whom it may; who it is decides at this end.
    assert.equal(new TextDecoder().decode(stdout), "let in\n");
    assert.throws(
      () => listener.accept(),
      /belongs to another user \(uid 65534\)/,
    );
  },
);

Deno.test("DescriptorChannel says that there is no memory", () => {
  const symbols = {
    mmap: () => 2n ** 64n - 1n,
    __errno_location: () => 0n,
    readMemory: (value: Int32Array) => value.fill(12),
  };
  const library = { symbols } as unknown as ConstructorParameters<
    typeof DescriptorChannel
  >[0];
  assert.throws(
    () => new DescriptorChannel(library, -1),
    /Cannot get memory: Cannot allocate memory/,
  );
});

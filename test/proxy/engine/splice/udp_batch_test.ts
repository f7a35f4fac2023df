/** The structures for many datagrams at once, against the kernel. */
import assert from "node:assert/strict";
import { EAGAIN } from "../../../../proxy/engine/splice/errors.ts";
import { decodeSockaddr } from "../../../../proxy/engine/splice/layouts.ts";
import {
  BATCH_SLOTS,
  DatagramBatch,
  nameBytes,
} from "../../../../proxy/engine/splice/udp_batch.ts";
import {
  openDatagramListener,
  openFlowSocket,
} from "../../../../proxy/engine/splice/udp_socket.ts";
import { encodeSockaddr } from "../../../../proxy/engine/splice/layouts.ts";
import { localAddress } from "../../../../proxy/engine/splice/socket.ts";
import { ffi, testLibc } from "../../../support/ffi.ts";
import { testWith } from "../../../support/needs.ts";
import { noIpv6, noise } from "../../../support/tcp.ts";

for (const ip of ["127.0.0.1", "::1"]) {
  const isIpv4 = ip === "127.0.0.1";
  testWith(
    [ffi, () => isIpv4 ? undefined : noIpv6()],
    `a batch carries datagrams there and back, with their addresses: ${ip}`,
    () => {
      using libc = testLibc();
      const batch = new DatagramBatch(libc);
      const listening = openDatagramListener(libc, { ip, port: 0 }, {
        freeBind: false,
      });
      const to = encodeSockaddr(listening.address);
      const clients = [1, 2].map(() => openFlowSocket(libc, to).fd);
      const sizes = [0, 1, 1_200, 60_000, 5];
      const sent = sizes.map((size) => noise(size));
      for (const client of clients) {
        for (const data of sent) libc.call.send(client, data, data.length, 0);
      }
      const count = batch.receiveFromClients(listening.fd);
      assert.equal(count, 2 * sizes.length);
      const keys = new Set<number | string>();
      for (let slot = 0; slot < count; slot++) {
        const client = clients[slot < sizes.length ? 0 : 1]!;
        const data = sent[slot % sizes.length]!;
        assert.equal(batch.length(slot), data.length);
        assert.deepEqual(
          batch.slots[slot]!.slice(0, batch.length(slot)),
          data,
        );
        assert.deepEqual(
          decodeSockaddr(batch.names[slot]!),
          localAddress(libc, client),
        );
        keys.add(batch.nameKey(slot, isIpv4));
      }
      assert.equal(keys.size, 2);
      // And back, all but the first of the second client's at once.
      const client = batch.names[sizes.length]!.slice(0, nameBytes(isIpv4));
      const range = { from: sizes.length + 1, to: count };
      assert.equal(batch.sendToClient(listening.fd, client, range), 4);
      assert.equal(
        batch.sendToClient(listening.fd, client, { from: 6, to: 7 }),
        1,
      );
      const back = batch.receiveFromEndpoint(clients[1]!);
      assert.equal(back, 5);
      for (const [slot, data] of [...sent.slice(1), sent[1]!].entries()) {
        assert.deepEqual(
          batch.slots[slot]!.slice(0, batch.length(slot)),
          data,
        );
      }
      assert.equal(batch.receiveFromEndpoint(clients[0]!), -1);
      assert.equal(libc.errno(), EAGAIN);
      for (const fd of [listening.fd, ...clients]) libc.call.close(fd);
    },
  );
}

testWith([ffi], "a batch that is full leaves the rest in the kernel", () => {
  using libc = testLibc();
  const batch = new DatagramBatch(libc);
  const anywhere = { ip: "127.0.0.1", port: 0 };
  const { fd, address } = openDatagramListener(libc, anywhere, {
    freeBind: false,
  });
  const client = openFlowSocket(libc, encodeSockaddr(address)).fd;
  const total = BATCH_SLOTS + 3;
  for (let n = 0; n < total; n++) {
    libc.call.send(client, new Uint8Array([n]), 1, 0);
  }
  assert.equal(batch.receiveFromClients(fd), BATCH_SLOTS);
  assert.equal(batch.slots[BATCH_SLOTS - 1]![0], BATCH_SLOTS - 1);
  // Straight on, in runs.
  assert.equal(batch.sendToEndpoint(client, 0, BATCH_SLOTS), BATCH_SLOTS);
  assert.equal(batch.receiveFromClients(fd), BATCH_SLOTS);
  assert.deepEqual(
    Array.from({ length: BATCH_SLOTS }, (_, n) => batch.slots[n]![0]),
    Array.from({ length: BATCH_SLOTS }, (_, n) => (BATCH_SLOTS + n) % total),
  );
  for (const each of [fd, client]) libc.call.close(each);
});

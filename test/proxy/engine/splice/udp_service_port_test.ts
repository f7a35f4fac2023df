/** What may happen between two rounds of the thread's loop. */
import assert from "node:assert/strict";
import { CidrSet } from "../../../../proxy/engine/admission.ts";
import { OwnAddresses } from "../../../../proxy/engine/own_addresses.ts";
import { Poller } from "../../../../proxy/engine/splice/poller.ts";
import {
  LINE_CELLS,
  PORT_CELLS,
  SharedCounters,
} from "../../../../proxy/engine/splice/shared_counters.ts";
import { Timers } from "../../../../proxy/engine/splice/timers.ts";
import { DatagramBatch } from "../../../../proxy/engine/splice/udp_batch.ts";
import { KeptDatagrams } from "../../../../proxy/engine/splice/udp_kept.ts";
import { UdpServicePort } from "../../../../proxy/engine/splice/udp_service_port.ts";
import {
  openDatagramListener,
  openFlowSocket,
} from "../../../../proxy/engine/splice/udp_socket.ts";
import { encodeSockaddr } from "../../../../proxy/engine/splice/layouts.ts";
import { FlowLimits } from "../../../../proxy/engine/udp_flows.ts";
import { INTERNAL } from "../../../conformance/engine.ts";
import { udpPolicy } from "../../../conformance/engine_udp.ts";
import { ffi, testLibc } from "../../../support/ffi.ts";
import { testWith } from "../../../support/needs.ts";

testWith(
  [ffi],
  "what waits for a descriptor makes no flow at a listener that closes in the same round",
  () => {
    using libc = testLibc();
    using poller = new Poller(libc);
    const counters = new SharedCounters();
    counters.addTable(new SharedArrayBuffer(3 * LINE_CELLS * 8));
    const free = { ip: "127.0.0.1", port: 0 };
    const open = () => openDatagramListener(libc, free, { freeBind: false });
    const endpoint = open();
    const waiting: (() => void)[] = [];
    const host = {
      libc,
      poller,
      counters,
      timers: new Timers(),
      batch: new DatagramBatch(libc),
      kept: new KeptDatagrams(),
      clusterSources: new CidrSet([]),
      ownAddresses: new OwnAddresses(),
      limits: new FlowLimits({ perPort: 10, total: 10 }),
      timeoutMs: 60_000,
      reservedFrom: Infinity,
      tellsFlows: false,
      now: () => 0,
      log: () => {},
      flowEnded: () => {},
      endpointGone: () => {},
      afterRound: (run: () => void) => void waiting.push(run),
    };
    const policy = udpPolicy([endpoint.address]);
    const port = new UdpServicePort(0, { host, policy, lines: [0, 1] });
    const key = `${endpoint.address.ip}:${endpoint.address.port}`;
    port.update(policy, { generation: 1, lines: new Map([[key, 2]]) });
    const listener = open();
    port.listen(1, { ...listener, options: INTERNAL });
    const ask = () => {
      const { fd } = openFlowSocket(libc, encodeSockaddr(listener.address));
      libc.call.send(fd, new Uint8Array(1), 1, 0);
      poller.wait(1_000);
      poller.dispatch((error) => {
        throw error;
      });
      return fd;
    };
    const flows = () => counters.line(0).get(PORT_CELLS.connectionsOpen);
    const clients = [ask()];
    assert.equal(flows(), 1);
    // Few descriptors from now on: the next one takes the place of the first.
    host.reservedFrom = 0;
    clients.push(ask());
    assert.equal(waiting.length, 1);
    port.unlisten(1);
    poller.finishRound();
    host.reservedFrom = Infinity;
    for (const run of waiting) run();
    assert.equal(flows(), 0);
    for (const fd of [...clients, endpoint.fd]) libc.call.close(fd);
    port.close();
  },
);

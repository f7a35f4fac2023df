/**
 * Floods to one Service, and what the clients of another notice. Limits are
 * those of a slow, busy machine; `test/bench/flood.ts` has the figures.
 */
import assert from "node:assert/strict";
import { UDP_FLOWS_PER_PORT_MAX } from "../../proxy/engine/udp_flows.ts";
import { ffi } from "../support/ffi.ts";
import { FloodedProxy } from "../support/flooded_proxy.ts";
import { eventually } from "../support/loopback.ts";
import { testWith } from "../support/needs.ts";

const CLIENTS = 100;
/** Below it, twice as long is the scheduler's doing. */
const UNNOTICED_MS = 5;
/** On a machine that has much else to do. */
const SLOW_MS = 20;
const CONNECTIONS_PER_SECOND = 2_000;
const HELD = 1_500;
/** For each that is held; its buffers in the kernel are not the process's. */
const HELD_KIB_MAX = 64;
/** More than are sent until all is seen: `portable` receives 2,000 a second. */
const SOURCES = 500_000;
const SOURCES_PER_SECOND = 15_000;
/** In a second, one after another; an idle machine gives a thousand. */
const ANSWERS_MIN = 50;
/** 4,096 flows, and what the collector has not seen yet. */
const FLOWS_MIB_MAX = 200;
/** How many times as long as before. */
const LONGER = 2;
/** Clients come now and then: one after another, they were a flood, too. */
const PAUSE_MS = 5;
/** A kind of event is a line at most every 30 s, and there are few kinds. */
const LINES_MAX = 12;

for (const engine of ["splice", "portable"] as const) {
  // The flood is made by FFI, whatever the engine.
  testWith(
    [ffi],
    `${engine}: a flood of connections to one Service keeps nobody from the others`,
    async () => {
      await using flooded = await FloodedProxy.start(engine);
      await flooded.connections(CLIENTS);
      const before = await flooded.connections(CLIENTS, PAUSE_MS);
      const lines = flooded.logLines.length;
      await using flood = flooded
        .flood("connect", "flooded", CONNECTIONS_PER_SECOND);
      // To an endpoint that never answers, too: each has to wait and fail.
      await using dead = flooded.flood("connect", "dead", 100);
      await flood.waitFor("succeeded");
      await dead.waitFor("succeeded");
      const limitMs = Math.max(LONGER * before.p50, UNNOTICED_MS);
      await eventually(
        `others' connections take less than ${limitMs} ms at the median`,
        async () => {
          const { failures, p50 } = await flooded
            .connections(CLIENTS, PAUSE_MS);
          assert.equal(failures, 0);
          // No look may find more; that it is long seldom is the machine's doing.
          assert.ok(p50 < Math.max(limitMs, SLOW_MS), `${p50} ms`);
          return p50;
        },
        (p50) => p50 < limitMs,
      );
      await eventually(
        "connections to the dead endpoint end, since no dial may last",
        () => flooded.metric("connections_failed_total", "dead"),
        (count) => count > 100,
      );
      const total = await flooded.metric("connections_total", "flooded");
      assert.ok(total > CONNECTIONS_PER_SECOND, `${total} connections`);
      const said = flooded.logLines.slice(lines);
      assert.ok(said.length <= LINES_MAX, said.join("\n"));
    },
  );

  testWith(
    [ffi],
    `${engine}: clients that say nothing, or a byte a second, hold up nobody`,
    async () => {
      await using flooded = await FloodedProxy.start(engine);
      await flooded.connections(CLIENTS);
      const residentMiB = flooded.residentMiB;
      await using flood = flooded.flood("hold", "held", HELD);
      await flood.waitFor(`holding ${HELD}, 0 ended`);
      await eventually(
        "all of them count as open",
        () => flooded.metric("connections_open", "held"),
        (open) => open === HELD,
      );
      const during = await flooded.connections(CLIENTS);
      assert.equal(during.failures, 0);
      assert.ok(during.p50 < SLOW_MS, `${during.p50} ms`);
      const kib = (flooded.residentMiB - residentMiB) * 1_024 / HELD;
      assert.ok(kib < HELD_KIB_MAX, `${kib} KiB for each`);
      flood.kill("SIGKILL");
      await eventually(
        "none is left when they are gone",
        () => flooded.metric("connections_open", "held"),
        (open) => open === 0,
      );
    },
  );

  testWith(
    [ffi],
    `${engine}: datagrams from very many ports take neither memory nor others' answers`,
    async () => {
      await using flooded = await FloodedProxy.start(engine);
      assert.ok((await flooded.datagrams(200)).count > 0);
      const residentMiB = flooded.residentMiB;
      const lines = flooded.logLines.length;
      await using _flood = flooded
        .flood("datagrams", "flooded", SOURCES, SOURCES_PER_SECOND);
      await eventually(
        "the oldest flows make room",
        () => flooded.metric("udp_flows_evicted_total", "flooded"),
        (count) => count > 0,
      );
      const during = await flooded.datagrams(1_000);
      assert.ok(during.count > ANSWERS_MIN, `${during.count} answers`);
      const open = await flooded.metric("udp_flows_open", "flooded");
      const steady = await flooded.metric("udp_flows_evicted_total", "steady");
      assert.ok(open > 0 && open <= UDP_FLOWS_PER_PORT_MAX, `${open} flows`);
      assert.equal(steady, 0);
      const mib = flooded.residentMiB - residentMiB;
      assert.ok(mib < FLOWS_MIB_MAX, `${mib} MiB more`);
      const said = flooded.logLines.slice(lines);
      assert.ok(said.length <= LINES_MAX, said.join("\n"));
    },
  );
}

/** Engines in a process that has few descriptors, and clients that take them. */
import assert from "node:assert/strict";
import { DescriptorShare } from "../../../proxy/engine/descriptor_share.ts";
import type { EndpointAddress } from "../../../proxy/engine/engine.ts";
import { startWithFewDescriptors } from "../../support/few_descriptors.ts";
import { ffi } from "../../support/ffi.ts";
import { program, testWith } from "../../support/needs.ts";
import { dialServer, echoServer, text, within } from "../../support/tcp.ts";
import { namedPeer, UdpPeer } from "../../support/udp.ts";

const LIMIT_MS = 60_000;
/** More than there are descriptors. */
const FLOOD = 200;

for (const engine of ["portable", "splice"] as const) {
  const needs = engine === "splice" ? [ffi, program("sh")] : [program("sh")];
  testWith(
    needs,
    `without descriptors ${engine} waits, and goes on when there are some`,
    () => within(LIMIT_MS, runOut(engine)),
  );
  testWith(
    needs,
    `out of descriptors, the oldest UDP flow of ${engine} gives up its own`,
    () => within(LIMIT_MS, evictFlows(engine)),
  );
  testWith(
    needs,
    `${engine}: a flood to one Service leaves descriptors to the others`,
    () => within(LIMIT_MS, floodOne(engine)),
  );
}

async function runOut(engine: "portable" | "splice"): Promise<void> {
  await using server = echoServer();
  const { port } = server.address;
  const { child, services } = await startWithFewDescriptors(
    engine,
    "TCP",
    port,
  );
  await using _child = child;
  const open: Deno.Conn[] = [];
  for (let n = 0; n < FLOOD; n++) {
    for (const service of services) {
      await dialServer(service).then((one) => open.push(one), () => {});
    }
  }
  await child.waitFor("Too many open files");
  const busy = await cpuTicks(child.pid);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const ticks = await cpuTicks(child.pid) - busy;
  assert.ok(ticks < 25, `waiting took ${ticks} of 50 ticks of a core`);
  for (const connection of open) connection.close();
  for (const service of services) while (!await echoes(service));
  child.kill("SIGKILL");
  await child.ended;
  assert.ok(child.output.split("\n").length < 15, child.output);
}

async function floodOne(engine: "portable" | "splice"): Promise<void> {
  await using server = echoServer();
  const { port } = server.address;
  const { child, services: [flooded, other] } = await startWithFewDescriptors(
    engine,
    "TCP",
    port,
  );
  await using _child = child;
  assert.ok(flooded !== undefined && other !== undefined);
  const open: Deno.Conn[] = [];
  for (let n = 0; n < FLOOD; n++) {
    // Reset at once, some of those that are too many.
    await dialServer(flooded).then((one) => open.push(one), () => {});
    // Whoever floods does not wait to be told; the other's clients do.
    if (n % 20 === 0) assert.ok(await echoes(other), child.output);
  }
  await child.waitFor("its Service has its share of descriptors");
  assert.ok(await echoes(other), child.output);
  for (const connection of open) connection.close();
  while (!await echoes(flooded));
}

async function evictFlows(engine: "portable" | "splice"): Promise<void> {
  await using endpoint = namedPeer("a");
  const { child, services: [service] } = await startWithFewDescriptors(
    engine,
    "UDP",
    endpoint.address.port,
  );
  await using _child = child;
  await using clients = new AsyncDisposableStack();
  for (let n = 0; n < FLOOD; n++) {
    const client = clients.use(new UdpPeer());
    assert.equal(await client.askName(service!), "a");
  }
  child.kill("SIGKILL");
  await child.ended;
  assert.match(child.output, /Ended the oldest UDP flow to make room/);
  assert.ok(child.output.split("\n").length < 10, child.output);
}

/** Hundredths of a second that a process has used. */
async function cpuTicks(pid: number): Promise<number> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/** False: the connection was not served, as long as there are too few. */
async function echoes(address: EndpointAddress): Promise<boolean> {
  try {
    using connection = await dialServer(address);
    await connection.write(text("ping"));
    return await connection.read(new Uint8Array(4)) === 4;
  } catch {
    return false;
  }
}

Deno.test("DescriptorShare leaves a quarter of all connections to other Services", () => {
  const share = new DescriptorShare();
  assert.equal(share.connectionsMax, Infinity);
  share.limit = 20_064;
  share.inUse = 0;
  assert.equal(share.connectionsMax, 7_500);
  for (let n = 0; n < 10_000; n++) share.listenerOpened();
  assert.equal(share.connectionsMax, 3_750);
  for (let n = 0; n < 10_000; n++) share.listenerClosed();
  share.limit = 100;
  assert.equal(share.connectionsMax, 28);
  share.limit = 1;
  assert.equal(share.connectionsMax, 1);
});

/**
 * What the pure middle costs: the whole desired state of a large cluster, then
 * one change at a time, as a running proxy sees them. Prints a table of wall
 * time and of CPU time, which a busy machine does not stretch. Goals: less than
 * a second for the whole of it, less than a millisecond for a change.
 *
 *     deno run -A --v8-flags=--expose-gc test/bench/desired_state_bench.ts
 *
 * Without the flag it runs too, and memory includes what is yet to be collected.
 *
 * @module
 */
import process from "node:process";
import { print, table } from "../../proxy/commands/terminal.ts";
import { buildDesiredState } from "../../proxy/desired_state.ts";
import { StateTracker } from "../../proxy/state_tracker.ts";
import type { Change, EndpointSlice, Service } from "../../watch/types.ts";
import { added, modified, node, service, slice } from "../support/objects.ts";

const SERVICES = 10_000;
const ENDPOINTS = 10;
const RUNS = 7;
const CHANGES = 2_000;

const ports = [{ name: "http", port: 80 }, { name: "https", port: 443 }];
const NODE = { name: "node-1", zone: "zone-1" };

function makeService(number: number, version = "1"): Service {
  return service(`team-${number % 50}/service-${number}`, {
    clusterIP: `10.96.${number >> 8}.${number & 255}`,
    ports,
    metadata: { resourceVersion: version },
  });
}

/** @param generation another one has another first address */
function makeSlice(number: number, generation = 0): EndpointSlice {
  return slice(`team-${number % 50}/slice-${number}`, {
    service: `service-${number}`,
    ports,
    endpoints: Array.from({ length: ENDPOINTS }, (_, i) => ({
      ip: `10.${128 + i}.${number >> 8}.${
        i === 0 ? (number + generation) & 255 : number & 255
      }`,
      nodeName: `node-${i}`,
      zones: [`zone-${i % 3}`],
    })),
  });
}

/** Milliseconds on the wall and of all threads (garbage collection included). */
interface Cost {
  readonly wallMs: number;
  readonly cpuMs: number;
}

function cost(work: () => void): Cost {
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  work();
  const { user, system } = process.cpuUsage(cpu);
  return {
    wallMs: performance.now() - start,
    cpuMs: (user + system) / 1000,
  };
}

/** The cheapest of several runs, as disturbances only ever add. */
function best(work: () => void): Cost {
  const runs = Array.from({ length: RUNS }, () => cost(work));
  return {
    wallMs: Math.min(...runs.map(({ wallMs }) => wallMs)),
    cpuMs: Math.min(...runs.map(({ cpuMs }) => cpuMs)),
  };
}

function inMilliseconds({ wallMs, cpuMs }: Cost): [string, string] {
  return [`${Math.round(wallMs)} ms`, `${Math.round(cpuMs)} ms`];
}

function usedMiB(): number {
  (globalThis as { gc?: () => void }).gc?.();
  return Deno.memoryUsage().heapUsed / 2 ** 20;
}

/** Many changes, one after the other: the median, and CPU time over all. */
function changes(apply: (number: number) => void): [string, string] {
  const walls: number[] = [];
  const { cpuMs } = cost(() => {
    for (let i = 0; i < CHANGES; i++) {
      const start = performance.now();
      apply(i * 7 % SERVICES);
      walls.push(performance.now() - start);
    }
  });
  const median = walls.sort((a, b) => a - b)[CHANGES >> 1] ?? 0;
  return [
    `${Math.round(median * 1000)} µs`,
    `${Math.round(cpuMs * 1000 / CHANGES)} µs`,
  ];
}

const numbers = Array.from({ length: SERVICES }, (_, i) => i);
const beforeObjects = usedMiB();
const services = numbers.map((number) => makeService(number));
const slices = numbers.map((number) => makeSlice(number));
const objectsMiB = usedMiB() - beforeObjects;

const build = best(() => buildDesiredState(services, { slices, node: NODE }));

const tracker = new StateTracker(NODE.name);
const beforeState = usedMiB();
const first = cost(() => {
  tracker.applyNode([added(node(NODE.name, { zone: NODE.zone }))]);
  tracker.applyEndpointSlices(slices.map(added));
  tracker.applyServices(services.map(added));
  tracker.takeChanges();
});
const stateMiB = usedMiB() - beforeState;

/** Applies a change and counts the Services that are told to have changed. */
function told(change: Change<EndpointSlice> | Change<Service>): number {
  const { after } = change;
  if (after?.kind === "Service") {
    tracker.applyServices([change as Change<Service>]);
  } else tracker.applyEndpointSlices([change as Change<EndpointSlice>]);
  return tracker.takeChanges().changed.length;
}

const current = [...slices];
let toldOfSlices = 0;
const newEndpoint = changes((number) => {
  const before = current[number] as EndpointSlice;
  const after = makeSlice(number, 1 + toldOfSlices % 3);
  current[number] = after;
  toldOfSlices += told(modified(before, after));
});
let toldOfNothing = 0;
const relabelled = changes((number) => {
  const before = services[number] as Service;
  toldOfNothing += told(modified(before, makeService(number, "2")));
});
const zone = cost(() => {
  tracker.applyNode([added(node(NODE.name, { zone: "zone-2" }))]);
  tracker.takeChanges();
});

print(
  `${SERVICES} Services, 2 ports and ${ENDPOINTS} endpoints each; ` +
    `Deno ${Deno.version.deno}\n\n` +
    table(["WHAT", "WALL", "CPU"], [
      ["buildDesiredState() of all", ...inMilliseconds(build)],
      ["StateTracker, all at once", ...inMilliseconds(first)],
      ["StateTracker, a new endpoint in one slice", ...newEndpoint],
      ["StateTracker, a new label on one Service", ...relabelled],
      ["StateTracker, our node in another zone", ...inMilliseconds(zone)],
    ]) +
    `\nMemory: ${Math.round(objectsMiB)} MiB of objects, ` +
    `${Math.round(stateMiB)} MiB of state made of them\n` +
    `Told: ${toldOfSlices} of ${CHANGES} new endpoints, ` +
    `${toldOfNothing} of ${CHANGES} new labels\n`,
);

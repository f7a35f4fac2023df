/**
 * How long a change takes to show in one mode: from the request to the API
 * server to the first connection that gets where the change says.
 *
 * @module
 */
import type { Child } from "../../support/child.ts";
import { newEndpointIp } from "./network.ts";
import {
  changedSlice,
  newService,
  newServiceAddress,
  serviceAddress,
} from "./services.ts";
import type { Measured, Stage } from "./stage.ts";

/** A mode that takes so long for its changes has had enough of them. */
const CHANGES_MS = 20_000;
const CHANGE_TIMEOUT_MS = 15_000;

/** What is done in one mode, and what it disturbs. */
export interface Changes {
  readonly server: string;
  readonly services: number;
  /** The first address of a new endpoint that nobody has used. */
  readonly firstSample: number;
  /** They hear of the changes too, and stand still meanwhile. */
  readonly others: readonly Child[];
}

/**
 * Changes one after another, each on an endpoint that none has had.
 *
 * @returns the first address that is not used now; and what came too late
 */
export async function measureChanges(
  stage: Stage,
  { mode, values }: Measured,
  { server, services, firstSample, others }: Changes,
): Promise<{ readonly used: number; readonly late?: string }> {
  const { changes } = stage.options;
  await stage.network.lead(mode);
  for (const other of others) other.kill("SIGSTOP");
  let used = firstSample;
  let late: string | undefined;
  const until = performance.now() + CHANGES_MS;
  for (let sample = 0; sample <= changes && late === undefined; sample++) {
    // One of each kind is counted, however long it takes.
    if (sample > 1 && performance.now() > until) break;
    for (const metric of ["changed endpoint", "new Service"]) {
      const effectMs = await timeChange(stage, metric, {
        server,
        services,
        n: used++,
      });
      if (effectMs === undefined) {
        late = `a ${metric} did not show within ${CHANGE_TIMEOUT_MS / 1000} s`;
        break;
      }
      if (sample === 0) continue;
      values.set(metric, [...values.get(metric) ?? [], effectMs]);
    }
  }
  for (const other of others) other.kill("SIGCONT");
  return { used, ...late === undefined ? {} : { late } };
}

/** @returns milliseconds; nothing if it takes too long */
async function timeChange(
  { changer, newPort }: Stage,
  metric: string,
  { server, services, n }: {
    readonly server: string;
    readonly services: number;
    readonly n: number;
  },
): Promise<number | undefined> {
  const endpoint = { ip: newEndpointIp(n), port: newPort };
  const service = n % services;
  const change = metric === "new Service"
    ? {
      verb: "create" as const,
      objects: newService(n, endpoint),
      ...newServiceAddress(n),
    }
    : {
      verb: "replace" as const,
      objects: [changedSlice(service, endpoint)],
      ...serviceAddress(service),
    };
  const timeoutMs = CHANGE_TIMEOUT_MS;
  const want = endpoint.ip;
  const { effectMs } = await changer.ask({
    server,
    ...change,
    want,
    timeoutMs,
  });
  return effectMs;
}

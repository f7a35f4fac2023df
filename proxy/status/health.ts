/**
 * Whether this proxy is healthy, as kube-proxy answers it on `/healthz` and
 * `/livez` (facts 7.1–7.12). Pure: times in, a report out.
 *
 * `/livez` is for the kubelet: it is about the process. `/healthz` is for load
 * balancers: it also says no while the node is to be taken away, so that they
 * stop sending it new connections before it goes.
 *
 * @module
 */
import type { Node } from "../../watch/types.ts";
import type { IpFamily } from "../ip.ts";
import type { SyncTimes } from "../sync_runner.ts";

/** Taint that the cluster autoscaler puts on a node it is about to delete. */
const DELETION_TAINT = "ToBeDeletedByClusterAutoscaler";

/**
 * A sync that has been asked for this long ago and has not succeeded since
 * makes the proxy unhealthy: twice upstream's sync period of 30 s (fact 7.6).
 */
export const UNHEALTHY_AFTER_MS = 60_000;

export interface HealthInput {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** For each family that was ever synced. */
  readonly syncs: Readonly<Partial<Record<IpFamily, SyncTimes>>>;
  /** `not-needed`: there is no API server that has Nodes. */
  readonly node: Node | undefined | "not-needed";
}

export interface HealthReport {
  readonly ok: boolean;
  /** In upstream's order of keys; ready for JSON. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** The answer of `/livez`. */
export function liveness(input: HealthInput): HealthReport {
  const { healthy, ...body } = health(input);
  const { lastUpdated, currentTime, ...status } = body;
  return {
    ok: healthy,
    body: { lastUpdated, currentTime, healthy, ...status },
  };
}

/** The answer of `/healthz`: alive, and the node is there to stay. */
export function readiness(input: HealthInput): HealthReport {
  const { healthy, ...body } = health(input);
  const nodeEligible = isEligible(input.node);
  const { lastUpdated, currentTime, ...status } = body;
  return {
    ok: healthy && nodeEligible,
    body: { lastUpdated, currentTime, nodeEligible, healthy, ...status },
  };
}

/** Not known yet counts as not eligible (fact 7.9). */
export function isEligible(node: HealthInput["node"]): boolean {
  if (node === "not-needed") return true;
  return node !== undefined && node.metadata.deletionTimestamp === undefined &&
    !node.spec.taints.some((taint) => taint.key === DELETION_TAINT);
}

function health({ now, syncs }: HealthInput) {
  const families = Object.entries(syncs).map(([family, times]) => ({
    family,
    lastUpdated: times.updatedAt,
    healthy: times.queuedAt === undefined ||
      now - times.queuedAt < UNHEALTHY_AFTER_MS,
  }));
  const healthy = families.every((family) => family.healthy);
  const newest = Math.max(0, ...families.map((family) => family.lastUpdated));
  const status = Object.fromEntries(
    families.map(({ family, lastUpdated, healthy }) => [
      family,
      { lastUpdated: new Date(lastUpdated).toISOString(), healthy },
    ]),
  );
  return {
    lastUpdated: new Date(healthy ? now : newest).toISOString(),
    currentTime: new Date(now).toISOString(),
    healthy,
    ...(families.length > 0 ? { status } : {}),
  };
}

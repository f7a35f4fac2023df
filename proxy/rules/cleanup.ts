/**
 * Takes away what a strategy of an earlier run has left: all of it, or what
 * would lead packets away from the strategy that was chosen now.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { SteeringError, type SteeringName } from "../steering.ts";
import { type CommandRunner, systemRunner } from "./command.ts";
import { lockToClean, type TakeLock } from "./lock.ts";
import { removePortal } from "./portal_namespace.ts";
import { RedirectSteering } from "./redirect.ts";
import { RouteSteering } from "./route.ts";
import type { ClusterFacts } from "./route_refusal.ts";

const logger = getLogger("rules");

export interface CleanupOptions {
  readonly signal: AbortSignal;
  /** Default: real programs. */
  readonly runner?: CommandRunner;
}

/**
 * Removes what any strategy, of this run or an earlier one, has installed.
 * Twice in a row is fine.
 *
 * @throws {SteeringError} if something of ours is still there, or a process
 *   that lives is using it
 */
export async function cleanupSteering(
  options: CleanupOptions & { readonly takeLock?: TakeLock },
): Promise<void> {
  const { signal, runner = systemRunner } = options;
  using _lock = await lockToClean(options);
  const os = Deno.build.os;
  const redirect = new RedirectSteering({ runner, os });
  const route = new RouteSteering({ ...NOTHING_KNOWN, runner, os });
  const steps = [
    () => redirect.cleanup(signal),
    () => route.cleanup(signal),
    () => os === "linux" ? removePortal({ runner, signal }) : undefined,
  ];
  const errors: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      if (!(error instanceof SteeringError)) throw error;
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}

/**
 * What an earlier run by another strategy has left, where it would lead packets
 * away from this one: routes of `route` answer on ports that nobody serves.
 */
export async function removeOthers(
  name: SteeringName,
  { signal, runner = systemRunner, os = Deno.build.os }: CleanupOptions & {
    readonly os?: string;
  },
): Promise<void> {
  try {
    if (name === "portal") {
      const redirect = new RedirectSteering({ runner, os });
      if (await redirect.isInstalled(signal)) await redirect.cleanup(signal);
    }
    if (name === "portal" || name === "redirect") {
      await new RouteSteering({ ...NOTHING_KNOWN, runner, os }).cleanup(signal);
    }
    if (name === "redirect" || name === "route") {
      await removePortal({ runner, signal });
    }
  } catch (error) {
    if (!(error instanceof SteeringError)) throw error;
    logger.warn("Steering of an earlier run stays", { reason: error.message });
  }
}

const NOTHING_KNOWN = {
  cidrs: [],
  clusterFacts: (): ClusterFacts => ({
    apiServers: new Set(),
    podCidrs: [],
    endpoints: new Set(),
  }),
};

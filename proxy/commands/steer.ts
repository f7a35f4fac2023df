/**
 * Chooses and starts the steering of a run: finds out what it has to know, takes
 * the machine for itself, and says in one line what was chosen, why, and why
 * not the others; and in one more for each thing that stands in the way.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { ApiClient } from "../../watch/mod.ts";
import type { NamespaceOpener } from "../engine/engine.ts";
import { CommandError, systemRunner } from "../rules/command.ts";
import { cleanupKernelModes } from "../rules/modes/mod.ts";
import {
  chooseSteering,
  LEFTOVERS_ADVICE,
  type PortRange,
  readLeftovers,
  type SteeringChoice,
  type SteeringRequest,
  type TakeLock,
} from "../rules/mod.ts";
import { removeSteering } from "./cleanup.ts";
import { errorLine } from "./errors.ts";
import { serviceCidrsOf } from "./service_cidrs.ts";
import type { KnownCluster } from "./running_proxy.ts";

const logger = getLogger("main");

export interface SteerOptions {
  /** `--service-cidr`; where it is empty, the API server is asked. */
  readonly cidrs: readonly string[];
  readonly client: ApiClient | undefined;
  readonly known: KnownCluster;
  readonly ports: PortRange | undefined;
  /** One port for all TCP Services, where rules lead to it. */
  readonly sharesTcp: boolean;
  readonly namespaces: NamespaceOpener;
  /** Takes over from whoever steers; without it, that one is left alone. */
  readonly takeLock?: TakeLock | undefined;
  readonly signal: AbortSignal;
}

/** @throws {SteeringError} if what was asked for cannot work, or another process steers */
export async function steer(
  request: SteeringRequest,
  options: SteerOptions,
): Promise<SteeringChoice> {
  const { cidrs, client, known, ports, sharesTcp, namespaces } = options;
  const { takeLock, signal } = options;
  const needsNone = request === "none" || request === "redirect";
  const found = cidrs.length > 0 || client === undefined || needsNone
    ? cidrs
    : await serviceCidrsOf(client, signal);
  const choice = await chooseSteering(request, {
    cidrs: found,
    serviceIps: known.serviceIps,
    clusterFacts: known.facts,
    ...ports === undefined ? {} : { proxyPorts: ports },
    sharesTcp,
    namespaces,
    ...takeLock === undefined ? {} : { takeLock, alwaysLocks: true },
    signal,
  });
  logger.info(`Steering by ${choice.steering.name}: ${choice.why}`, {
    ...Object.fromEntries(
      choice.rejected.map(({ name, why }) => [`not_${name}`, why]),
    ),
  });
  try {
    if (choice.steering.name !== "none") await warnOfKubeProxy(signal);
    else if (choice.rejected.length === 0) removeEarlier(signal, takeLock);
  } catch (error) {
    choice.lock?.[Symbol.dispose]();
    throw error;
  }
  return choice;
}

/**
 * What an earlier run left would lead packets away from listeners of `none`. No
 * Service waits for that to be gone, and where another process steers, or the
 * rights are missing, it stays.
 */
async function removeEarlier(
  signal: AbortSignal,
  takeLock: TakeLock | undefined,
): Promise<void> {
  try {
    await removeSteering(signal, takeLock && holdAlready);
  } catch (error) {
    logger.debug("Steering of an earlier run is left alone", {
      reason: errorLine(error),
    });
  }
}

/** Who takes over has the lock by then. */
const holdAlready: TakeLock = () =>
  Promise.resolve({ [Symbol.dispose]: () => {} });

/**
 * Its rules win over ours, or fight with them. Those that a kernel mode of ours
 * left look the same, but for a mark: they are removed (fact 8.96).
 */
async function warnOfKubeProxy(signal: AbortSignal): Promise<void> {
  const found = await readLeftovers(systemRunner, signal);
  if (found.length === 0) return;
  await removeKernelModes(signal);
  for (const { mode, what } of await readLeftovers(systemRunner, signal)) {
    logger.warn(
      `kube-proxy is on this machine too, or was (${mode} mode); Services may be led by its rules`,
      { found: what, advice: LEFTOVERS_ADVICE },
    );
  }
}

async function removeKernelModes(signal: AbortSignal): Promise<void> {
  try {
    await cleanupKernelModes({ signal });
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    logger.warn("Rules of an earlier run in a kernel mode stay", {
      reason: error.message,
    });
  }
}

/**
 * Starts a mode of the kernel: takes the machine for itself, removes what runs
 * of other modes left, and says what it needs to know before the first sync.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { type ApiClient, systemClock } from "../../watch/mod.ts";
import type { KubeProxyConfiguration } from "../config/mod.ts";
import {
  cleanupSteering,
  lockToSteer,
  type SteeringLock,
  type TakeLock,
} from "../rules/mod.ts";
import { CommandError } from "../rules/command.ts";
import { KernelProxier } from "../rules/modes/kernel_proxier.ts";
import { cleanupKernelModes, kernelModeDriver } from "../rules/modes/mod.ts";
import type { KernelMode } from "../rules/modes/mode_input.ts";
import { SteeringError } from "../steering.ts";
import { modeSettings } from "./config_meaning.ts";
import { errorLine } from "./errors.ts";
import { serviceCidrsOf } from "./service_cidrs.ts";
import type { KnownCluster } from "./running_proxy.ts";

const logger = getLogger("main");

export interface KernelModeOptions {
  readonly mode: KernelMode;
  /** As it is now: some of it can change while the mode runs. */
  config(): KubeProxyConfiguration;
  readonly nodeName: string;
  /** `--service-cidr`; where it is empty, the API server is asked. */
  readonly cidrs: readonly string[];
  readonly client: ApiClient | undefined;
  readonly known: KnownCluster;
  /** Takes over from whoever steers; without it, that one is left alone. */
  readonly takeLock?: TakeLock;
  readonly signal: AbortSignal;
}

/**
 * @throws {SteeringError} if the mode cannot run here, or another process
 *   steers the machine
 */
export async function startKernelMode(
  options: KernelModeOptions,
): Promise<{ proxier: KernelProxier; lock: SteeringLock }> {
  const { mode, config, nodeName, cidrs, client, known, signal } = options;
  const lock = await lockToSteer(options);
  try {
    await removeOthers(mode, signal);
    const serviceCidrs = cidrs.length > 0 || client === undefined
      ? cidrs
      : await serviceCidrsOf(client, signal);
    const proxier = await KernelProxier.start({
      driver: await kernelModeDriver(mode),
      settings: () => modeSettings(config(), mode),
      nodeName,
      serviceCidrs,
      state: known.state,
      clock: systemClock,
    }, signal);
    return { proxier, lock };
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

/** Upstream does so too, as well as it can (fact 8.96). */
async function removeOthers(
  mode: KernelMode,
  signal: AbortSignal,
): Promise<void> {
  const steps = [
    // We hold the lock ourselves.
    () => cleanupSteering({ signal, takeLock: () => Promise.resolve(NO_LOCK) }),
    () => cleanupKernelModes({ except: mode, signal }),
  ];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      signal.throwIfAborted();
      const isExpected = error instanceof SteeringError ||
        error instanceof CommandError;
      if (!isExpected) throw error;
      logger.warn("What an earlier run left, if anything, stays", {
        reason: errorLine(error),
      });
    }
  }
}

const NO_LOCK: SteeringLock = { [Symbol.dispose]: () => {} };

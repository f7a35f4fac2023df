/**
 * The kernel modes that run: their drivers by name, and taking away what any of
 * them has left on this machine. The wiring calls it; each mode is a folder.
 *
 * @module
 */
import { type CommandRunner, systemRunner } from "../command.ts";
import { cleanupKernelMode } from "./kernel_proxier.ts";
import type { KernelModeDriver } from "./kernel_programmer.ts";
import { KERNEL_MODES, type KernelMode } from "./mode_input.ts";

/** Loaded when it is needed: userspace mode starts without any of them. */
const DRIVERS: Readonly<
  Record<KernelMode, (runner: CommandRunner) => Promise<KernelModeDriver>>
> = {
  iptables: async (runner) =>
    (await import("./iptables/driver.ts")).iptablesDriver(runner),
  ipvs: async (runner) => (await import("./ipvs/driver.ts")).ipvsDriver(runner),
  nftables: async (runner) =>
    (await import("./nftables/driver.ts")).nftablesDriver(runner),
};

/** Whether a mode is one of the kernel's. */
export function isKernelMode(mode: string): mode is KernelMode {
  return (KERNEL_MODES as readonly string[]).includes(mode);
}

/** What a mode needs to run; nothing is touched yet. */
export function kernelModeDriver(
  mode: KernelMode,
  runner: CommandRunner = systemRunner,
): Promise<KernelModeDriver> {
  return DRIVERS[mode](runner);
}

/**
 * Removes what runs of any kernel mode left here, but for one of them (fact
 * 8.96); what has no mark of ours is somebody else's.
 *
 * @throws {CommandError} if something stays
 */
export async function cleanupKernelModes(
  { except, signal, runner = systemRunner }: {
    except?: KernelMode;
    signal: AbortSignal;
    runner?: CommandRunner;
  },
): Promise<void> {
  for (const mode of KERNEL_MODES) {
    if (mode === except) continue;
    await cleanupKernelMode(await DRIVERS[mode](runner), { runner, signal });
  }
}

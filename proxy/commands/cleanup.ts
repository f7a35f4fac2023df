/**
 * `kube-portal cleanup`: takes away what any run has left on this machine.
 *
 * @module
 */
import { cleanupSteering, type TakeLock } from "../rules/mod.ts";
import { cleanupKernelModes } from "../rules/modes/mod.ts";
import { CLEANUP_FLAGS } from "./flag_tables.ts";
import { parseFlags } from "./flags.ts";
import { print } from "./terminal.ts";
import { setupLogging } from "./verbosity.ts";

const TIMEOUT_MS = 120_000;

export async function cleanupCommand(args: readonly string[]): Promise<number> {
  await setupLogging(parseFlags(args, CLEANUP_FLAGS));
  await removeSteering(AbortSignal.timeout(TIMEOUT_MS));
  print("Nothing of kube-portal's steering is left on this machine.\n");
  return 0;
}

/**
 * Everything that any run, in any mode, has left.
 *
 * @param takeLock for who has the machine already
 * @throws {SteeringError} or {CommandError} if some of it is still there, or a
 *   process that lives is using it
 */
export async function removeSteering(
  signal: AbortSignal,
  takeLock?: TakeLock,
): Promise<void> {
  const lock = takeLock === undefined ? {} : { takeLock };
  await cleanupSteering({ signal, ...lock });
  await cleanupKernelModes({ signal });
}

/**
 * `kube-portal cleanup`: takes away what any run has left on this machine.
 *
 * @module
 */
import { cleanupSteering } from "../rules/mod.ts";
import { cleanupKernelModes } from "../rules/modes/mod.ts";
import { CLEANUP_FLAGS } from "./flag_tables.ts";
import { parseFlags } from "./flags.ts";
import { print } from "./terminal.ts";
import { setupLogging } from "./verbosity.ts";

const TIMEOUT_MS = 120_000;

export async function cleanupCommand(args: readonly string[]): Promise<number> {
  await setupLogging(parseFlags(args, CLEANUP_FLAGS));
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  await cleanupSteering({ signal });
  await cleanupKernelModes({ signal });
  print("Nothing of kube-portal's steering is left on this machine.\n");
  return 0;
}

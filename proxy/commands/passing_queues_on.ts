/**
 * At the end of a process that was replaced: clients that wait at its listeners
 * when they are closed go to the other process's, if the kernel is told so. In:
 * a machine whose parameters can be written, or not. Out: the same, in the end.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { TCP_MIGRATE_REQ } from "../port_sharing.ts";
import { CommandError, type CommandRunner } from "../rules/command.ts";
import {
  readSysctl,
  type SysctlOptions,
  writeSysctl,
} from "../rules/modes/sysctls.ts";
import { errorLine } from "./errors.ts";

const logger = getLogger("handover");

const NAME = TCP_MIGRATE_REQ.replace("/proc/sys/", "").replaceAll("/", ".");

/** A process that is to end waits no longer for a machine that hangs. */
const TIMEOUT_MS = 2_000;

/**
 * Runs `close` while the kernel passes queues on. Where it cannot be told to,
 * hardly anybody is lost: `handover/README.md`.
 *
 * @param runner none: nobody has to be told
 */
export async function passingQueuesOn(
  runner: CommandRunner | undefined,
  close: () => Promise<void>,
): Promise<void> {
  if (runner === undefined) return await close();
  const options = () => ({ runner, signal: AbortSignal.timeout(TIMEOUT_MS) });
  const before = await readSysctl(NAME, options()).catch(() => undefined);
  const isSet = before === "0" && await letPass(options());
  try {
    await close();
  } finally {
    if (isSet) {
      await writeSysctl(NAME, "0", options()).catch((error) =>
        logger.warn(`Cannot set ${NAME} back to 0`, {
          reason: errorLine(error),
        })
      );
    }
  }
}

/** @returns whether it is to be put back */
async function letPass(options: SysctlOptions): Promise<boolean> {
  try {
    await writeSysctl(NAME, "1", options);
    logger.info("Set a kernel parameter while listeners are closed", {
      parameter: `${NAME}=1`,
    });
    return true;
  } catch (error) {
    logger.debug(`Cannot set ${NAME}`, { reason: errorLine(error) });
    // One that took too long may have been written all the same.
    return !(error instanceof CommandError);
  }
}

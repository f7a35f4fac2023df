/**
 * At the end of a process that was replaced: clients that wait at its listeners
 * when they are closed go to the other process's, if the kernel is told so. In:
 * a machine whose parameters can be written, or not. Out: the same, in the end.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { within } from "../handover/within.ts";
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

/** Queues pass on until it is ended. */
export interface PassingQueues {
  /** They do. */
  readonly isOn: boolean;
  /** Puts back what there was. */
  end(): Promise<void>;
}

/**
 * Tells the kernel to pass queues on. Where it cannot be told, hardly anybody is
 * lost (`handover/README.md`).
 *
 * @param timeoutMs for each of what it does, whatever becomes of the programs
 *   that it starts
 */
export async function passQueuesOn(
  runner: CommandRunner,
  timeoutMs = TIMEOUT_MS,
): Promise<PassingQueues> {
  const options = () => ({ runner, signal: AbortSignal.timeout(timeoutMs) });
  const reading = readSysctl(NAME, options()).catch(() => undefined);
  const before = await within(timeoutMs, reading);
  if (before !== "0") return { isOn: before === "1", async end() {} };
  const setting = set("1", options());
  const isOn = await within(timeoutMs, setting) === true;
  return {
    isOn,
    async end() {
      const puttingBack = setting.then((isSet) =>
        // One that took too long may have been written all the same.
        isSet === false || set("0", options())
      );
      if (await within(timeoutMs, puttingBack) === true) return;
      logger.warn(`Cannot set ${NAME} back to 0`);
    },
  };
}

/** @returns false: it could not be written; undefined: nobody knows */
async function set(
  value: string,
  options: SysctlOptions,
): Promise<boolean | undefined> {
  try {
    await writeSysctl(NAME, value, options);
    logger.info("Kernel parameter set", { parameter: `${NAME}=${value}` });
    return true;
  } catch (error) {
    logger.debug(`Cannot set ${NAME} to ${value}`, {
      reason: errorLine(error),
    });
    return error instanceof CommandError ? false : undefined;
  }
}

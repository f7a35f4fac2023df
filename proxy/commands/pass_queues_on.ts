/**
 * At the end of a process that was replaced: clients that wait at its listeners
 * when they are closed go to the other process's, if the kernel is told so. In:
 * a machine whose parameters can be written, or not. Out: the same, in the end.
 *
 * @module
 */
import { TCP_MIGRATE_REQ } from "../port_sharing.ts";
import type { CommandRunner } from "../rules/command.ts";
import { applySysctls, restoreSysctls } from "../rules/modes/sysctls.ts";

const PARAMETER = {
  name: TCP_MIGRATE_REQ.replace("/proc/sys/", "").replaceAll("/", "."),
  value: "1",
  without: "a client that comes in the last millisecond may be reset",
};

/** Longer than listeners take to be closed (`LAST_CLIENT_MS`), milliseconds. */
const CLOSING_MS = 100;

/** A process that is to end waits no longer for a machine that hangs. */
const TIMEOUT_MS = 2_000;

/** For as long as the process closes its listeners. */
export async function passQueuesOn(
  runner: CommandRunner,
): Promise<{ readonly end: () => Promise<void> }> {
  const options = () => ({ runner, signal: AbortSignal.timeout(TIMEOUT_MS) });
  const before = await applySysctls([PARAMETER], new Map(), options());
  return {
    /** To be called when they are told to close; puts back what there was. */
    async end() {
      await new Promise((resolve) => setTimeout(resolve, CLOSING_MS));
      await restoreSysctls(before, options());
    },
  };
}

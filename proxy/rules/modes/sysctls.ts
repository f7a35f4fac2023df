/**
 * The kernel parameters of a mode: read, named, written where they are another,
 * and put back. A container's /proc is often read-only: then the mode goes on,
 * and says what does not work without. Starts `sh`, since Deno lets nobody
 * write to /proc with less than all permissions.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { CommandError, type CommandRunner } from "../command.ts";
import type { Sysctl } from "./kernel_programmer.ts";

const logger = getLogger("rules");

export interface SysctlOptions {
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/**
 * Writes those that are not as wanted, after saying which.
 *
 * @param kept what an earlier run found before it wrote: that is what is put
 *   back one day, not what that run left
 * @returns name → value to put back
 */
export async function applySysctls(
  wanted: readonly Sysctl[],
  kept: ReadonlyMap<string, string>,
  options: SysctlOptions,
): Promise<ReadonlyMap<string, string>> {
  const originals = new Map(kept);
  const found = new Map<string, string>();
  for (const { name } of wanted) {
    const value = await readSysctl(name, options);
    if (value !== undefined) found.set(name, value);
  }
  const different = wanted.filter(({ name, value }) =>
    found.get(name) !== value
  );
  if (different.length > 0) {
    logger.info("Setting kernel parameters", {
      parameters: different.map(({ name, value }) =>
        `${name}=${value} (was ${found.get(name) ?? "not readable"})`
      ),
    });
  }
  for (const { name, value, without } of different) {
    try {
      await writeSysctl(name, value, options);
      const before = found.get(name);
      if (before !== undefined && !originals.has(name)) {
        originals.set(name, before);
      }
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      logger.warn(`Cannot set ${name}: without it ${without}`, {
        wanted: value,
        reason: reasonOf(error),
      });
    }
  }
  return originals;
}

/** Puts values back; one that cannot be written is named, and left. */
export async function restoreSysctls(
  originals: ReadonlyMap<string, string>,
  options: SysctlOptions,
): Promise<void> {
  for (const [name, value] of originals) {
    try {
      await writeSysctl(name, value, options);
      logger.info("Kernel parameter put back", { [name]: value });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      logger.warn(`Cannot put ${name} back`, {
        value,
        reason: reasonOf(error),
      });
    }
  }
}

/** `undefined`: it cannot be read. */
export async function readSysctl(
  name: string,
  { runner, signal }: SysctlOptions,
): Promise<string | undefined> {
  try {
    return (await runner.run(["cat", pathOf(name)], { signal })).trim();
  } catch (error) {
    if (error instanceof CommandError) return undefined;
    throw error;
  }
}

/** @throws {CommandError} if it cannot be written */
export async function writeSysctl(
  name: string,
  value: string,
  { runner, signal }: SysctlOptions,
): Promise<void> {
  const script = 'printf %s "$1" > "$2"';
  await runner.run(["sh", "-c", script, "sh", value, pathOf(name)], { signal });
}

/** @throws {RangeError} for what is no parameter's name: it becomes a path */
function pathOf(name: string): string {
  if (!/^[a-z0-9_]+(\.[a-z0-9_]+)+$/.test(name)) {
    throw new RangeError(`No kernel parameter "${name}"`);
  }
  return `/proc/sys/${name.replaceAll(".", "/")}`;
}

/** What a shell says last: `Read-only file system`. */
function reasonOf(error: CommandError): string {
  return error.stderr.trim().split(": ").at(-1) || error.message;
}

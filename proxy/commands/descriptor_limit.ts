/**
 * How many descriptors this process may have: asked of a shell, whose limits
 * are ours, since Deno does not tell and `/proc` is shut.
 *
 * @module
 */
import type { CommandRunner } from "../rules/command.ts";
import { programOutput } from "./program_output.ts";

/** `undefined` where it cannot be found out; infinite where there is none. */
export async function descriptorLimit(
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<number | undefined> {
  const text = await programOutput({ runner, signal }, "sh", "-c", "ulimit -n");
  if (text === undefined) return undefined;
  const limit = text.trim() === "unlimited" ? Infinity : Number(text);
  return Number.isNaN(limit) ? undefined : limit;
}

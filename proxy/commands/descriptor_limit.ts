/**
 * How many descriptors this process may have: asked of a shell, whose limits
 * are ours, since Deno does not tell and `/proc` is shut.
 *
 * @module
 */
import { CommandError, type CommandRunner } from "../rules/command.ts";

/** `undefined` where it cannot be found out; infinite where there is none. */
export async function descriptorLimit(
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<number | undefined> {
  try {
    const text = await runner.run(["sh", "-c", "ulimit -n"], { signal });
    const limit = text.trim() === "unlimited" ? Infinity : Number(text);
    return Number.isNaN(limit) ? undefined : limit;
  } catch (error) {
    if (error instanceof CommandError) return undefined;
    throw error;
  }
}

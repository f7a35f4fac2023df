/**
 * What a program prints, for those who can do without it.
 *
 * @module
 */
import { CommandError, type CommandRunner } from "../rules/command.ts";

/** Undefined where the program is not there, or fails. */
export async function programOutput(
  { runner, signal }: {
    readonly runner: CommandRunner;
    readonly signal: AbortSignal;
  },
  ...command: [string, ...string[]]
): Promise<string | undefined> {
  try {
    return await runner.run(command, { signal });
  } catch (error) {
    if (error instanceof CommandError) return undefined;
    throw error;
  }
}

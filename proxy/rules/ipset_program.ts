/**
 * The program `ipset`: loading lines, listing sets, and removing them. Knows no
 * set by name.
 *
 * @module
 */
import { CommandError, type CommandRunner } from "./command.ts";

interface Options {
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** How often a set is tried to be removed: rules of nft let go of it later. */
const MOST_TRIES = 20;
const RETRY_MS = 50;

/**
 * Loads lines, one after the other; what is there already is no error.
 *
 * @throws {CommandError} at the first line that is refused; those before it stay
 */
export async function restoreSets(
  lines: readonly string[],
  { runner, signal }: Options,
): Promise<void> {
  if (lines.length === 0) return;
  const stdin = lines.map((line) => `${line}\n`).join("");
  await runner.run(["ipset", "-exist", "restore"], { signal, stdin });
}

/** The names of all sets, a line each; none where nobody can tell. */
export async function listSets({ runner, signal }: Options): Promise<string> {
  try {
    return await runner.run(["ipset", "list", "-n"], { signal });
  } catch (error) {
    if (error instanceof CommandError) return "";
    throw error;
  }
}

/** Removes sets, as far as they are in nobody's use. */
export async function destroySets(
  sets: readonly string[],
  { runner, signal }: Options,
): Promise<void> {
  for (const name of sets) {
    for (let tries = 1;; tries++) {
      try {
        await runner.run(["ipset", "destroy", name], { signal });
        break;
      } catch (error) {
        if (!(error instanceof CommandError)) throw error;
        if (tries === MOST_TRIES || !isInUse(error)) break;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

function isInUse({ stderr }: CommandError): boolean {
  return stderr.includes("in use");
}

/**
 * Folders that flags name.
 *
 * @module
 */
import { errorLine, UserError } from "./errors.ts";

/**
 * A folder that is not there at the start is a mistake in the command line; one
 * that goes away later may come back, and is waited for.
 *
 * @throws {UserError} naming the flag and why the folder cannot be read
 */
export async function checkFolder(path: string, flag: string): Promise<void> {
  let why;
  try {
    if ((await Deno.stat(path)).isDirectory) return;
    why = "it is not a folder";
  } catch (error) {
    why = error instanceof Deno.errors.NotFound
      ? "it does not exist"
      : errorLine(error);
  }
  throw new UserError(`Cannot read the folder "${path}" of --${flag}: ${why}`);
}

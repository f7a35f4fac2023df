/**
 * Ends of a command that are not the program's fault.
 *
 * @module
 */

/**
 * What the user asked for cannot be done: printed as one line, without a stack
 * trace, and the program exits with 1.
 */
export class UserError extends Error {
  override readonly name = "UserError";
}

/**
 * The words of an error in one line, causes included where they add something.
 */
export function errorLine(error: unknown): string {
  if (!(error instanceof Error)) return oneLine(String(error));
  const own = oneLine(error.message || error.name);
  if (!(error.cause instanceof Error)) return own;
  const cause = errorLine(error.cause);
  return own.includes(cause) ? own : `${own}: ${cause}`;
}

function oneLine(text: string): string {
  return text.replaceAll(/\s*\n\s*/g, " ").trim();
}

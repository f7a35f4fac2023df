/**
 * Why a file that somebody named cannot be read, as the end of a sentence.
 *
 * @module
 */

/** For people; what the system says where there are no better words. */
export function fileReason(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "there is no such file";
  if (error instanceof Deno.errors.NotCapable) {
    return "Deno denies it; add --allow-read with this path";
  }
  if (error instanceof Deno.errors.PermissionDenied) return "permission denied";
  if (error instanceof Deno.errors.IsADirectory) return "it is a folder";
  return error instanceof Error ? error.message : String(error);
}

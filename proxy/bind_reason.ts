/**
 * Why a listening socket cannot be had, in words that say what helps.
 *
 * @module
 */

/** The rest of a sentence, for an error of `listen`. */
export function bindReason(error: unknown): string {
  if (error instanceof Deno.errors.AddrInUse) {
    return "the address and port are in use by another process";
  }
  if (error instanceof Deno.errors.AddrNotAvailable) {
    return "the address is not local to this machine; see --steer";
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return "ports below 1024 need CAP_NET_BIND_SERVICE";
  }
  return error instanceof Error ? error.message : String(error);
}

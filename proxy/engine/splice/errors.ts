/**
 * Numbers of errors, and what they mean to us: the counterpart of
 * `../portable/errors.ts` for calls that are made through FFI.
 *
 * @module
 */

// Of asm-generic/errno.h and errno-base.h, the same on both architectures.
export const EINTR = 4;
export const EAGAIN = 11;
export const EALREADY = 114;
export const EINPROGRESS = 115;
const EPERM = 1;
const ENOMEM = 12;
const EACCES = 13;
export const EINVAL = 22;
const ENFILE = 23;
const EMFILE = 24;
export const EMSGSIZE = 90;
const EADDRINUSE = 98;
const EADDRNOTAVAIL = 99;
const ENETUNREACH = 101;
export const ECONNABORTED = 103;
const ENOBUFS = 105;
const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
const EHOSTUNREACH = 113;

/** In the words of strerror(3), as Deno shows them too. */
const TEXTS: Readonly<Record<number, string>> = {
  [EPERM]: "Operation not permitted",
  [EAGAIN]: "Resource temporarily unavailable",
  [ENOMEM]: "Cannot allocate memory",
  [EACCES]: "Permission denied",
  [EINVAL]: "Invalid argument",
  [ENFILE]: "Too many open files in system",
  [EMFILE]: "Too many open files",
  [EMSGSIZE]: "Message too long",
  [EADDRINUSE]: "Address already in use",
  [EADDRNOTAVAIL]: "Cannot assign requested address",
  [ENETUNREACH]: "Network is unreachable",
  [ECONNABORTED]: "Software caused connection abort",
  [ENOBUFS]: "No buffer space available",
  [ETIMEDOUT]: "Connection timed out",
  [ECONNREFUSED]: "Connection refused",
  [EHOSTUNREACH]: "No route to host",
};

/** `Connection refused (os error 111)`. */
export function errnoText(errno: number): string {
  const text = TEXTS[errno];
  return text === undefined
    ? `os error ${errno}`
    : `${text} (os error ${errno})`;
}

/** The error that Deno's own calls throw for it. */
export function errnoError(action: string, errno: number): Error {
  const message = `${action}: ${errnoText(errno)}`;
  switch (errno) {
    case EADDRINUSE:
      return new Deno.errors.AddrInUse(message);
    case EADDRNOTAVAIL:
      return new Deno.errors.AddrNotAvailable(message);
    case EACCES:
    case EPERM:
      return new Deno.errors.PermissionDenied(message);
    default:
      return new Error(message);
  }
}

/**
 * The machine is out of descriptors or memory: nobody at the other end is to
 * blame, and trying again at once fails again.
 */
export function isExhausted(errno: number): boolean {
  return errno === EMFILE || errno === ENFILE || errno === ENOBUFS ||
    errno === ENOMEM;
}

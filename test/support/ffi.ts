/**
 * The C library for tests, where FFI can be had.
 *
 * @module
 */
import {
  type Libc,
  NoLibcError,
  openLibc,
} from "../../proxy/engine/splice/libc.ts";
import type { Need } from "./needs.ts";

/** Linux, glibc, x86-64 or arm64, and the permission: what splice needs. */
export const ffi: Need = () => {
  try {
    openLibc().close();
    return undefined;
  } catch (error) {
    if (error instanceof NoLibcError) return error.message;
    throw error;
  }
};

/** Closed by `using`. */
export function testLibc(): Libc & Disposable {
  const libc = openLibc();
  return { ...libc, [Symbol.dispose]: () => libc.close() };
}

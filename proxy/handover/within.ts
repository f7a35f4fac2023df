/**
 * Waiting no longer than one wants. In: a promise, and a time. Out: what it
 * resolved to, or that it is late; no timer stays behind.
 *
 * @module
 */

/** @throws what the promise rejects with, if it does so in time */
export async function within<T>(
  ms: number,
  promise: Promise<T>,
): Promise<T | "late"> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

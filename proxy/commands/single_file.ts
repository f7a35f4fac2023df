/**
 * Where the program begins when all of it is one file (`deno task bundle`): then
 * that file is the program and the worker of its data threads too, since a
 * worker is started from a file. Elsewhere `main.ts` and `worker.ts` are begun
 * directly.
 *
 * @module
 */

// Both are loaded when they are called for: each does its work by being loaded.
if ("WorkerGlobalScope" in globalThis) {
  await import("../engine/splice/worker.ts");
} else {
  await import("../../main.ts");
}

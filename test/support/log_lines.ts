/**
 * What was logged while a test ran.
 *
 * @module
 */
import { type LogLevel, setup } from "@std/log";

/**
 * Collects log lines until disposed; one collector at a time.
 *
 * @param level the least that is collected
 */
export async function collectLog(
  level: LogLevel = "warn",
): Promise<AsyncDisposable & { readonly lines: string[] }> {
  const lines: string[] = [];
  const quiet = { format: "text", stacks: false } as const;
  await setup({ level, ...quiet, write: (line) => void lines.push(line) });
  return {
    lines,
    async [Symbol.asyncDispose]() {
      await setup({ level: "error", ...quiet, write() {} });
    },
  };
}

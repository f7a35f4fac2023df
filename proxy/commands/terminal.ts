/**
 * Writing to a terminal: whole lines, and tables whose columns line up.
 *
 * @module
 */

const encoder = new TextEncoder();

/** Writes to standard output, all of it, before it returns. */
export function print(text: string): void {
  writeAll(Deno.stdout, text);
}

/** Writes to standard error, all of it, before it returns. */
export function printError(text: string): void {
  // A line that is written over stays the last one.
  writeAll(Deno.stderr, shown === "" ? text : `${CLEAR}${text}${shown}`);
}

/** Goes to the start of the line, and empties it. */
const CLEAR = "\r\x1b[K";
let shown = "";

/** The last line of the terminal at standard error, until the next; empty: none. */
export function statusLine(text: string): void {
  if (text === shown) return;
  writeAll(Deno.stderr, `${CLEAR}${text}`);
  shown = text;
}

function writeAll(to: { writeSync(p: Uint8Array): number }, text: string) {
  const bytes = encoder.encode(text);
  try {
    for (let at = 0; at < bytes.length;) at += to.writeSync(bytes.subarray(at));
  } catch (error) {
    // The reader has gone (`| head`) or its disk is full: neither is a reason
    // to stop forwarding.
    if (
      !(error instanceof Deno.errors.BrokenPipe) &&
      !(error instanceof Deno.errors.WouldBlock) &&
      !(error instanceof Error &&
        /No space left|quota exceeded/.test(error.message))
    ) throw error;
  }
}

/**
 * Rows under upper-case headings, two spaces between columns, as kubectl prints
 * them. A column of numbers is the caller's to pad.
 */
export function table(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const all = [headings, ...rows];
  const widths = headings.map((_, column) =>
    Math.max(...all.map((row) => (row[column] ?? "").length))
  );
  return all.map((row) =>
    row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ")
      .trimEnd() + "\n"
  ).join("");
}

/**
 * Tests that need something of the machine (a program, a privilege): where it
 * is missing they are skipped, and say so in their name, so that the runner's
 * report carries the reason.
 *
 * @module
 */

/** A capability of this machine: `undefined` if it is there, else why not. */
export type Need = () => string | undefined;

/** Registers a test that runs only where every need is met. */
export function testWith(
  needs: readonly Need[],
  name: string,
  fn: (t: Deno.TestContext) => void | Promise<void>,
): void {
  const missing = needs.map((need) => need()).filter((why) =>
    why !== undefined
  );
  if (missing.length === 0) Deno.test(name, fn);
  else {
    Deno.test({
      name: `${name} [skipped: ${missing.join("; ")}]`,
      ignore: true,
      fn,
    });
  }
}

/** The program is on the PATH. */
export function program(name: string): Need {
  return () => findProgram(name) ? undefined : `no ${name} on the PATH`;
}

/** Absolute path of a program on the PATH. */
export function findProgram(name: string): string | undefined {
  for (const folder of (Deno.env.get("PATH") ?? "").split(":")) {
    const path = `${folder}/${name}`;
    if (isExecutable(path)) return path;
  }
  return undefined;
}

export function isExecutable(path: string): boolean {
  try {
    const file = Deno.statSync(path);
    return file.isFile && ((file.mode ?? 0) & 0o111) !== 0;
  } catch {
    return false;
  }
}

/**
 * The one place in `rules/` that starts programs: a command line and its input
 * go in, its output comes out, and a failure is one sentence. Tests give the
 * strategies a runner of their own. Knows nothing of routes or rules.
 *
 * @module
 */

export interface CommandOptions {
  readonly signal: AbortSignal;
  /** Written to the program's standard input, which is then closed. */
  readonly stdin?: string;
}

/** Runs programs: the real one, or a test's. */
export interface CommandRunner {
  /**
   * Runs the program to its end.
   *
   * @returns its standard output
   * @throws {CommandError} if it cannot be started, or exits with another
   *   code than 0
   * @throws `signal.reason` when aborted; the program is killed
   */
  run(
    command: readonly [string, ...string[]],
    options: CommandOptions,
  ): Promise<string>;
}

/** A program failed, or could not be started. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly command: readonly string[];
  /** `undefined`: it was not started. */
  readonly exitCode: number | undefined;
  readonly stderr: string;

  constructor(
    message: string,
    details: {
      command: readonly string[];
      exitCode?: number;
      stderr?: string;
      cause?: unknown;
    },
  ) {
    super(message, { cause: details.cause });
    this.command = details.command;
    this.exitCode = details.exitCode;
    this.stderr = details.stderr ?? "";
  }
}

/** Whether the program is not on this machine. */
export function isProgramMissing(error: unknown): boolean {
  return error instanceof CommandError &&
    error.cause instanceof Deno.errors.NotFound;
}

/** Starts real programs, found on the PATH. */
export const systemRunner: CommandRunner = {
  async run(command, { signal, stdin }) {
    signal.throwIfAborted();
    const [program, ...args] = command;
    let child: Deno.ChildProcess;
    try {
      child = new Deno.Command(program, {
        args,
        signal,
        stdin: stdin === undefined ? "null" : "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
    } catch (cause) {
      throw cannotStart(command, cause);
    }
    // Input is written while output is read: a program that answers every line
    // would otherwise block on a full pipe, and we with it.
    const [output] = await Promise.all([
      child.output(),
      stdin === undefined ? undefined : writeInput(child.stdin, stdin),
    ]);
    signal.throwIfAborted();
    const stderr = new TextDecoder().decode(output.stderr);
    if (!output.success) {
      throw new CommandError(
        `Cannot run "${command.join(" ")}": ` +
          (firstLine(stderr) || `it exited with code ${output.code}`),
        { command, exitCode: output.code, stderr },
      );
    }
    return new TextDecoder().decode(output.stdout);
  },
};

async function writeInput(
  input: WritableStream<Uint8Array>,
  text: string,
): Promise<void> {
  const writer = input.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch {
    // The program ended without reading everything; its exit code tells.
  }
}

function cannotStart(
  command: readonly [string, ...string[]],
  cause: unknown,
): unknown {
  const [program] = command;
  if (cause instanceof Deno.errors.NotFound) {
    return new CommandError(
      `Cannot run "${program}": no such program on the PATH`,
      { command, cause },
    );
  }
  if (cause instanceof Deno.errors.NotCapable) {
    // A scoped permission is resolved through the PATH when Deno starts, so a
    // missing program looks like a missing permission.
    return new CommandError(
      `Cannot run "${program}": start with --allow-run=${program}, with ` +
        `"${program}" on the PATH`,
      { command, cause },
    );
  }
  if (cause instanceof Deno.errors.PermissionDenied) {
    return new CommandError(
      `Cannot run "${program}": the system does not permit it`,
      { command, cause },
    );
  }
  return cause;
}

function firstLine(text: string): string {
  return text.trim().split("\n", 1)[0] ?? "";
}

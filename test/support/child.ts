/**
 * A program that runs beside a test: its output is collected, what it says can
 * be awaited, and it is gone when the test ends.
 *
 * @module
 */

/** Longer than any program takes to start on a busy machine. */
const READY_TIMEOUT_MS = 20_000;
/** What a program gets to end by itself before it is killed. */
const STOP_TIMEOUT_MS = 5_000;

export interface ChildOptions {
  readonly env?: Record<string, string>;
  /** It gets `env` and nothing of this process's environment. */
  readonly clearEnv?: boolean;
}

export class Child implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #command: readonly string[];
  readonly #readers: Promise<unknown>;
  readonly #waiting = new Set<() => void>();
  /** Of its output, as they came; joined when somebody looks. */
  readonly #pieces: string[] = [];
  #ended = false;

  constructor(
    command: readonly [string, ...string[]],
    options: ChildOptions = {},
  ) {
    const [program, ...args] = command;
    this.#command = command;
    this.#process = new Deno.Command(program, {
      args,
      env: options.env ?? {},
      clearEnv: options.clearEnv ?? false,
      // Closing it tells a program that reads it (`cat`) to end, and so does
      // the death of this process.
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#readers = Promise.all([
      this.#collect(this.#process.stdout),
      this.#collect(this.#process.stderr),
    ]).finally(() => {
      this.#ended = true;
      this.#notify();
    });
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Everything it has written so far, standard output and error as they came. */
  get output(): string {
    return this.#pieces.join("");
  }

  get status(): Promise<Deno.CommandStatus> {
    return this.#process.status;
  }

  /** Resolves when it has ended and `output` is all that it ever wrote. */
  get ended(): Promise<unknown> {
    return this.#readers;
  }

  /**
   * Waits until its output, from the beginning, holds this text.
   *
   * @throws with the output, if it ends before or takes too long
   */
  async waitFor(
    text: string | RegExp,
    timeoutMs = READY_TIMEOUT_MS,
  ): Promise<RegExpMatchArray> {
    const deadline = AbortSignal.timeout(timeoutMs);
    const pattern = typeof text === "string"
      ? text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")
      : text;
    // Text is looked for in what is new: one that writes 10,000 lines would
    // make us search a megabyte as often, on a CPU that it could have had.
    let seen = 0;
    let unseen = "";
    for (;;) {
      unseen += this.#pieces.slice(seen).join("");
      seen = this.#pieces.length;
      const mayMatch = typeof text !== "string" || unseen.includes(text);
      const match = mayMatch ? this.output.match(pattern) : null;
      if (match !== null) return match;
      unseen = unseen.slice(-text.toString().length);
      if (this.#ended || deadline.aborted) {
        throw new Error(
          `Cannot find ${text} in the output of "${
            this.#command.join(" ")
          }", ` +
            `which ${this.#ended ? "has ended" : "goes on"}:\n${this.output}`,
        );
      }
      await this.#change(deadline);
    }
  }

  /** Writes to its standard input. */
  async write(text: string): Promise<void> {
    const writer = this.#process.stdin.getWriter();
    try {
      await writer.write(new TextEncoder().encode(text));
    } finally {
      writer.releaseLock();
    }
  }

  /** Sends the signal; a process that has ended is left alone. */
  kill(signal: Deno.Signal = "SIGTERM"): void {
    try {
      this.#process.kill(signal);
    } catch (error) {
      if (error instanceof TypeError) return;
      if (error instanceof Deno.errors.NotFound) return;
      throw error;
    }
  }

  /** Ends it, by force if it does not heed SIGTERM, and waits until it is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stdin.close().catch(() => {});
    this.kill();
    const force = setTimeout(() => this.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await this.#process.status;
    clearTimeout(force);
    await this.#readers;
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      this.#pieces.push(decoder.decode(chunk, { stream: true }));
      this.#notify();
    }
  }

  #notify(): void {
    for (const wake of this.#waiting) wake();
  }

  #change(deadline: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        deadline.removeEventListener("abort", wake);
        resolve();
      };
      this.#waiting.add(wake);
      deadline.addEventListener("abort", wake);
    });
  }
}

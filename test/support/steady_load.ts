/**
 * Clients that go on while something happens to what they talk to, each a
 * `steady_client.ts` in a process and a namespace of its own.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Child } from "./child.ts";
import type { Namespace } from "./netns.ts";

/** Clients of everything that is to go on, and none of which may fail. */
export class SteadyLoad implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #children: Child[] = [];

  /** @param args of `steady_client.ts`; one answer is waited for */
  async begin(
    from: Namespace,
    ...args: readonly (string | number)[]
  ): Promise<void> {
    const script = "test/support/steady_client.ts";
    const child = this.#stack.use(from.startDeno(script, args.map(String)));
    this.#children.push(child);
    await child.waitFor(/^heard /m);
  }

  /** @returns how many were answered */
  async end(): Promise<number> {
    let total = 0;
    for (const child of this.#children) {
      child.kill("SIGTERM");
      await child.status;
      await child.ended;
      const [, answered = "", failed] =
        /^(\d+) answered, (\d+) failed$/m.exec(child.output) ?? [];
      assert.equal(failed, "0", child.output);
      total += Number(answered);
    }
    return total;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

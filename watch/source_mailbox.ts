/**
 * A stream of source events that one side puts in and the other takes out when
 * it can. Complete lists replace each other while nobody takes them: a consumer
 * that is late gets the last one and not all of them.
 *
 * @module
 */
import type { ClusterObject, SourceEvent } from "./types.ts";

export class SourceMailbox<T extends ClusterObject>
  implements AsyncIterable<SourceEvent<T>> {
  #events: SourceEvent<T>[] = [];
  #end: { readonly error?: unknown } | undefined;
  #arrived = Promise.withResolvers<void>();

  /** Only `replaced` and `state` events: each kind makes its elders superfluous. */
  put(event: Extract<SourceEvent<T>, { type: "replaced" | "state" }>): void {
    this.#events = this.#events.filter(({ type }) => type !== event.type);
    this.#events.push(event);
    this.#arrived.resolve();
  }

  /** The stream ends when what is in it was taken. */
  end(): void {
    this.#end = {};
    this.#arrived.resolve();
  }

  /** As `end()`, and the consumer gets the error. */
  fail(error: unknown): void {
    this.#end = { error };
    this.#arrived.resolve();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SourceEvent<T>, void> {
    while (true) {
      const event = this.#events.shift();
      if (event !== undefined) {
        yield event;
      } else if (this.#end !== undefined) {
        if ("error" in this.#end) throw this.#end.error;
        return;
      } else {
        this.#arrived = Promise.withResolvers<void>();
        await this.#arrived.promise;
      }
    }
  }
}

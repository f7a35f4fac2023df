/**
 * The end of the watch stage: consumes one source, keeps its objects, and tells
 * one consumer what changed. What it promises is client-go's `SharedInformer`
 * contract (tools/cache/shared_informer.go), as far as it applies:
 *
 * 1. An object is known by namespace/name. Deleted and made again between two
 *    looks, it is one change from the old to the new one (their uids differ).
 * 2. `hasSynced` becomes true with the first complete list and stays true; that
 *    list is one batch, and the only one that may be empty.
 * 3. A later list is one batch too: only what differs, with what is missing as
 *    deleted. The store never holds half a list.
 * 4. The changes of one object come in its order, each `before` being the last
 *    `after`. Across objects there is no order; some states are never seen.
 * 5. The same state delivered again (uid and resourceVersion) is no change.
 * 6. When changes are told, the store already holds them.
 * 7. While the source waits or fails, nothing changes. A listed object that
 *    cannot be read keeps its last readable state.
 *
 * @module
 */
import { applyEvent } from "./store.ts";
import type {
  Change,
  ClusterObject,
  ObjectKey,
  SourceEvent,
  SourceState,
} from "./types.ts";

export class Informer<T extends ClusterObject> {
  readonly #events: AsyncIterable<SourceEvent<T>>;
  readonly #store = new Map<ObjectKey, T>();
  #hasSynced = false;
  #state: SourceState = { phase: "waiting", reason: "Not started yet" };

  /** @param events is consumed by `run()`, and by nobody else */
  constructor(events: AsyncIterable<SourceEvent<T>>) {
    this.#events = events;
  }

  /** The objects as last told. It is the live map: look, but do not keep. */
  get store(): ReadonlyMap<ObjectKey, T> {
    return this.#store;
  }

  /** The first complete list is in the store. */
  get hasSynced(): boolean {
    return this.#hasSynced;
  }

  /** What the source is doing; for people. */
  get state(): SourceState {
    return this.#state;
  }

  /**
   * Follows the source until it ends (its signal was aborted), calling
   * `onChanges` with each batch, one after the other.
   *
   * @throws what `onChanges` throws, which ends it
   */
  async run(onChanges: (changes: readonly Change<T>[]) => void): Promise<void> {
    for await (const event of this.#events) {
      if (event.type === "state") {
        this.#state = event.state;
        continue;
      }
      const changes = applyEvent(this.#store, event);
      const first = !this.#hasSynced && event.type === "replaced";
      if (first) this.#hasSynced = true;
      if (first || changes.length > 0) onChanges(changes);
    }
  }
}

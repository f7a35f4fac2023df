/**
 * The objects, one sequence of resourceVersions over all of them, and the
 * latest changes, so that a watch can begin in the past and a paged list stays
 * the list it began as. It stands where etcd does: it takes any object, tells
 * who listens, and knows nothing of HTTP, selectors or validity.
 *
 * @module
 */
import { type KubeObject, storeKey } from "./resource.ts";

/** One change. Objects are never changed once they are in a change. */
export interface Change {
  readonly resource: string;
  readonly key: string;
  readonly revision: number;
  /** Before; `undefined`: the object was created. */
  readonly previous: KubeObject | undefined;
  /** After; `undefined`: the object was deleted. */
  readonly next: KubeObject | undefined;
  /** What a watch shows: `next`, or the last state with the new version. */
  readonly shown: KubeObject;
}

export interface StoreOptions {
  /** Changes kept; older ones are compacted. */
  historyLimit: number;
  /** Before the first change; changes up to it count as compacted. */
  readonly firstRevision?: number | undefined;
}

const FIRST_REVISION = 1;

export class Store {
  #objects = new Map<string, Map<string, KubeObject>>();
  #sorted = new Map<string, KubeObject[]>();
  #history: Change[] = [];
  #revision = FIRST_REVISION;
  /** Changes up to this revision are forgotten. */
  #floor = FIRST_REVISION;
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #historyLimit: number;

  constructor(options: StoreOptions) {
    this.#historyLimit = options.historyLimit;
    if (options.firstRevision === undefined) return;
    this.#revision = this.#floor = options.firstRevision;
  }

  /** The latest resourceVersion given out. */
  get revision(): number {
    return this.#revision;
  }

  get(resource: string, key: string): KubeObject | undefined {
    return this.#objects.get(resource)?.get(key);
  }

  count(resource: string): number {
    return this.#objects.get(resource)?.size ?? 0;
  }

  /** The object that was created first, of those still there. */
  oldest(resource: string): KubeObject | undefined {
    return this.#objects.get(resource)?.values().next().value;
  }

  /** All objects of a resource, by namespace and name. Not to be changed. */
  list(resource: string): readonly KubeObject[] {
    let sorted = this.#sorted.get(resource);
    if (sorted === undefined) {
      sorted = sortedValues(this.#objects.get(resource) ?? new Map());
      this.#sorted.set(resource, sorted);
    }
    return sorted;
  }

  /**
   * The list as it was right after `revision`.
   *
   * @returns `undefined`: that is compacted
   */
  listAt(
    resource: string,
    revision: number,
  ): readonly KubeObject[] | undefined {
    if (revision >= this.#revision) return this.list(resource);
    if (revision < this.#floor) return undefined;
    return sortedValues(this.#objectsAt(revision).get(resource) ?? new Map());
  }

  /**
   * Stores an object under its next resourceVersion.
   *
   * @param object belongs to the store from here on
   */
  put(resource: string, object: KubeObject): KubeObject {
    const key = storeKey(object.metadata);
    const objects = this.#resource(resource);
    const previous = objects.get(key);
    this.#revision++;
    object.metadata.resourceVersion = String(this.#revision);
    objects.set(key, object);
    this.#changed({ resource, key, previous, next: object, shown: object });
    return object;
  }

  /** @returns the last state, with the deletion's resourceVersion */
  delete(resource: string, key: string): KubeObject | undefined {
    const objects = this.#resource(resource);
    const previous = objects.get(key);
    if (previous === undefined) return undefined;
    this.#revision++;
    const shown = withRevision(previous, this.#revision);
    objects.delete(key);
    this.#changed({ resource, key, previous, next: undefined, shown });
    return shown;
  }

  /** @returns `undefined`: some of them are compacted */
  changesSince(revision: number): readonly Change[] | undefined {
    if (revision < this.#floor) return undefined;
    return this.#history.slice(this.#after(revision));
  }

  /** Calls back at every change, in its order, before the write returns. */
  listen(listener: (change: Change) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Forgets every change so far. */
  compact(): void {
    this.#history = [];
    this.#floor = this.#revision;
  }

  /**
   * Goes back to an earlier state, as a cluster restored from a backup does.
   * Listeners are not told.
   *
   * @throws {RangeError} that state is compacted, or in the future
   */
  rewind(revision: number): void {
    if (revision < this.#floor || revision > this.#revision) {
      throw new RangeError(
        `Cannot rewind to revision ${revision}: only ${this.#floor} to ${this.#revision} are known`,
      );
    }
    this.#objects = this.#objectsAt(revision);
    this.#sorted.clear();
    this.#history.length = this.#after(revision);
    this.#revision = revision;
  }

  #objectsAt(revision: number): Map<string, Map<string, KubeObject>> {
    const all = new Map<string, Map<string, KubeObject>>();
    for (const [resource, objects] of this.#objects) {
      all.set(resource, new Map(objects));
    }
    for (let index = this.#history.length - 1; index >= 0; index--) {
      const change = this.#history[index]!;
      if (change.revision <= revision) break;
      const objects = all.get(change.resource)!;
      if (change.previous === undefined) objects.delete(change.key);
      else objects.set(change.key, change.previous);
    }
    return all;
  }

  #resource(resource: string): Map<string, KubeObject> {
    let objects = this.#objects.get(resource);
    if (objects === undefined) {
      objects = new Map();
      this.#objects.set(resource, objects);
    }
    return objects;
  }

  #changed(change: Omit<Change, "revision">): void {
    const entry: Change = { ...change, revision: this.#revision };
    this.#sorted.delete(change.resource);
    this.#history.push(entry);
    // Cut seldom, so that a change costs the same however many are kept.
    if (this.#history.length >= 2 * this.#historyLimit) {
      const cut = this.#history.length - this.#historyLimit;
      this.#floor = this.#history[cut - 1]!.revision;
      this.#history = this.#history.slice(cut);
    }
    for (const listener of [...this.#listeners]) listener(entry);
  }

  /** Index of the first change after `revision`. */
  #after(revision: number): number {
    let low = 0;
    let high = this.#history.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#history[middle]!.revision > revision) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** The same object under another resourceVersion. */
export function withRevision(
  object: KubeObject,
  revision: number,
): KubeObject {
  return {
    ...object,
    metadata: { ...object.metadata, resourceVersion: String(revision) },
  };
}

/** By bytes, as etcd's keys are: `default/web`. */
function sortedValues(objects: Map<string, KubeObject>): KubeObject[] {
  return [...objects].sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)
    .map(([, object]) => object);
}

/**
 * Key → object, and what an event of a source changes in it. Plain functions on
 * a map; who is told about the changes is informer.ts.
 *
 * @module
 */
import {
  type Change,
  type ClusterObject,
  type ObjectKey,
  objectKey,
  type SourceEvent,
} from "./types.ts";

/**
 * Brings `store` up to an event and says what became different. An object in
 * the same state as before (same uid and resourceVersion) is no change, and the
 * store goes on holding the one it had.
 */
export function applyEvent<T extends ClusterObject>(
  store: Map<ObjectKey, T>,
  event: SourceEvent<T>,
): readonly Change<T>[] {
  switch (event.type) {
    case "replaced":
      return replaceAll(store, event);
    case "applied": {
      const change = put(store, event.object);
      return change === undefined ? [] : [change];
    }
    case "deleted": {
      const before = store.get(event.key);
      if (before === undefined) return [];
      store.delete(event.key);
      return [{ key: event.key, before }];
    }
    case "state":
      return [];
  }
}

function replaceAll<T extends ClusterObject>(
  store: Map<ObjectKey, T>,
  event: Extract<SourceEvent<T>, { type: "replaced" }>,
): readonly Change<T>[] {
  const changes: Change<T>[] = [];
  const listed = new Set(
    event.objects.map(({ metadata }) => objectKey(metadata)),
  );
  for (const [key, before] of store) {
    if (listed.has(key) || event.unreadable.has(key)) continue;
    store.delete(key);
    changes.push({ key, before });
  }
  for (const object of event.objects) {
    const change = put(store, object);
    if (change !== undefined) changes.push(change);
  }
  return changes;
}

function put<T extends ClusterObject>(
  store: Map<ObjectKey, T>,
  after: T,
): Change<T> | undefined {
  const key = objectKey(after.metadata);
  const before = store.get(key);
  if (before === undefined) {
    store.set(key, after);
    return { key, after };
  }
  if (before === after || isSameState(before, after)) return undefined;
  store.set(key, after);
  return { key, before, after };
}

function isSameState(a: ClusterObject, b: ClusterObject): boolean {
  return a.metadata.resourceVersion !== "" &&
    a.metadata.resourceVersion === b.metadata.resourceVersion &&
    a.metadata.uid === b.metadata.uid;
}

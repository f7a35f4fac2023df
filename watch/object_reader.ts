/**
 * Raw items of one resource → objects, one at a time, so that one unreadable
 * object costs one line in the log and not the stream. Remembers what it
 * complained about, since lists bring the same item again and again.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { DecodeError, decodeKey, decodeVersion } from "./decode.ts";
import { isFields } from "./field_reader.ts";
import type { Resource } from "./resource.ts";
import { type ClusterObject, type ObjectKey, objectKey } from "./types.ts";

/** What became of one raw item. */
export type ReadObject<T extends ClusterObject> =
  | { readonly outcome: "object"; readonly key: ObjectKey; readonly object: T }
  /** It is readable, but not one that was asked for. */
  | { readonly outcome: "unselected"; readonly key: ObjectKey }
  /** It was named in the log. */
  | { readonly outcome: "unreadable"; readonly key: ObjectKey | undefined };

const logger = getLogger("watch");

export class ObjectReader<T extends ClusterObject> {
  readonly #resource: Resource<T>;
  /** Key → resourceVersion of the state that was complained about. */
  readonly #complaints = new Map<ObjectKey, string>();

  constructor(resource: Resource<T>) {
    this.#resource = resource;
  }

  /**
   * Reads one item of a list or object of an event. Never throws for what the
   * item is.
   *
   * @param known an object to give back unread if the item is the same state
   *   of it
   */
  read(raw: unknown, known?: T): ReadObject<T> {
    if (known !== undefined && isSameState(raw, known)) {
      return {
        outcome: "object",
        key: objectKey(known.metadata),
        object: known,
      };
    }
    try {
      const object = this.#resource.decode(raw);
      const key = objectKey(object.metadata);
      this.#complaints.delete(key);
      return this.#resource.selects(object)
        ? { outcome: "object", key, object }
        : { outcome: "unselected", key };
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.#complain(error, decodeVersion(raw));
      return { outcome: "unreadable", key: error.key };
    }
  }

  /** Lets go of complaints about objects that are no more. */
  forget(key: ObjectKey): void {
    this.#complaints.delete(key);
  }

  #complain(error: DecodeError, version: string): void {
    const key = error.key ?? "";
    if (this.#complaints.get(key) === version) return;
    this.#complaints.set(key, version);
    logger.warn("Skipping an object that cannot be read", {
      resource: this.#resource.name,
      cause: error,
    });
  }
}

function isSameState(raw: unknown, known: ClusterObject): boolean {
  if (!isFields(raw) || !isFields(raw.metadata)) return false;
  const { uid, resourceVersion } = raw.metadata;
  return resourceVersion !== "" &&
    resourceVersion === known.metadata.resourceVersion &&
    uid === known.metadata.uid && decodeKey(raw) === objectKey(known.metadata);
}

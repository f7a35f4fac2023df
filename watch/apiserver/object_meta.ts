/**
 * The server's share of an object's metadata: names it makes up, times, and
 * what a client has no say in.
 *
 * @module
 */
import { isEqual } from "./patch.ts";
import { type KubeMetadata, type KubeObject } from "./resource.ts";

/** Metadata without what only the server says. */
export function withoutServerFields(metadata: KubeMetadata) {
  const {
    uid: _uid,
    resourceVersion: _version,
    generation: _generation,
    creationTimestamp: _created,
    deletionTimestamp: _deleted,
    deletionGracePeriodSeconds: _grace,
    selfLink: _link,
    managedFields: _managed,
    ...rest
  } = metadata;
  return rest as KubeMetadata;
}

/** Is everything but metadata the same? */
export function sameContent(a: KubeObject, b: KubeObject): boolean {
  return isEqual({ ...a, metadata: {} }, { ...b, metadata: {} });
}

/** RFC 3339 to the second, as Kubernetes writes it. */
export function timestamp(nowMs: number): string {
  return new Date(nowMs).toISOString().replace(/\.\d+Z$/, "Z");
}

/** Without vowels and look-alikes, as the real server's: no words come out. */
const ALPHABET = "bcdfghjklmnpqrstvwxz2456789";

/** What is put behind a generateName. */
export function randomSuffix(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(5));
  return [...bytes].map((byte) => ALPHABET[byte % ALPHABET.length]).join("");
}

const OWNED = [
  "generateName",
  "uid",
  "generation",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
];

/** What was given, with what it has no say in from the stored one. */
export function successor(
  previous: KubeObject,
  given: KubeObject,
  options: { hasStatus: boolean; subresource?: "status" | undefined },
): KubeObject {
  const before = structuredClone(previous);
  if (options.subresource === "status") {
    return { ...before, status: given.status ?? {} };
  }
  const metadata = withoutServerFields(given.metadata);
  for (const name of OWNED) {
    if (before.metadata[name] !== undefined) {
      metadata[name] = before.metadata[name];
    }
  }
  const object: KubeObject = { ...given, metadata };
  if (options.hasStatus) object.status = before.status;
  return object;
}

/**
 * The server's share of an object's metadata: names it makes up, times, and
 * what a client has no say in.
 *
 * @module
 */
import { isEqual } from "./patch.ts";
import {
  type KubeMetadata,
  type KubeObject,
  type ResourceDefinition,
  text,
} from "./resource.ts";
import { badRequest, conflict } from "./status.ts";

export interface DeleteOptions {
  dryRun?: boolean;
  preconditions?: { uid?: string; resourceVersion?: string };
}

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

/**
 * The object's namespace is the request's.
 *
 * @throws {StatusError} 400, it says another
 */
export function placeIn(
  definition: ResourceDefinition,
  object: KubeObject,
  namespace: string,
): void {
  const { metadata } = object;
  if (!definition.namespaced) {
    delete metadata.namespace;
    return;
  }
  const own = text(metadata.namespace);
  if (own !== "" && namespace !== "" && own !== namespace) {
    throw badRequest(
      "the namespace of the provided object does not match the namespace sent on the request",
    );
  }
  metadata.namespace = own || namespace || "default";
}

/** @throws {StatusError} 409, it is not the object that was meant */
export function checkPreconditions(
  definition: ResourceDefinition,
  { metadata }: KubeObject,
  { preconditions = {} }: DeleteOptions,
): void {
  const wanted = [
    ["UID", preconditions.uid, metadata.uid],
    [
      "ResourceVersion",
      preconditions.resourceVersion,
      metadata.resourceVersion,
    ],
  ] as const;
  for (const [what, given, own] of wanted) {
    if (given === undefined || given === own) continue;
    throw conflict(
      definition,
      metadata.name,
      `the ${what} in the precondition (${given}) does not match the ${what} in record (${own}). The object might have been deleted and then recreated`,
    );
  }
}

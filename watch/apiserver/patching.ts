/**
 * The kinds of PATCH, brought together: which one a request's Content-Type
 * names is the caller's to know.
 *
 * @module
 */
import { jsonPatch, mergePatch } from "./patch.ts";
import type { KubeObject, ResourceDefinition } from "./resource.ts";
import { isRecord } from "./schema.ts";
import { badRequest } from "./status.ts";
import { strategicMerge } from "./strategic_merge.ts";

export type PatchType = "json" | "merge" | "strategic" | "apply";

/**
 * The object as the patch wants it: of any shape, not yet checked.
 *
 * @param target is used up
 * @throws {StatusError} 400, 413 or 422
 */
export function patchedObject(
  definition: ResourceDefinition,
  target: KubeObject,
  patch: unknown,
  type: Exclude<PatchType, "apply">,
): unknown {
  if (type === "json") return jsonPatch(target, patch);
  if (!isRecord(patch)) {
    throw badRequest("error decoding patch: it has to be an object");
  }
  return type === "merge"
    ? mergePatch(target, patch)
    : strategicMerge(target, patch, definition.schema);
}

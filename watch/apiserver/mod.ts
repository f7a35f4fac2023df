/**
 * The embedded development API server, and the reading of manifests into it.
 * The only file of this folder that others import.
 *
 * @module
 */
export {
  type ApiServer,
  type ApiServerOptions,
  createApiServer,
  type Listening,
  type ListenOptions,
} from "./server.ts";
export {
  Faults,
  type FaultyAnswer,
  type LoggedRequest,
  type WatchMode,
} from "./faults.ts";
export type { ObjectName, WriteOptions } from "./registry.ts";
export type { DeleteOptions } from "./object_meta.ts";
export type { PatchType } from "./patching.ts";
export type { KubeObject } from "./resource.ts";
export { StatusError } from "./status.ts";
export {
  type LoadedManifests,
  loadManifests,
  type ManifestProblem,
} from "./manifests.ts";

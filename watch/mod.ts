/**
 * First stage of the flow: what the cluster says. The only file of watch/ that
 * the rest of the program imports.
 *
 * @module
 */
export * from "./types.ts";
export { type Clock, systemClock } from "./clock.ts";
export { type ApiClient, ApiError, type ApiRequest, isGone } from "./api.ts";
export { type ApiConfig, ConfigError } from "./api_config.ts";
export { loadApiConfig, type LoadApiConfigOptions } from "./load_api_config.ts";
export {
  type ApiClientOptions,
  createApiClient,
  defaultUserAgent,
} from "./client.ts";
export {
  type Environment,
  explainUnreachable,
  isInCidr,
} from "./in_cluster.ts";
export {
  type ClusterEvent,
  EventRecorder,
  type EventRecorderOptions,
  type EventSubject,
} from "./events.ts";
export { fileReason } from "./file_reason.ts";
export { fileChanges, type FileChangesOptions } from "./file_changes.ts";
export { isUnreachable, UnreachableError } from "./unreachable.ts";
export { Informer } from "./informer.ts";
export { type Manifests, readManifests } from "./manifests.ts";
export {
  type ClusterSource,
  type ClusterSourceOptions,
  createClusterSource,
  createManifestSource,
  type FollowOptions,
  followResource,
  listResource,
  type ManifestSourceOptions,
  type WatchMode,
} from "./sources.ts";
export {
  ENDPOINT_SLICES,
  nodeNamed,
  type Resource,
  SERVICES,
} from "./resource.ts";
export {
  decodeEndpointSlice,
  DecodeError,
  decodeNode,
  decodeService,
  decodeStatus,
} from "./decode.ts";

/**
 * First stage of the flow: what the cluster says. The only file of watch/ that
 * the rest of the program imports.
 *
 * @module
 */
export * from "./types.ts";
export { type Clock, systemClock } from "./clock.ts";
export { type ApiClient, ApiError, type ApiRequest, isGone } from "./api.ts";

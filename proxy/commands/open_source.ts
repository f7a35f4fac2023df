/**
 * Where a run's objects come from: an API server, by the flags and files that
 * say which, or a folder of manifests.
 *
 * @module
 */
import { getLogger } from "@std/log";
import {
  type ApiClient,
  type ApiConfig,
  type ClusterSource,
  createApiClient,
  createClusterSource,
  createManifestSource,
  explainUnreachable,
  loadApiConfig,
  type WatchMode,
} from "../../watch/mod.ts";
import { canonicalIp } from "../ip.ts";
import type { ProxyCounters } from "../status/proxy_counters.ts";
import { UserError } from "./errors.ts";
import type { RUN_FLAGS } from "./flag_tables.ts";
import type { FlagValues } from "./flags.ts";
import { checkFolder } from "./folders.ts";
import { measuredClient } from "./measured_client.ts";

const logger = getLogger("main");

type SourceFlags = FlagValues<typeof RUN_FLAGS>;

/** @throws {UserError | ConfigError} for what the user can mend */
export async function openSource(
  flags: SourceFlags,
  { kubeconfig, nodeName, cidrs, pollIntervalMs, counters }: {
    kubeconfig: string;
    nodeName: string;
    counters: ProxyCounters;
    cidrs: readonly string[];
    pollIntervalMs: number;
  },
): Promise<
  { source: (signal: AbortSignal) => ClusterSource; client?: ApiClient }
> {
  const { manifests, context, master } = flags;
  if (manifests !== undefined) {
    // A file is for other runs too; what stands beside --manifests is not.
    if (flags.kubeconfig !== undefined || master !== undefined) {
      throw new UserError(
        "Cannot use --manifests together with --kubeconfig or --master: choose one source",
      );
    }
    await checkFolder(manifests, "manifests");
    return {
      source: (signal) => createManifestSource(manifests, { nodeName, signal }),
    };
  }
  const config = await loadApiConfig({
    kubeconfig,
    kubeconfigBy: flags.config ? "clientConnection.kubeconfig" : "--kubeconfig",
    context,
    master,
    env: Deno.env,
  });
  const client = measuredClient(createApiClient(config), counters);
  warnIfOwnTask(client, { config, cidrs });
  const mode = flags.watch as WatchMode;
  return {
    source: (signal) =>
      createClusterSource(client, { mode, pollIntervalMs, nodeName, signal }),
    client,
  };
}

/**
 * Says so, once, where the API server's address is a ClusterIP that nobody
 * serves yet: then waiting would never end.
 */
async function warnIfOwnTask(
  client: ApiClient,
  { config, cidrs }: { config: ApiConfig; cidrs: readonly string[] },
): Promise<void> {
  if (config.serviceHost === undefined) return;
  try {
    const response = await client.request("/version");
    await response.body?.cancel();
  } catch (error) {
    const why = explainUnreachable(config, cidrs, error);
    if (why !== undefined) logger.error(why);
  }
}

/** Where the API server is, if that is an address. */
export function addressOf(client: ApiClient | undefined): Set<string> {
  const host = client &&
    new URL(client.server).hostname.replace(/^\[|\]$/g, "");
  const ip = host && canonicalIp(host);
  return new Set(ip ? [ip] : []);
}

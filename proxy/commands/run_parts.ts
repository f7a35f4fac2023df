/**
 * What the files of `run` share while it runs. Types alone.
 *
 * @module
 */
import type { ApiClient } from "../../watch/mod.ts";
import type { KubeProxyConfiguration } from "../config/mod.ts";
import type { ListeningSockets } from "../engine/listening_sockets.ts";
import type { NetworkNamespaces } from "../engine/network_namespaces.ts";
import type { PortSharing } from "../port_sharing.ts";
import type { ProxyCounters } from "../status/proxy_counters.ts";
import type { HandOver } from "./hand_over.ts";
import type { readRunFlags, RunFlags } from "./run_flags.ts";
import type { RunningProxy } from "./running_proxy.ts";

/** What a run is made of. */
export interface RunParts {
  readonly flags: RunFlags;
  /** Flags and configuration as values. */
  readonly read: ReturnType<typeof readRunFlags>;
  readonly nodeName: string;
  /** Missing where manifests take the place of an API server. */
  readonly client: ApiClient | undefined;
  readonly counters: ProxyCounters;
  readonly namespaces: NetworkNamespaces;
  /** Missing where there is no FFI. */
  readonly sockets: ListeningSockets | undefined;
  readonly handOver: HandOver;
  readonly portSharing: PortSharing;
  /** Aborted when there is a reason to stop. */
  readonly stopping: AbortController;
  /** As its file is now. */
  config: KubeProxyConfiguration;
  /** Only to be asked for once it is started. */
  proxy(): RunningProxy;
}

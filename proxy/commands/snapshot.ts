/**
 * The cluster as it is now, read once: for commands that show what would be
 * done with it and do nothing. From a folder of manifests, or from the API
 * server. Out: what `buildDesiredState` and `modeInput` take.
 *
 * @module
 */
import {
  createApiClient,
  ENDPOINT_SLICES,
  type EndpointSlice,
  listResource,
  loadApiConfig,
  type Node,
  nodeNamed,
  readManifests,
  type Service,
  SERVICES,
} from "../../watch/mod.ts";
import { buildDesiredState, type DesiredState } from "../desired_state.ts";
import type { KubeProxyConfiguration } from "../config/mod.ts";
import { nodeNameOf } from "./config_meaning.ts";
import { errorLine, UserError } from "./errors.ts";
import { checkFolder } from "./folders.ts";
import { cidrList } from "./flags.ts";
import { serviceCidrsOf } from "./service_cidrs.ts";

export interface Snapshot {
  readonly state: DesiredState;
  /** What its endpoints are made from. */
  readonly slices: readonly EndpointSlice[];
  readonly nodeName: string;
  /** The own Node; `undefined` where the cluster has none of this name. */
  readonly node: Node | undefined;
  /** Canonical; empty where nobody tells. */
  readonly serviceCidrs: readonly string[];
}

export interface SnapshotFlags {
  readonly manifests?: string | undefined;
  readonly config?: string | undefined;
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
  readonly master?: string | undefined;
  readonly "service-cidr"?: string | undefined;
}

const TIMEOUT_MS = 30_000;

/**
 * @throws {UserError | ConfigError} for what the user can mend, a server that
 *   does not answer included
 */
export async function readSnapshot(
  flags: SnapshotFlags,
  config: KubeProxyConfiguration,
): Promise<Snapshot> {
  const serviceCidrs = cidrList(flags["service-cidr"] ?? "", "service-cidr");
  if (flags.manifests !== undefined) {
    if (flags.kubeconfig !== undefined || flags.master !== undefined) {
      throw new UserError(
        "Cannot use --manifests together with --kubeconfig or --master: choose one source",
      );
    }
    const read = await fromManifests(flags.manifests, config);
    return { ...read, serviceCidrs };
  }
  const read = await fromApiServer(flags, config);
  return serviceCidrs.length > 0 ? { ...read, serviceCidrs } : read;
}

async function fromManifests(
  folder: string,
  config: KubeProxyConfiguration,
): Promise<Omit<Snapshot, "serviceCidrs">> {
  await checkFolder(folder, "manifests");
  const { services, endpointSlices, nodes } = await readManifests(folder);
  const all = [...nodes.objects.values()];
  const nodeName = ownNodeName(all, config);
  return snapshotOf({
    services: services.objects.values(),
    slices: endpointSlices.objects.values(),
    node: all.find(({ metadata }) => metadata.name === nodeName),
    nodeName,
  });
}

/**
 * Manifests are mostly of another machine than the one they are looked at on:
 * unless told, the host's name counts only if it is one of theirs.
 */
function ownNodeName(
  nodes: readonly Node[],
  config: KubeProxyConfiguration,
): string {
  const name = nodeNameOf(config);
  const isKnown = nodes.some(({ metadata }) => metadata.name === name);
  if (config.hostnameOverride !== "" || isKnown) return name;
  return nodes[0]?.metadata.name ?? name;
}

async function fromApiServer(
  { kubeconfig, config: path, context, master }: SnapshotFlags,
  config: KubeProxyConfiguration,
): Promise<Snapshot> {
  const nodeName = nodeNameOf(config);
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  using client = createApiClient(
    await loadApiConfig({
      kubeconfig: kubeconfig ?? config.clientConnection.kubeconfig,
      kubeconfigBy: path ? "clientConnection.kubeconfig" : "--kubeconfig",
      context,
      master,
      env: Deno.env,
    }),
  );
  try {
    const [services, slices, nodes, serviceCidrs] = await Promise.all([
      listResource(client, SERVICES, signal),
      listResource(client, ENDPOINT_SLICES, signal),
      listResource(client, nodeNamed(nodeName), signal),
      serviceCidrsOf(client, signal),
    ]);
    const [node] = nodes;
    const read = snapshotOf({ services, slices, node, nodeName });
    return { ...read, serviceCidrs };
  } catch (error) {
    throw new UserError(`Cannot read the cluster: ${errorLine(error)}`, {
      cause: error,
    });
  }
}

function snapshotOf({ services, slices, node, nodeName }: {
  services: Iterable<Service>;
  slices: Iterable<EndpointSlice>;
  node: Node | undefined;
  nodeName: string;
}): Omit<Snapshot, "serviceCidrs"> {
  const all = [...slices];
  const zone = node?.metadata.labels["topology.kubernetes.io/zone"] ?? "";
  const state = buildDesiredState(services, {
    slices: all,
    node: { name: nodeName, zone },
  });
  return { state, slices: all, nodeName, node };
}

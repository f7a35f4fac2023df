/**
 * `kube-portal daemonset`: prints what installs the proxy on every node, for
 * `kubectl apply -f -`. The one thing that it has to find out is an address of
 * the API server that needs no proxy to be reached.
 *
 * @module
 */
import { stringify } from "@std/yaml";
import {
  type ApiClient,
  ConfigError,
  createApiClient,
  loadApiConfig,
} from "../../watch/mod.ts";
import { canonicalIp, cidrContains, isLoopback } from "../ip.ts";
import {
  configFiles,
  daemonSetObjects,
  type DaemonSetOptions,
  type KubeManifest,
  type SteerRequest,
} from "./daemonset_objects.ts";
import { UserError } from "./errors.ts";
import { DAEMONSET_FLAGS } from "./flag_tables.ts";
import { type FlagValues, parseFlags } from "./flags.ts";
import { serviceCidrsOf } from "./service_cidrs.ts";
import { print } from "./terminal.ts";
import { setupLogging } from "./verbosity.ts";
import { VERSION } from "./version.ts";

/** For the questions about ClusterIPs; what does not answer is not asked again. */
const TIMEOUT_MS = 5_000;

/** How to find the address, wherever the cluster comes from. */
const HOW_TO_FIND =
  "give --server https://HOST:PORT, an address that every node reaches: " +
  "kubectl get endpointslices -n default -l kubernetes.io/service-name=kubernetes " +
  "names the API servers' own";

export async function daemonsetCommand(
  args: readonly string[],
): Promise<number> {
  const flags = parseFlags(args, DAEMONSET_FLAGS);
  await setupLogging({ v: "0", "logging-format": "text" }, { quiet: true });
  const options = {
    server: flags.server === undefined
      ? await currentServer(flags)
      : givenServer(flags.server),
    image: flags.image ?? `kube-portal:${VERSION}`,
    namespace: flags.namespace,
    steer: flags.steer as SteerRequest,
  };
  print(daemonSetYaml(options));
  return 0;
}

/** All of it, as one YAML text of several documents. */
function daemonSetYaml(options: DaemonSetOptions): string {
  const files = Object.fromEntries(
    Object.entries(configFiles(options)).map((
      [name, object],
    ) => [name, stringify(object)]),
  );
  return daemonSetObjects(options)
    .map((object): KubeManifest =>
      object.kind === "ConfigMap" ? { ...object, data: files } : object
    )
    .map((object) => stringify(object)).join("---\n");
}

/** @throws {UserError} over plain http nobody would be told a token */
function givenServer(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (
    url?.protocol !== "https:" || url.username !== "" || url.password !== "" ||
    url.search !== "" || url.hash !== ""
  ) {
    throw new UserError(
      "Invalid value for --server: want https://HOST:PORT",
    );
  }
  return url.origin + url.pathname.replace(/\/+$/, "");
}

/**
 * The kubeconfig's server, if nodes can use it.
 *
 * @throws {UserError | ConfigError}
 */
async function currentServer(
  { kubeconfig, context }: FlagValues<typeof DAEMONSET_FLAGS>,
): Promise<string> {
  let config;
  try {
    config = await loadApiConfig({ kubeconfig, context, env: Deno.env });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new UserError(`${error.message}; or ${HOW_TO_FIND}`);
  }
  const { server } = config;
  const refuse = (why: string) =>
    new UserError(
      `Cannot use the API server of ${config.source}, ${server}, on nodes: ${why}; ${HOW_TO_FIND}`,
    );
  const host = new URL(server).hostname.replace(/^\[|\]$/g, "");
  const ip = canonicalIp(host);
  if (host === "localhost" || (ip !== undefined && isLoopback(ip))) {
    throw refuse("it is a loopback address, which is another one there");
  }
  if (config.serviceHost !== undefined) {
    throw refuse("it is a ClusterIP, which this proxy is to provide");
  }
  if (!server.startsWith("https:")) throw refuse("it is not https");
  if (ip !== undefined) {
    using client = createApiClient(config);
    if (await isClusterIp(ip, client)) {
      throw refuse("it is a ClusterIP, which this proxy is to provide");
    }
  }
  return server;
}

/** As far as the API server tells; one that does not answer tells nothing. */
export async function isClusterIp(
  ip: string,
  client: ApiClient,
): Promise<boolean> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  try {
    const response = await client.request(
      "/api/v1/namespaces/default/services/kubernetes",
      { signal },
    );
    const { spec } = await response.json() as {
      spec?: { clusterIP?: string; clusterIPs?: string[] };
    };
    const own = [spec?.clusterIP ?? "", ...spec?.clusterIPs ?? []];
    if (own.some((text) => canonicalIp(text) === ip)) return true;
    const cidrs = await serviceCidrsOf(client, signal);
    return cidrs.some((cidr) => cidrContains(cidr, ip));
  } catch {
    return false;
  }
}

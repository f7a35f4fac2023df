/**
 * Inside a pod: the API server's address from the environment, and the service
 * account's files, to an `ApiConfig`. And the one line that explains why that
 * address may not answer: it is a ClusterIP, which needs a proxy like this one
 * to work.
 *
 * @module
 */
import { BlockList, isIP } from "node:net";
import { type ApiConfig, ConfigError, serverUrl } from "./api_config.ts";
import { isUnreachable } from "./unreachable.ts";

/** Where the kubelet mounts the token and the CA of a service account. */
export const SERVICE_ACCOUNT_DIR =
  "/var/run/secrets/kubernetes.io/serviceaccount";

/** The variables of the environment this module asks for; `Deno.env` is one. */
export interface Environment {
  get(name: string): string | undefined;
}

/**
 * The configuration for a pod, by its service account (as client-go's
 * `rest.InClusterConfig`).
 *
 * @param options.master instead of the address in the environment
 * @returns undefined outside a cluster: no KUBERNETES_SERVICE_HOST and
 *   KUBERNETES_SERVICE_PORT, or no token file
 * @throws {ConfigError} the environment holds no usable address
 */
export async function inClusterConfig(
  env: Environment,
  options: { master?: string | undefined; serviceAccountDir?: string } = {},
): Promise<ApiConfig | undefined> {
  const dir = options.serviceAccountDir ?? SERVICE_ACCOUNT_DIR;
  const host = env.get("KUBERNETES_SERVICE_HOST") ?? "";
  const port = env.get("KUBERNETES_SERVICE_PORT") ?? "";
  if (host === "" || port === "") return undefined;
  if (!await isFile(`${dir}/token`)) return undefined;
  const server = serverUrl(
    options.master ??
      `https://${isIP(host) === 6 ? `[${host}]` : host}:${port}`,
    {
      where: options.master === undefined
        ? "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT"
        : "--master",
      secure: true,
    },
  );
  // As for a kubeconfig: over plain http nobody is told the token.
  const secure = server.startsWith("https:");
  return {
    source: `service account in "${dir}"`,
    server,
    insecureSkipTlsVerify: false,
    ...(secure && { ca: { path: `${dir}/ca.crt` } }),
    credential: secure
      ? { type: "token-file", path: `${dir}/token` }
      : { type: "none" },
    ...(options.master === undefined && { serviceHost: host }),
  };
}

/**
 * Why the API server of a pod may not answer, in one line that names
 * `--master`.
 *
 * @param serviceCidrs the Service CIDRs as far as they are known; where none
 *   is, KUBERNETES_SERVICE_HOST is taken for a ClusterIP, as the kubelet sets it
 * @param error what `ApiClient.request()` threw
 * @returns undefined if that is not the reason: the server did answer, or its
 *   address is not a ClusterIP
 */
export function explainUnreachable(
  config: Pick<ApiConfig, "serviceHost">,
  serviceCidrs: readonly string[],
  error: unknown,
): string | undefined {
  const host = config.serviceHost;
  if (host === undefined || !isUnreachable(error) || error.answered) {
    return undefined;
  }
  const inside = serviceCidrs.find((cidr) => isInCidr(host, cidr));
  if (serviceCidrs.length > 0 && inside === undefined) return undefined;
  const where = inside === undefined ? "" : ` in the Service CIDR ${inside}`;
  return `KUBERNETES_SERVICE_HOST "${host}" is a ClusterIP${where} and does ` +
    `not answer: providing it may be this program's own task, so name an ` +
    `address of the API server itself with --master https://ADDRESS:6443`;
}

/**
 * Whether an IP address lies in a CIDR; false for a host name, for another
 * family and for what is no CIDR.
 */
export function isInCidr(address: string, cidr: string): boolean {
  const [net = "", prefix = ""] = cidr.split("/");
  const family = isIP(net);
  if (family === 0 || isIP(address) !== family || !/^\d+$/.test(prefix)) {
    return false;
  }
  if (Number(prefix) > (family === 4 ? 32 : 128)) return false;
  const type = family === 4 ? "ipv4" : "ipv6";
  const list = new BlockList();
  list.addSubnet(net, Number(prefix), type);
  return list.check(address, type);
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    if (error instanceof Deno.errors.NotADirectory) return false;
    throw new ConfigError(
      `Cannot read "${path}": ${
        error instanceof Error ? error.message : String(error)
      }`,
    );
  }
}

/**
 * Asks the API server which CIDRs Service addresses come from (ServiceCIDR,
 * networking.k8s.io/v1, stable since Kubernetes 1.33).
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { ApiClient } from "../../watch/mod.ts";
import { canonicalCidr } from "../ip.ts";

const logger = getLogger("main");

/** Older API servers do not know; then each Service address is routed alone. */
const TIMEOUT_MS = 5_000;

/**
 * @returns canonical CIDRs; empty where the API server does not tell
 */
export async function serviceCidrsOf(
  client: ApiClient,
  signal: AbortSignal,
): Promise<string[]> {
  try {
    const response = await client.request(
      "/apis/networking.k8s.io/v1/servicecidrs",
      { signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) },
    );
    return cidrsIn(await response.json());
  } catch (error) {
    signal.throwIfAborted();
    logger.info(
      "Cannot list ServiceCIDRs; steering each Service address by itself",
      { cause: error },
    );
    return [];
  }
}

function cidrsIn(list: unknown): string[] {
  const items = (list as { items?: unknown } | null)?.items;
  if (!Array.isArray(items)) return [];
  return items.flatMap((item: { spec?: { cidrs?: unknown } } | null) => {
    const cidrs = item?.spec?.cidrs;
    if (!Array.isArray(cidrs)) return [];
    return cidrs.map((text) => canonicalCidr(String(text)))
      .filter((cidr) => cidr !== undefined);
  });
}

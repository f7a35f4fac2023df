/**
 * Who may read the pages. A page of somebody else's, open in the browser of a
 * developer, can send requests to this machine and, by DNS rebinding, read the
 * answers; so a request has to call us by an address or by `localhost`, which
 * no foreign name can, and an Origin has to be our own.
 *
 * @module
 */
import { isIP } from "node:net";

/**
 * Why a request is not answered, in one sentence; `undefined` if it is.
 *
 * Reading is all that can be done here: whoever reaches the port by an address
 * may, as with kube-proxy's metrics.
 */
export function refusal(headers: Headers): string | undefined {
  const host = headers.get("Host") ?? "";
  if (!isAddressOrLocalhost(host)) {
    return `Host "${host}" is not this server: use its address, or localhost`;
  }
  const origin = headers.get("Origin");
  if (origin !== null && origin !== `http://${host}`) {
    return `Origin "${origin}" is a foreign page`;
  }
  return undefined;
}

function isAddressOrLocalhost(host: string): boolean {
  const name = /^(\[[^\]]*\]|[^:]*)(?::\d+)?$/.exec(host)?.[1] ?? "";
  return name.toLowerCase() === "localhost" ||
    isIP(name.replace(/^\[|\]$/g, "")) !== 0;
}

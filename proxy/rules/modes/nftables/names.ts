/**
 * What chains and sets of the nftables mode are called: upstream's names, so
 * that what people know of kube-proxy can be found here, and the other way
 * round. Pure.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Endpoint } from "../../../endpoint.ts";
import type { ServicePort } from "../../../service_port.ts";

export const TABLE = "kube-proxy";

export const SERVICE_IPS = "service-ips";
export const SERVICE_NODEPORTS = "service-nodeports";
export const NO_ENDPOINT_SERVICES = "no-endpoint-services";
export const NO_ENDPOINT_NODEPORTS = "no-endpoint-nodeports";
export const FIREWALL_IPS = "firewall-ips";
export const CLUSTER_IPS = "cluster-ips";
export const NODEPORT_IPS = "nodeport-ips";
export const HAIRPINS = "hairpin-connections";
export const REJECT_CHAIN = "reject-chain";

/** The kernel takes 255 characters, and the longest prefix has 16. */
const LONGEST_BASE = 240;

type NamedPort = Pick<ServicePort, "namespace" | "name" | "port" | "protocol">;

/**
 * What the names of all chains of a ServicePort end in (fact 10.38):
 * `ULMVA6XW-ns1/svc1/tcp/p80`.
 */
export function portBase(port: NamedPort): string {
  return hashed(portPath(port));
}

/** The same for one of its endpoints: `25CLADEV-ns1/svc1/tcp/p80__10.0.0.1/80`. */
export function endpointBase(
  port: NamedPort,
  { ip, port: number }: Pick<Endpoint, "ip" | "port">,
): string {
  return hashed(`${portPath(port)}__${ip.replaceAll(":", ".")}/${number}`);
}

function portPath({ namespace, name, port, protocol }: NamedPort): string {
  return `${namespace}/${name}/${protocol.toLowerCase()}/${port}`;
}

/**
 * The hash keeps names apart that are cut, and those of objects that no API
 * server has checked: a character that nft does not take would keep everything
 * from being loaded.
 */
function hashed(path: string): string {
  const hash = base32(createHash("sha256").update(path).digest()).slice(0, 8);
  const name = `${hash}-${path.replaceAll(/[^\w./-]/g, "_")}`;
  return name.length > LONGEST_BASE
    ? `${name.slice(0, LONGEST_BASE - 3)}...`
    : name;
}

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

function base32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += BASE32[(value >> bits) & 31];
    }
  }
  return text;
}

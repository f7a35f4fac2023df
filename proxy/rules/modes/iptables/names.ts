/**
 * Names of chains. Those of Services are upstream's: a prefix and a hash of what
 * the chain is for, so that two proxies on one machine agree (facts 10.11,
 * 10.12). Pure.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { ServicePortName } from "../../../service_port.ts";

export const KUBE_SERVICES = "KUBE-SERVICES";
export const KUBE_EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES";
export const KUBE_NODEPORTS = "KUBE-NODEPORTS";
export const KUBE_POSTROUTING = "KUBE-POSTROUTING";
export const KUBE_MARK_MASQ = "KUBE-MARK-MASQ";
export const KUBE_FORWARD = "KUBE-FORWARD";
export const KUBE_PROXY_FIREWALL = "KUBE-PROXY-FIREWALL";
/** Shared with the kubelet, which has a rule in it too. */
export const KUBE_FIREWALL = "KUBE-FIREWALL";
/** Holds nothing: that it is gone means that somebody flushed the tables. */
export const KUBE_PROXY_CANARY = "KUBE-PROXY-CANARY";

/** The chains of one ServicePort; which of them there are is for its rules. */
export interface ServicePortChains {
  /** Endpoints under a policy of Cluster. */
  readonly svc: string;
  /** Endpoints under a policy of Local. */
  readonly svl: string;
  /** Where external addresses and NodePorts enter. */
  readonly ext: string;
  /** Source ranges of load-balancer addresses. */
  readonly fw: string;
}

type HashedName = Pick<ServicePortName, "protocol"> & { readonly text: string };

/** The same on every node of every cluster: hashes of what the port is called. */
export function servicePortChains(name: HashedName): ServicePortChains {
  const hash = chainHash(hashedText(name));
  return {
    svc: `KUBE-SVC-${hash}`,
    svl: `KUBE-SVL-${hash}`,
    ext: `KUBE-EXT-${hash}`,
    fw: `KUBE-FW-${hash}`,
  };
}

/** @param endpoint `ip:port` */
export function endpointChain(name: HashedName, endpoint: string): string {
  return `KUBE-SEP-${chainHash(hashedText(name) + endpoint)}`;
}

/** Whether a chain belongs to some Service, of ours or of an earlier run. */
export function isServiceChain(name: string): boolean {
  return /^KUBE-(SVC|SVL|EXT|FW|SEP)-/.test(name);
}

function hashedText({ text, protocol }: HashedName): string {
  return text + protocol.toLowerCase();
}

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const HASH_LETTERS = 16;

/** The first 16 letters of the base32 of the SHA-256: 80 bits. */
function chainHash(text: string): string {
  const bytes = createHash("sha256").update(text).digest();
  let hash = "";
  for (let letter = 0; letter < HASH_LETTERS; letter++) {
    const bit = letter * 5;
    const pair = ((bytes[bit >> 3] ?? 0) << 8) | (bytes[(bit >> 3) + 1] ?? 0);
    hash += BASE32[(pair >> (11 - bit % 8)) & 31];
  }
  return hash;
}

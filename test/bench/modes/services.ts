/**
 * The objects of a comparison of modes: Services and their slices, and what
 * changes them. Pure.
 *
 * @module
 */
import {
  type KubeObject,
  kubeService,
  kubeSlice,
} from "../../support/kube_objects.ts";
import type { Address } from "../load/sys.ts";

/** Of every Service. */
export const SERVICE_PORT = 80;
/** Services in one part of a range; `.0` and `.255` are left out. */
const PER_PART = 250;
/** Where Services are that come later. */
const FIRST_NEW_PART = 200;

/** Where the `n`th Service is. */
export function serviceAddress(n: number): Address {
  return { ip: serviceIp(1, n), port: SERVICE_PORT };
}

/** Where the `n`th Service is that was not there at the start. */
export function newServiceAddress(n: number): Address {
  return { ip: serviceIp(FIRST_NEW_PART, n), port: SERVICE_PORT };
}

/** So many Services, each with one endpoint, taken in turn. */
export function servicesTo(
  endpoints: readonly Address[],
  count: number,
): KubeObject[] {
  return Array.from({ length: count }, (_, n) => {
    const endpoint = endpoints[n % endpoints.length]!;
    const { ip } = serviceAddress(n);
    return [
      kubeService(`service-${n}`, ip, { http: SERVICE_PORT }),
      sliceTo(`service-${n}`, endpoint),
    ];
  }).flat();
}

/** The `n`th Service's slice, with another endpoint than it had. */
export function changedSlice(n: number, to: Address): KubeObject {
  return sliceTo(`service-${n}`, to);
}

/** A Service that was not there, and its slice. */
export function newService(n: number, to: Address): KubeObject[] {
  const { ip } = newServiceAddress(n);
  return [
    kubeService(`new-${n}`, ip, { http: SERVICE_PORT }),
    sliceTo(`new-${n}`, to),
  ];
}

/** The node of a mode, as its proxy looks for itself. */
export function nodeObject(name: string, address: string): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name },
    spec: {},
    status: { addresses: [{ type: "InternalIP", address }] },
  };
}

function sliceTo(service: string, { ip, port }: Address): KubeObject {
  return kubeSlice(service, [ip], { http: port });
}

function serviceIp(firstPart: number, n: number): string {
  return `10.96.${firstPart + Math.floor(n / PER_PART)}.${1 + n % PER_PART}`;
}

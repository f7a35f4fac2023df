/**
 * What is known of one ServicePort before its parts of the table are made: the
 * names of its chains, and who gets which endpoints. Pure.
 *
 * @module
 */
import type { Endpoint } from "../../../endpoint.ts";
import type { ServicePort } from "../../../service_port.ts";
import type { ModeInput, ModePort } from "../mode_input.ts";
import { portBase } from "./names.ts";
import type { NftVerdict } from "./program.ts";

/** What of the input a ServicePort's parts depend on, beside itself. */
export type PortInput = Pick<
  ModeInput,
  "family" | "localDetector" | "masqueradeBit" | "node"
>;

export interface PortView {
  readonly port: ModePort;
  readonly input: PortInput;
  readonly service: ServicePort;
  /** `tcp`. */
  readonly protocol: string;
  /** What names of chains end in. */
  readonly base: string;
  /** Clients of the external addresses that are not of this cluster. */
  readonly outside: readonly Endpoint[];
}

/** Decided once, for all parts of a ServicePort. */
export function portView(port: ModePort, input: PortInput): PortView {
  const { servicePort: service, cluster, local } = port;
  return {
    port,
    input,
    service,
    protocol: service.protocol.toLowerCase(),
    base: portBase(service),
    outside: service.externalPolicyLocal ? local : cluster,
  };
}

/** Only the load-balancer IPs have one (fact 6.29). */
export function hasFirewall(service: ServicePort): boolean {
  return service.loadBalancerIPs.length > 0 && service.sourceRanges.length > 0;
}

export function goTo(chain: string): NftVerdict {
  return { verdict: "goto", chain };
}

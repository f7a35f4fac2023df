/**
 * Which addresses a ServicePort is to be served on. Pure: from the desired
 * state of one ServicePort to the addresses that clients use.
 *
 * A ServicePort without a usable endpoint has none: then nothing listens, and
 * the kernel itself refuses its clients (fact 0.1), which accept-then-close
 * would not be.
 *
 * @module
 */
import type { ServicePortState } from "./desired_state.ts";
import { internalEndpoints } from "./desired_state.ts";
import { formatHostPort } from "./ip.ts";
import type { ServicePort } from "./service_port.ts";
import type { ServiceAddress } from "./steering.ts";

/** `10.96.0.7:80/TCP`: what tells two addresses apart. */
export function addressKey(address: ServiceAddress): string {
  return `${formatHostPort(address.ip, address.port)}/${address.protocol}`;
}

/** Every address that belongs to a ServicePort, served at the moment or not. */
export function serviceAddresses(servicePort: ServicePort): ServiceAddress[] {
  const { protocol } = servicePort;
  // UDP comes with the full semantics; no engine forwards SCTP (fact 1.27).
  if (protocol !== "TCP") return [];
  return [{
    ip: servicePort.clusterIP,
    port: servicePort.portNumber,
    protocol,
    name: servicePort.text,
  }];
}

/** Those of them to listen on now. */
export function listenAddresses(state: ServicePortState): ServiceAddress[] {
  return internalEndpoints(state).length === 0
    ? []
    : serviceAddresses(state.servicePort);
}

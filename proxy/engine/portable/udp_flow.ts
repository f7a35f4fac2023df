/**
 * A flow is for UDP what a connection is for TCP: one client (address and port,
 * at one listener), one endpoint, and a socket of its own towards it, so that
 * endpoints tell clients apart and answers find their way back. Here is what it
 * is made of; `udp_forwarder.ts` makes, uses and ends them.
 *
 * @module
 */
import { endpointKey } from "../../load_balancer.ts";
import { type Admission, peerIp } from "../admission.ts";
import type { EndpointAddress } from "../engine.ts";
import type { TimedFlow } from "../udp_flows.ts";
import { UdpSocket, type UdpSocketOptions } from "./udp_socket.ts";

/**
 * Flows of one ServicePort that are opened before everything else has its turn:
 * each takes a socket, and a flood of clients would have all of the time. That
 * is 2,000 new ones a second.
 */
export const NEW_FLOWS_PER_TURN = 4;

/** A listener, as flows see it. */
export interface Door {
  readonly id: number;
  readonly socket: UdpSocket;
  readonly admission: Admission;
}

/** A client's datagram on its way to an endpoint. */
export interface Datagram {
  readonly door: Door;
  readonly client: Deno.NetAddr;
  /** The key of the flow that is its client's. */
  readonly key: string;
  readonly data: Uint8Array<ArrayBuffer>;
  /** Keys of the endpoints that it could not be sent to. */
  tried?: Set<string>;
  /** A flow was ended already to make room for this one's. */
  madeRoom?: boolean;
}

export interface Flow extends TimedFlow<Flow> {
  /** Names its client. */
  readonly key: string;
  readonly door: Door;
  readonly client: Deno.NetAddr;
  readonly endpoint: EndpointAddress;
  readonly endpointKey: string;
  /** Where `endpoint` is, as sockets want it. */
  readonly to: Deno.NetAddr;
  readonly socket: UdpSocket;
  /** A datagram has left for the endpoint: it counts as a connection there. */
  isCounted: boolean;
  isEnded: boolean;
}

/**
 * A flow for the client of this datagram.
 *
 * @throws the system's error, unchanged, if there is no socket to be had
 */
export function openFlow(
  { door, client, key }: Datagram,
  endpoint: EndpointAddress,
  options: UdpSocketOptions,
): Flow {
  const { ip, port } = endpoint;
  const anyAddress = ip.includes(":") ? "::" : "0.0.0.0";
  return {
    key,
    usedAt: 0,
    older: undefined,
    newer: undefined,
    door,
    client,
    endpoint,
    endpointKey: endpointKey(endpoint),
    to: { transport: "udp", hostname: ip, port },
    socket: new UdpSocket({ ip: anyAddress, port: 0 }, options),
    isCounted: false,
    isEnded: false,
  };
}

/**
 * Whether a datagram comes from the flow's endpoint: anybody can send to the
 * port of a flow and claim to be the answer, since Deno's sockets, `node:dgram`
 * after `connect` too, are not connected for the kernel (denoland/deno#36492).
 */
export function isFromEndpoint(
  { endpoint: { ip, port } }: Flow,
  { hostname, port: fromPort }: Deno.NetAddr,
): boolean {
  return fromPort === port && (hostname === ip || peerIp(hostname) === ip);
}

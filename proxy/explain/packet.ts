/**
 * Explaining a connection: its first packet, the machine it comes to, and what
 * becomes of it. The words that every walk (`iptables_walk.ts`, …) and every
 * picture of one (`picture.ts`, `mermaid.ts`) share. Types, and what follows
 * from them; pure.
 *
 * @module
 */
import { cidrContains, formatHostPort, isLoopback } from "../ip.ts";

export const ORIGINS = ["pod", "node", "outside"] as const;

/** Who connects: a pod of this node, the node itself, or another machine. */
export type Origin = typeof ORIGINS[number];

export type PacketProtocol = "TCP" | "UDP" | "SCTP";

/** A client, before its packet has met a rule. */
export interface Connection {
  readonly origin: Origin;
  readonly protocol: PacketProtocol;
  /** Canonical, as every address here. */
  readonly source: string;
  readonly destination: string;
  readonly port: number;
}

/** The first packet of a connection, somewhere on its way. */
export interface Packet extends Connection {
  /** Address and port that the client dialled: `10.96.0.10 80`. */
  readonly dialled: string;
  /** The interface it came in by; `undefined`: it is the node's own. */
  readonly inInterface: string | undefined;
  /** The kernel's note on the packet; 0 at first. */
  readonly mark: number;
  /** Its destination was translated. */
  readonly isTranslated: boolean;
  /** It has left once: what NAT has to say of its connection was said. */
  readonly isConfirmed: boolean;
}

/** What of a machine decides where packets go. */
export interface WalkedMachine {
  /** The node's primary address of the family; masqueraded packets get it. */
  readonly nodeIp: string;
  /** All of its addresses, those that a mode gives it included. */
  readonly addresses: ReadonlySet<string>;
  /** Interfaces that packets come in by. */
  readonly interfaces: Readonly<Record<"pod" | "outside", string>>;
}

/** Where the kernel asks rules, or what stands in their place. */
export type Hook =
  | "prerouting"
  | "input"
  | "forward"
  | "output"
  | "postrouting";

/** One thing that happened to the packet. */
export interface Hop {
  readonly hook: Hook;
  /** `nat`, `filter`, `ip kube-proxy`; `ipvs`, `kube-portal`. */
  readonly table: string;
  /** The chain, the virtual server, or the listener. */
  readonly chain: string;
  /** As the mode's own tool writes it. */
  readonly rule: string;
  /** What it says of itself, or what it means. */
  readonly comment: string;
  /** Of coming by here rather than another way, once the packet was here; 1: always. */
  readonly probability: number;
  readonly before: Packet;
  readonly after: Packet;
}

export type Outcome =
  /** It reaches this endpoint. */
  | { readonly kind: "endpoint"; readonly endpoint: string }
  /** The client is told: connection refused. */
  | { readonly kind: "refused" }
  /** Nobody answers, and the client waits until it gives up. */
  | { readonly kind: "dropped" }
  /** A process on the node has it, if one listens there. */
  | { readonly kind: "node" }
  /** No rule was about it: the node's routes lead it on, mostly to nobody. */
  | { readonly kind: "routed" };

/** One of the ways that a connection may take. */
export interface Branch {
  readonly probability: number;
  readonly hops: readonly Hop[];
  readonly packet: Packet;
  readonly outcome: Outcome;
}

/**
 * The first packet, as it sets out. What the node sends to an address that it
 * has itself, it sends from that address.
 */
export function firstPacket(
  connection: Connection,
  machine: WalkedMachine,
): Packet {
  const { origin, destination, port } = connection;
  const isToItself = origin === "node" && isLocalAddress(destination, machine);
  return {
    ...connection,
    ...(isToItself ? { source: destination } : {}),
    dialled: `${destination} ${port}`,
    inInterface: origin === "node" ? undefined : machine.interfaces[origin],
    mark: 0,
    isTranslated: false,
    isConfirmed: false,
  };
}

/** Whether the kernel would deliver it to the machine itself. */
export function isLocalAddress(ip: string, machine: WalkedMachine): boolean {
  return isLoopback(ip) || machine.addresses.has(ip);
}

/** As rules write it. */
export function protocolWord({ protocol }: Pick<Packet, "protocol">) {
  return protocol.toLowerCase() as "tcp" | "udp" | "sctp";
}

/** A name matches itself; `veth+` and `veth*` all that begin with `veth`. */
export function matchesInterface(
  name: string,
  packet: Pick<Packet, "inInterface">,
): boolean {
  const { inInterface = "" } = packet;
  return /[+*]$/.test(name)
    ? inInterface.startsWith(name.slice(0, -1))
    : inInterface === name;
}

/** Equal to an address, or in a CIDR. */
export function isIn(cidrOrIp: string, ip: string): boolean {
  return cidrOrIp.includes("/") ? cidrContains(cidrOrIp, ip) : cidrOrIp === ip;
}

/** `10.96.0.10:80`. */
export function destinationText(
  { destination, port }: Pick<Packet, "destination" | "port">,
): string {
  return formatHostPort(destination, port);
}

/**
 * The engine that runs wherever Deno does: `Deno.listen`, `Deno.connect`,
 * `Deno.listenDatagram` and loops of reads and writes. Only puts its parts
 * together; who reads on goes to forwarder.ts for TCP, udp_forwarder.ts for UDP.
 *
 * @module
 */
import type { Clock } from "../../../watch/clock.ts";
import type { PortSharing } from "../../port_sharing.ts";
import { CidrSet } from "../admission.ts";
import { DescriptorShare } from "../descriptor_share.ts";
import type { Engine, NamespaceOpener } from "../engine.ts";
import { OwnAddresses } from "../own_addresses.ts";
import {
  FlowLimits,
  UDP_FLOWS_MAX,
  UDP_FLOWS_PER_PORT_MAX,
  UDP_TIMEOUT_MS,
} from "../udp_flows.ts";
import { BufferPool } from "./buffers.ts";
import { ClosingSockets } from "./closing_sockets.ts";
import { DIAL_TIMEOUTS_MS } from "./dial.ts";
import { PortableForwarder } from "./forwarder.ts";
import { LINGER_MS } from "./splice.ts";
import { ReceiveBuffers } from "./udp_buffers.ts";
import { UdpForwarder } from "./udp_forwarder.ts";
import { OpenConnections } from "./young_connections.ts";

export interface PortableEngineOptions {
  readonly clock: Clock;
  /** Without it, nothing can listen in another network namespace. */
  readonly namespaces?: NamespaceOpener;
  /** Milliseconds for the first, second … dial; {@linkcode DIAL_TIMEOUTS_MS}. */
  readonly dialTimeoutsMs?: readonly number[];
  /** Milliseconds of silence after one end; {@linkcode LINGER_MS}. */
  readonly lingerMs?: number;
  /** Milliseconds of silence that end a UDP flow; {@linkcode UDP_TIMEOUT_MS}. */
  readonly udpTimeoutMs?: number;
  /** UDP flows of one ServicePort; {@linkcode UDP_FLOWS_PER_PORT_MAX}. */
  readonly udpFlowsPerPortMax?: number;
  /** UDP flows of all ServicePorts; {@linkcode UDP_FLOWS_MAX}. */
  readonly udpFlowsMax?: number;
  /** Its limit may be found out later; without one there is none. */
  readonly share?: DescriptorShare;
  /** With another process, to take over; without it, there is none. */
  readonly portSharing?: PortSharing | undefined;
}

/**
 * Makes the portable engine. It holds nothing that would have to be closed:
 * sockets belong to its forwarders.
 *
 * What it cannot do (see ../README.md): end a connection by a reset, since
 * `Deno.Conn.close` sends a FIN first, and learn that a UDP endpoint refuses,
 * since Deno's datagram sockets are not connected.
 */
export function createPortableEngine(options: PortableEngineOptions): Engine {
  const buffers = new BufferPool();
  const closing = new ClosingSockets();
  const receiveBuffers = new ReceiveBuffers();
  const limits = new FlowLimits({
    perPort: options.udpFlowsPerPortMax ?? UDP_FLOWS_PER_PORT_MAX,
    total: options.udpFlowsMax ?? UDP_FLOWS_MAX,
  });
  const own = { TCP: new OwnAddresses(), UDP: new OwnAddresses() };
  const share = options.share ?? new DescriptorShare();
  const open = new OpenConnections();
  let clusterSources = new CidrSet([]);
  return {
    name: "portable",
    setClusterSources(cidrs) {
      clusterSources = new CidrSet(cidrs);
    },
    forwarder(policy) {
      if (policy.protocol === "UDP") {
        return new UdpForwarder(policy, {
          clock: options.clock,
          buffers: receiveBuffers,
          timeoutMs: options.udpTimeoutMs ?? UDP_TIMEOUT_MS,
          limits,
          closing,
          ownAddresses: own.UDP,
          namespaces: options.namespaces,
          clusterSources: () => clusterSources,
        });
      }
      return new PortableForwarder(policy, {
        clock: options.clock,
        buffers,
        closing,
        ownAddresses: own.TCP,
        share,
        portSharing: options.portSharing,
        open,
        namespaces: options.namespaces,
        dialTimeoutsMs: options.dialTimeoutsMs ?? DIAL_TIMEOUTS_MS,
        lingerMs: options.lingerMs ?? LINGER_MS,
        clusterSources: () => clusterSources,
      });
    },
  };
}

/**
 * The engine that runs wherever Deno does: `Deno.listen`, `Deno.connect` and a
 * loop of reads and writes. Only puts its parts together; who reads on goes to
 * forwarder.ts.
 *
 * @module
 */
import type { Clock } from "../../../watch/clock.ts";
import { CidrSet } from "../admission.ts";
import type { Engine } from "../engine.ts";
import { BufferPool } from "./buffers.ts";
import { DIAL_TIMEOUTS_MS } from "./dial.ts";
import { PortableForwarder } from "./forwarder.ts";
import { LINGER_MS } from "./splice.ts";

export interface PortableEngineOptions {
  readonly clock: Clock;
  /** Milliseconds for the first, second … dial; {@linkcode DIAL_TIMEOUTS_MS}. */
  readonly dialTimeoutsMs?: readonly number[];
  /** Milliseconds of silence after one end; {@linkcode LINGER_MS}. */
  readonly lingerMs?: number;
}

/**
 * Makes the portable engine. It holds nothing that would have to be closed:
 * sockets belong to its forwarders.
 *
 * What it cannot do: end a connection by a reset (`Deno.Conn.close` sends a
 * FIN first; see ../README.md), and UDP, for which `listen` throws.
 */
export function createPortableEngine(options: PortableEngineOptions): Engine {
  const buffers = new BufferPool();
  let clusterSources = new CidrSet([]);
  return {
    name: "portable",
    setClusterSources(cidrs) {
      clusterSources = new CidrSet(cidrs);
    },
    forwarder(policy) {
      return new PortableForwarder(policy, {
        clock: options.clock,
        buffers,
        dialTimeoutsMs: options.dialTimeoutsMs ?? DIAL_TIMEOUTS_MS,
        lingerMs: options.lingerMs ?? LINGER_MS,
        clusterSources: () => clusterSources,
      });
    },
  };
}

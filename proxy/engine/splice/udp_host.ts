/**
 * What a UDP ServicePort is given by the thread it is in, and what it asks of
 * it. Only a type: `udp_thread.ts` is it.
 *
 * @module
 */
import type { CidrSet } from "../admission.ts";
import type { OwnAddresses } from "../own_addresses.ts";
import type { FlowLimits } from "../udp_flows.ts";
import type { Libc } from "./libc.ts";
import type { CountedEvent, EndedFlow } from "./messages.ts";
import type { Poller } from "./poller.ts";
import type { SharedCounters } from "./shared_counters.ts";
import type { Timers } from "./timers.ts";
import type { DatagramBatch } from "./udp_batch.ts";
import type { KeptDatagrams } from "./udp_kept.ts";

/** What a UDP ServicePort asks of its thread. */
export interface UdpHost {
  readonly libc: Libc;
  readonly poller: Poller;
  readonly timers: Timers;
  readonly batch: DatagramBatch;
  readonly kept: KeptDatagrams;
  readonly counters: SharedCounters;
  readonly clusterSources: CidrSet;
  readonly ownAddresses: OwnAddresses;
  readonly limits: FlowLimits;
  readonly timeoutMs: number;
  /** The number from which on descriptors are not for flows. */
  readonly reservedFrom: number;
  /** Whether the end of each flow is to be told. */
  readonly tellsFlows: boolean;
  /** Milliseconds, the loop's. */
  readonly now: () => number;
  readonly log: (event: Omit<CountedEvent, "count">) => void;
  flowEnded(ended: EndedFlow): void;
  endpointGone(port: number, key: string, generation: number): void;
  /** Calls it when what was closed in this round is closed. */
  afterRound(run: () => void): void;
}

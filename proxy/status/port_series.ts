/**
 * Which Service ports have metrics of their own. In: every Service port with
 * its counts, as they are now. Out: as many series as are allowed, and one that
 * adds up the rest, so that no cluster can make `/metrics` grow without end.
 *
 * @module
 */
import { Distribution, type DistributionView } from "../distribution.ts";
import type { ForwarderStats } from "../engine/engine.ts";
import type { ServicePort } from "../service_port.ts";
import { ejectedEndpoints } from "./port_row.ts";

/** Service ports with series of their own. */
export const PORT_SERIES_MAX = 500;

/** What the series for all other Service ports says in each label. */
export const OTHER = "(other)";

/** Monotonic; of a Service port whose listeners were made anew, of all of them. */
export interface PortTotals {
  connections: number;
  failed: number;
  refused: number;
  dialRefusals: number;
  dialTimeouts: number;
  bytesToEndpoints: number;
  bytesToClients: number;
  flowsEvicted: number;
  datagramsDropped: number;
  dialSeconds: Distribution | undefined;
  connectionSeconds: Distribution | undefined;
}

export interface PortSeries {
  readonly labels: Readonly<Record<string, string>>;
  readonly totals: PortTotals;
  readonly isUdp: boolean;
  /** Gauges. */
  open: number;
  affinityEntries: number;
  ejected: number;
}

/** One forwarder and the Service port it is for. */
export interface CountedPort {
  /** Is one and the same object as long as its counts go on. */
  readonly source: object;
  readonly servicePort: ServicePort;
  readonly stats: ForwarderStats;
}

interface Slot {
  readonly labels: Readonly<Record<string, string>>;
  readonly isUdp: boolean;
  /** Of sources that are gone. */
  retired: PortTotals;
  readonly live: Map<object, ForwarderStats>;
}

/**
 * Promises:
 * 1. At most `max` Service ports have their own series, first come; the others
 *    of a protocol share one.
 * 2. Counters never go back while their series exists: what a source had
 *    counted stays when it goes.
 * 3. A Service port that is gone has no series any more, and its place is free.
 */
export class PortSeriesLedger {
  readonly #max: number;
  readonly #own = new Map<string, Slot>();
  readonly #other = new Map<string, Slot>();

  constructor(max: number = PORT_SERIES_MAX) {
    this.#max = max;
  }

  /** How many Service ports have their own series. */
  get size(): number {
    return this.#own.size;
  }

  /** @param ports all there are: one that is missing is gone */
  update(ports: Iterable<CountedPort>): PortSeries[] {
    const seen = new Set<object>();
    const rest: CountedPort[] = [];
    for (const port of ports) {
      seen.add(port.source);
      const slot = this.#own.get(port.servicePort.key);
      if (slot === undefined) rest.push(port);
      else slot.live.set(port.source, port.stats);
    }
    for (const [key, slot] of this.#own) {
      retire(slot, seen);
      if (slot.live.size === 0) this.#own.delete(key);
    }
    for (const slot of this.#other.values()) retire(slot, seen);
    for (const port of rest) this.#place(port);
    return [...this.#own.values(), ...this.#other.values()].map(seriesOf);
  }

  #place(port: CountedPort): void {
    const { servicePort, source, stats } = port;
    const other = this.#other.get(servicePort.protocol);
    // One that is among the others stays there: moving would count it twice.
    const slot = other?.live.has(source)
      ? other
      : this.#own.get(servicePort.key) ?? this.#newSlot(servicePort, other);
    slot.live.set(source, stats);
  }

  #newSlot(servicePort: ServicePort, other: Slot | undefined): Slot {
    const isUdp = servicePort.protocol === "UDP";
    const isOwn = this.#own.size < this.#max;
    if (!isOwn && other !== undefined) return other;
    const slot: Slot = {
      labels: isOwn ? labelsOf(servicePort) : {
        service_namespace: OTHER,
        service_name: OTHER,
        service_port: OTHER,
        protocol: servicePort.protocol,
        ip_family: OTHER,
      },
      isUdp,
      retired: noTotals(),
      live: new Map(),
    };
    if (isOwn) this.#own.set(servicePort.key, slot);
    else this.#other.set(servicePort.protocol, slot);
    return slot;
  }
}

/**
 * Not `namespace` and `service`: a scraper in a cluster adds labels of these
 * names to everything it reads, for where it read it.
 */
function labelsOf(port: ServicePort): Record<string, string> {
  return {
    service_namespace: port.namespace,
    service_name: port.name,
    service_port: port.port === "" ? String(port.portNumber) : port.port,
    protocol: port.protocol,
    ip_family: port.family,
  };
}

function retire(slot: Slot, seen: ReadonlySet<object>): void {
  for (const [source, stats] of slot.live) {
    if (seen.has(source)) continue;
    slot.live.delete(source);
    addTo(slot.retired, stats);
  }
}

function seriesOf(slot: Slot): PortSeries {
  const totals = noTotals();
  addTotals(totals, slot.retired);
  let open = 0;
  let affinityEntries = 0;
  let ejected = 0;
  for (const stats of slot.live.values()) {
    addTo(totals, stats);
    open += stats.connectionsOpen;
    affinityEntries += stats.affinityEntries;
    ejected += ejectedEndpoints(stats);
  }
  const { labels, isUdp } = slot;
  return { labels, isUdp, totals, open, affinityEntries, ejected };
}

function noTotals(): PortTotals {
  return {
    connections: 0,
    failed: 0,
    refused: 0,
    dialRefusals: 0,
    dialTimeouts: 0,
    bytesToEndpoints: 0,
    bytesToClients: 0,
    flowsEvicted: 0,
    datagramsDropped: 0,
    dialSeconds: undefined,
    connectionSeconds: undefined,
  };
}

function addTo(totals: PortTotals, stats: ForwarderStats): void {
  const { dialFailures, dialTimeouts = 0 } = stats;
  addTotals(totals, {
    connections: stats.connectionsTotal,
    failed: stats.connectionsFailed,
    refused: stats.connectionsRefused,
    dialRefusals: dialFailures - dialTimeouts,
    dialTimeouts,
    bytesToEndpoints: stats.bytesToEndpoints,
    bytesToClients: stats.bytesToClients,
    flowsEvicted: stats.flowsEvicted,
    datagramsDropped: stats.datagramsDropped,
    dialSeconds: stats.dialSeconds,
    connectionSeconds: stats.connectionSeconds,
  });
}

interface Addend extends Omit<PortTotals, "dialSeconds" | "connectionSeconds"> {
  readonly dialSeconds: DistributionView | undefined;
  readonly connectionSeconds: DistributionView | undefined;
}

function addTotals(totals: PortTotals, more: Addend): void {
  totals.connections += more.connections;
  totals.failed += more.failed;
  totals.refused += more.refused;
  totals.dialRefusals += more.dialRefusals;
  totals.dialTimeouts += more.dialTimeouts;
  totals.bytesToEndpoints += more.bytesToEndpoints;
  totals.bytesToClients += more.bytesToClients;
  totals.flowsEvicted += more.flowsEvicted;
  totals.datagramsDropped += more.datagramsDropped;
  totals.dialSeconds = sum(totals.dialSeconds, more.dialSeconds);
  totals.connectionSeconds = sum(
    totals.connectionSeconds,
    more.connectionSeconds,
  );
}

function sum(
  into: Distribution | undefined,
  more: DistributionView | undefined,
): Distribution | undefined {
  if (more === undefined) return into;
  const total = into ?? new Distribution(more.bounds);
  total.add(more);
  return total;
}

/**
 * What the proxy is doing, kept so that only differences have to be told: the
 * one description that the dashboard, the JSON answer and `status` are made
 * from. In: a `StatusSource`. Out: plain data, and what changed since a cursor.
 *
 * A refresh looks at every Service port, which is cheap: it compares an object,
 * two numbers and a few counts; rows are made anew only for those that differ.
 *
 * @module
 */
import { liveness, readiness } from "./health.ts";
import { History, type HistorySample } from "./history.ts";
import {
  type EndpointRow,
  endpointRows,
  type PortCounts,
  portCounts,
  type PortRow,
  portRow,
} from "./port_row.ts";
import type { PortView, StatusSource } from "./status_source.ts";

export interface Overview {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly version: string;
  readonly mode: string;
  readonly node: string;
  readonly engine: string;
  readonly startedAt: number;
  /** `leaving`: it syncs, but the Node is unknown, or to be taken away. */
  readonly health: "healthy" | "leaving" | "not syncing";
  /** Missing before the first sync. */
  readonly steering:
    | { readonly name: string; readonly description: string }
    | null;
  readonly sources: StatusSourceStates;
  readonly services: number;
  readonly ports: number;
  readonly listeners: number;
  /** Addresses that should be served and are not. */
  readonly unserved: number;
  readonly lastSyncAt: number;
  readonly changesPending: number;
  readonly totals: HistorySample;
}

type StatusSourceStates = ReturnType<StatusSource["sources"]>;

/** A Service port with its counts. */
export interface BoardPort {
  readonly row: PortRow;
  readonly counts: PortCounts;
}

export interface BoardChanges {
  /** To be given with the next question. */
  readonly cursor: string;
  /** Everything is told: what is not among `rows` is gone. */
  readonly isComplete: boolean;
  readonly rows: readonly BoardPort[];
  /** Only their counts changed. */
  readonly counted: readonly (readonly [id: string, counts: PortCounts])[];
  readonly removed: readonly string[];
}

interface Entry {
  port: PortView;
  row: PortRow;
  counts: PortCounts;
  /** What the row was made from. */
  state: PortView["state"];
  revision: number;
  isDraining: boolean;
  /** Version of the board when each was last different. */
  rowAt: number;
  countsAt: number;
}

/** Removals that are remembered; who is further behind is told everything. */
const REMOVALS_MAX = 10_000;

export class StatusBoard {
  readonly #source: StatusSource;
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry>();
  /** Id → the version at which it went. */
  readonly #removed = new Map<string, number>();
  readonly #history = new History();
  /** By port, not by id: one that drains may get another id. */
  readonly #lastCounts = new WeakMap<PortView, PortCounts>();
  /** Tells cursors of this process from those of an earlier one. */
  readonly #id = crypto.randomUUID().slice(0, 8);
  #version = 0;
  #oldestRemoval = 0;
  #refreshedAt = -Infinity;
  #steeringText = "";
  #listeners = 0;
  #unserved = 0;
  #totals = {
    total: 0,
    failed: 0,
    bytesToEndpoints: 0,
    bytesToClients: 0,
  };

  constructor(source: StatusSource, now: () => number) {
    this.#source = source;
    this.#now = now;
  }

  get history(): readonly HistorySample[] {
    return this.#history.samples;
  }

  /** Looks at the proxy, unless somebody did less than `maxAgeMs` ago. */
  refresh(maxAgeMs = 0): void {
    const now = this.#now();
    const age = now - this.#refreshedAt;
    // Below 0 where the clock was set back.
    if (age >= 0 && age < maxAgeMs) return;
    this.#refreshedAt = now;
    this.#version++;
    const failures = this.#source.steering()?.failures ?? new Map();
    // Few, if any: which Service port they are about is not worth knowing.
    const steeringText = JSON.stringify([...failures]);
    const isSteeringChanged = steeringText !== this.#steeringText;
    this.#steeringText = steeringText;
    const options = { failures, isSteeringChanged };
    const seen = new Set<string>();
    let open = 0;
    this.#listeners = 0;
    this.#unserved = 0;
    for (const port of this.#source.ports()) {
      const { key } = port.state.servicePort;
      seen.add(key);
      open += this.#look(key, port, { ...options, isDraining: false });
    }
    for (const port of this.#source.draining()) {
      const { key } = port.state.servicePort;
      const id = seen.has(key) ? `${key} (draining)` : key;
      seen.add(id);
      open += this.#look(id, port, { ...options, isDraining: true });
    }
    for (const id of this.#entries.keys()) {
      if (!seen.has(id)) this.#remove(id);
    }
    this.#history.add({ time: now, open, ...this.#totals });
  }

  /** @returns its open connections */
  #look(id: string, port: PortView, options: {
    failures: ReadonlyMap<string, string>;
    isSteeringChanged: boolean;
    isDraining: boolean;
  }): number {
    const { failures, isSteeringChanged, isDraining } = options;
    const counts = portCounts(port.forwarder.stats());
    const before = this.#entries.get(id);
    this.#addTotals(counts, this.#lastCounts.get(port));
    this.#lastCounts.set(port, counts);
    const isSame = before !== undefined && before.port === port &&
      before.state === port.state && before.revision === port.revision &&
      before.isDraining === isDraining && !isSteeringChanged;
    const row = isSame ? before.row : {
      ...portRow(port, { isDraining, steeringFailures: failures }),
      id,
    };
    const isCounted = before === undefined || !areEqual(before.counts, counts);
    this.#removed.delete(id);
    this.#entries.set(id, {
      port,
      row,
      counts: isCounted ? counts : before.counts,
      state: port.state,
      revision: port.revision,
      isDraining,
      rowAt: isSame ? before.rowAt : this.#version,
      countsAt: isCounted ? this.#version : before.countsAt,
    });
    for (const { listen, failure } of row.addresses) {
      if (listen !== "") this.#listeners++;
      if (failure !== "") this.#unserved++;
    }
    return counts.open;
  }

  #addTotals(counts: PortCounts, before: PortCounts | undefined): void {
    const totals = this.#totals;
    totals.total += counts.total - (before?.total ?? 0);
    totals.failed += counts.failed - (before?.failed ?? 0);
    totals.bytesToEndpoints += counts.bytesToEndpoints -
      (before?.bytesToEndpoints ?? 0);
    totals.bytesToClients += counts.bytesToClients -
      (before?.bytesToClients ?? 0);
  }

  #remove(id: string): void {
    this.#entries.delete(id);
    this.#removed.set(id, this.#version);
    if (this.#removed.size <= REMOVALS_MAX) return;
    for (const [oldest, version] of this.#removed) {
      this.#removed.delete(oldest);
      this.#oldestRemoval = version;
      return;
    }
  }

  overview(): Overview {
    const source = this.#source;
    const health = source.health();
    const steering = source.steering();
    return {
      time: this.#refreshedAt,
      version: source.version,
      mode: source.mode,
      node: source.nodeName,
      engine: source.engine,
      startedAt: source.startedAt,
      health: !liveness(health).ok
        ? "not syncing"
        : readiness(health).ok
        ? "healthy"
        : "leaving",
      steering: steering === undefined
        ? null
        : { name: steering.name, description: steering.description },
      sources: source.sources(),
      services: source.services().size,
      ports: this.#entries.size,
      listeners: this.#listeners,
      unserved: this.#unserved,
      lastSyncAt: health.syncs.IPv4?.updatedAt ?? 0,
      changesPending: source.counters.servicesPending +
        source.counters.endpointsPending,
      totals: this.#history.latest ??
        { time: this.#refreshedAt, open: 0, ...this.#totals },
    };
  }

  /** What is different since the answer that had this cursor. */
  changes(cursor: string = ""): BoardChanges {
    const [id, text] = cursor.split(".");
    const version = Number(text);
    const isKnown = id === this.#id && version >= this.#oldestRemoval &&
      version <= this.#version;
    const since = isKnown ? version : -1;
    const rows: BoardPort[] = [];
    const counted: [string, PortCounts][] = [];
    for (const [id, entry] of this.#entries) {
      const { row, counts, rowAt, countsAt } = entry;
      if (rowAt > since) rows.push({ row, counts });
      else if (countsAt > since) counted.push([id, counts]);
    }
    const removed = isKnown
      ? [...this.#removed].filter(([, at]) => at > since).map(([id]) => id)
      : [];
    return {
      cursor: `${this.#id}.${this.#version}`,
      isComplete: !isKnown,
      rows,
      counted,
      removed,
    };
  }

  /** As of the last refresh. */
  port(id: string): BoardPort | undefined {
    const entry = this.#entries.get(id);
    return entry && { row: entry.row, counts: entry.counts };
  }

  /** The endpoints of one Service port as they are now; `undefined`: no such. */
  endpoints(id: string): EndpointRow[] | undefined {
    const port = this.#entries.get(id)?.port;
    return port && endpointRows(port.state, port.forwarder.stats());
  }
}

function areEqual(a: PortCounts, b: PortCounts): boolean {
  return a.open === b.open && a.total === b.total && a.failed === b.failed &&
    a.refused === b.refused && a.dialFailures === b.dialFailures &&
    a.bytesToEndpoints === b.bytesToEndpoints &&
    a.bytesToClients === b.bytesToClients &&
    a.affinityEntries === b.affinityEntries && a.ejected === b.ejected;
}

/**
 * Counters that a data thread raises and the control thread reads, in memory
 * that both see: no message is sent for a connection or a byte. In: numbers of
 * lines. Out: cells.
 *
 * A line is eight doubles, one cache line, so that threads do not disturb each
 * other, and has one writer. A double counts exactly up to 2⁵³: 9 PB. Reading
 * one while it is written gives the old or the new value, since both
 * architectures store eight aligned bytes at once.
 *
 * @module
 */
import type { Traffic } from "../counters.ts";

export const LINE_CELLS = 8;
/** Lines in one piece of memory, 256 KiB. */
const TABLE_LINES = 4096;

/** Lines of a ServicePort: one for each thread, of which the first counts. */
export const PORT_CELLS = {
  connectionsOpen: 0,
  connectionsTotal: 1,
  connectionsFailed: 2,
  connectionsRefused: 3,
  affinityEntries: 4,
  dialFailures: 5,
  bytesToEndpoints: 6,
  bytesToClients: 7,
} as const;

/** A second line, of a ServicePort of UDP. */
export const UDP_CELLS = {
  flowsEvicted: 0,
  datagramsDropped: 1,
} as const;

/** A line of one of its endpoints. */
export const ENDPOINT_CELLS = {
  connectionsOpen: 0,
  connectionsTotal: 1,
  dialFailures: 2,
  /** No count but a time, milliseconds since 1970; 0: it is not ejected. */
  ejectedUntil: 3,
} as const;

/** Eight cells. */
export class Line implements Traffic {
  readonly #cells: Float64Array;
  readonly #at: number;

  constructor(cells: Float64Array, at: number) {
    this.#cells = cells;
    this.#at = at;
  }

  get(cell: number): number {
    return this.#cells[this.#at + cell]!;
  }

  set(cell: number, value: number): void {
    this.#cells[this.#at + cell] = value;
  }

  add(cell: number, value: number): void {
    this.#cells[this.#at + cell]! += value;
  }

  get bytesToEndpoints(): number {
    return this.get(PORT_CELLS.bytesToEndpoints);
  }

  set bytesToEndpoints(value: number) {
    this.set(PORT_CELLS.bytesToEndpoints, value);
  }

  get bytesToClients(): number {
    return this.get(PORT_CELLS.bytesToClients);
  }

  set bytesToClients(value: number) {
    this.set(PORT_CELLS.bytesToClients, value);
  }

  clear(): void {
    this.#cells.fill(0, this.#at, this.#at + LINE_CELLS);
  }
}

/** All lines, as one thread sees them. Memory is added, and never moves. */
export class SharedCounters {
  readonly #tables: Float64Array[] = [];

  addTable(memory: SharedArrayBuffer): void {
    this.#tables.push(new Float64Array(memory));
  }

  line(number: number): Line {
    const table = this.#tables[Math.floor(number / TABLE_LINES)]!;
    return new Line(table, (number % TABLE_LINES) * LINE_CELLS);
  }
}

/** Hands out lines; only the control thread has one. */
export class LineAllocator {
  readonly counters = new SharedCounters();
  readonly #announce: (memory: SharedArrayBuffer) => void;
  readonly #free: number[] = [];
  #used = 0;
  #size = 0;

  /** @param announce tells the data threads, before a line of it is used */
  constructor(announce: (memory: SharedArrayBuffer) => void) {
    this.#announce = announce;
  }

  /** The number of a line whose cells are 0. */
  take(): number {
    const number = this.#free.pop() ?? this.#used++;
    if (number === this.#size) {
      const memory = new SharedArrayBuffer(TABLE_LINES * LINE_CELLS * 8);
      this.#announce(memory);
      this.counters.addTable(memory);
      this.#size += TABLE_LINES;
    }
    this.counters.line(number).clear();
    return number;
  }

  /** Nobody writes to it any more. */
  giveBack(number: number): void {
    this.#free.push(number);
  }
}

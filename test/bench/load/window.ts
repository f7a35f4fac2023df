/**
 * The time in which the load generator counts, after a time in which it does
 * not, and the CPU time that was used in it.
 *
 * @module
 */
import { cpuSeconds, machineCpuSeconds } from "./cpu.ts";
import type { Counted, Question } from "./protocol.ts";

/** What the clocks and counters said. */
interface Moment {
  readonly at: number;
  readonly cpu: number;
  readonly helpers: number;
  readonly machine: number;
  readonly count: number;
}

/** Counts between two moments, and knows when it is over. */
export class Window {
  count = 0;
  failures = 0;
  readonly #question: Question;
  readonly #startsAt: number;
  readonly endsAt: number;
  #from: Moment | undefined;
  timesUs: number[] = [];

  constructor(question: Question) {
    this.#question = question;
    this.#startsAt = performance.now() + question.warmUpMs;
    this.endsAt = this.#startsAt + question.windowMs;
  }

  get isOpen(): boolean {
    return this.#from !== undefined;
  }

  /** False when it is over. */
  goesOn(now: number): boolean {
    if (this.#from === undefined && now >= this.#startsAt) {
      this.#from = this.#look();
    }
    return now < this.endsAt;
  }

  result(): Counted {
    const from = this.#from;
    if (from === undefined) throw new Error("The window was never open");
    const to = this.#look();
    const seconds = (to.at - from.at) / 1000;
    const cpuSeconds = to.cpu - from.cpu;
    const others = to.machine - from.machine - cpuSeconds -
      (to.helpers - from.helpers);
    const result = {
      count: to.count - from.count,
      seconds,
      cpuSeconds,
      othersCpus: Math.max(0, others / seconds),
      failures: this.failures,
    };
    if (this.timesUs.length === 0) return result;
    const sorted = Float64Array.from(this.timesUs).sort();
    const at = (part: number) => sorted[Math.floor(sorted.length * part)]!;
    return { ...result, p50Us: at(0.5), p99Us: at(0.99) };
  }

  #look(): Moment {
    const { pids, helpers } = this.#question;
    return {
      cpu: cpuSeconds(pids),
      helpers: cpuSeconds([Deno.pid, ...helpers]),
      machine: machineCpuSeconds(),
      count: this.count,
      at: performance.now(),
    };
  }
}

/**
 * How long a ServicePort's dials and connections take, in shared cells. In:
 * counter lines, the same in both threads. Out: two distributions, and how
 * many dials nobody answered.
 *
 * @module
 */
import {
  CONNECTION_BOUNDS_S,
  DIAL_BOUNDS_S,
  type ForwarderStats,
} from "../engine.ts";
import type { SharedCounters } from "./shared_counters.ts";
import {
  DISTRIBUTION_LINES,
  SharedDistribution,
} from "./shared_distribution.ts";

/** Lines of one ServicePort; only the accepting thread writes them. */
export const TIMING_LINES = 2 * DISTRIBUTION_LINES;

export class Timings {
  readonly #dials: SharedDistribution;
  readonly #connections: SharedDistribution;

  constructor(counters: SharedCounters, numbers: readonly number[]) {
    const lines = numbers.map((number) => counters.line(number));
    this.#dials = new SharedDistribution(
      DIAL_BOUNDS_S,
      lines.slice(0, DISTRIBUTION_LINES),
    );
    this.#connections = new SharedDistribution(
      CONNECTION_BOUNDS_S,
      lines.slice(DISTRIBUTION_LINES),
    );
  }

  dialled(seconds: number): void {
    this.#dials.observe(seconds);
  }

  dialTimedOut(): void {
    this.#dials.countSpare();
  }

  connectionEnded(seconds: number): void {
    this.#connections.observe(seconds);
  }

  stats(): Pick<
    ForwarderStats,
    "dialTimeouts" | "dialSeconds" | "connectionSeconds"
  > {
    const dialSeconds = this.#dials.snapshot();
    const connectionSeconds = this.#connections.snapshot();
    return {
      dialTimeouts: this.#dials.spare,
      ...(dialSeconds === undefined ? {} : { dialSeconds }),
      ...(connectionSeconds === undefined ? {} : { connectionSeconds }),
    };
  }
}

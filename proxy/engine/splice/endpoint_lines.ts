/**
 * The counter lines of a ServicePort's endpoints, from the control thread's
 * side: gives each a line, reads it, and takes it back when a data thread says
 * that nobody uses it any more.
 *
 * @module
 */
import { endpointKey } from "../../load_balancer.ts";
import type { EndpointLists, EndpointStats } from "../engine.ts";
import {
  ENDPOINT_CELLS,
  type Line,
  type LineAllocator,
} from "./shared_counters.ts";

interface CountedEndpoint {
  readonly number: number;
  readonly line: Line;
  /** The generation that no longer has it. */
  goneSince: number | undefined;
}

export class EndpointLines {
  readonly #allocator: LineAllocator;
  readonly #endpoints = new Map<string, CountedEndpoint>();
  #generation = 0;

  constructor(allocator: LineAllocator) {
    this.#allocator = allocator;
  }

  /** @returns for the data thread: endpoint key → line, and how recent that is */
  update({ internal, external, externalFromCluster }: EndpointLists): {
    readonly generation: number;
    readonly lines: ReadonlyMap<string, number>;
  } {
    const generation = ++this.#generation;
    const lines = new Map<string, number>();
    for (const endpoint of [...internal, ...external, ...externalFromCluster]) {
      const key = endpointKey(endpoint);
      if (lines.has(key)) continue;
      let counted = this.#endpoints.get(key);
      if (counted === undefined) {
        const number = this.#allocator.take();
        const line = this.#allocator.counters.line(number);
        counted = { number, line, goneSince: undefined };
        this.#endpoints.set(key, counted);
      }
      counted.goneSince = undefined;
      lines.set(key, counted.number);
    }
    for (const [key, counted] of this.#endpoints) {
      if (!lines.has(key)) counted.goneSince ??= generation;
    }
    return { generation, lines };
  }

  stats(): ReadonlyMap<string, EndpointStats> {
    const endpoints = new Map<string, EndpointStats>();
    for (const [key, { line, goneSince }] of this.#endpoints) {
      const connectionsOpen = line.get(ENDPOINT_CELLS.connectionsOpen);
      if (goneSince !== undefined && connectionsOpen === 0) continue;
      const ejectedUntil = line.get(ENDPOINT_CELLS.ejectedUntil);
      endpoints.set(key, {
        connectionsOpen,
        connectionsTotal: line.get(ENDPOINT_CELLS.connectionsTotal),
        dialFailures: line.get(ENDPOINT_CELLS.dialFailures),
        ...(ejectedUntil === 0 ? {} : { ejectedUntil }),
      });
    }
    return endpoints;
  }

  /** A data thread needs it no more; it may have come back since. */
  gone({ key, generation }: {
    readonly key: string;
    readonly generation: number;
  }): void {
    const counted = this.#endpoints.get(key);
    if (counted?.goneSince === undefined || counted.goneSince > generation) {
      return;
    }
    this.#endpoints.delete(key);
    this.#allocator.giveBack(counted.number);
  }

  /** No data thread knows the ServicePort any more. */
  giveBack(): void {
    for (const { number } of this.#endpoints.values()) {
      this.#allocator.giveBack(number);
    }
    this.#endpoints.clear();
  }
}

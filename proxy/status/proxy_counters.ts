/**
 * What happens while the proxy runs, counted as it happens: changes, syncs,
 * health checks, requests to the API server. Plain numbers from the start of
 * the process on; the library that writes them for Prometheus is loaded only
 * when the metrics server starts (`metrics.ts`).
 *
 * @module
 */
import { Distribution, exponentialBounds } from "../distribution.ts";
import type { IpFamily } from "../ip.ts";
import type { TriggerTime } from "../trigger_times.ts";

/** Upstream's buckets for syncs, seconds (fact 7.26). */
const SYNC_BOUNDS_S: readonly number[] = exponentialBounds(0.001, {
  factor: 2,
  count: 15,
});

/** Upstream's buckets from a change to its effect, seconds (fact 7.31). */
const PROGRAMMING_BOUNDS_S: readonly number[] = [
  0.25,
  0.5,
  ...Array.from({ length: 59 }, (_, index) => index + 1),
  ...Array.from({ length: 12 }, (_, index) => 60 + 5 * index),
  ...Array.from({ length: 7 }, (_, index) => 120 + 30 * index),
];

/** client-go's buckets for requests, seconds. */
const REQUEST_BOUNDS_S: readonly number[] = [
  0.005,
  0.025,
  0.1,
  0.25,
  0.5,
  1,
  2,
  4,
  8,
  15,
  30,
  60,
];

/** One request to the API server, up to its answer's header. */
export interface RequestSeen {
  readonly method: string;
  readonly host: string;
  /** The status, or `<error>` where there was no answer: client-go's word. */
  readonly code: string;
  readonly seconds: number;
}

/** A number for each set of labels that was seen. */
export interface Counted {
  readonly labels: Readonly<Record<string, string>>;
  value: number;
}

export interface Measured {
  readonly labels: Readonly<Record<string, string>>;
  readonly distribution: Distribution;
}

export class ProxyCounters {
  serviceChanges = 0;
  endpointChanges = 0;
  readonly syncSeconds = new Distribution(SYNC_BOUNDS_S);
  readonly programmingSeconds: Readonly<Record<IpFamily, Distribution>> = {
    IPv4: new Distribution(PROGRAMMING_BOUNDS_S),
    IPv6: new Distribution(PROGRAMMING_BOUNDS_S),
  };
  readonly #pendingServices = new Set<string>();
  readonly #pendingSlices = new Set<string>();
  readonly #healthAnswers = new Map<string, Counted & { path: string }>();
  readonly #requests = new Map<string, Counted>();
  readonly #requestSeconds = new Map<string, Measured>();

  /** Changes that no sync has taken up, by object. */
  get servicesPending(): number {
    return this.#pendingServices.size;
  }

  get endpointsPending(): number {
    return this.#pendingSlices.size;
  }

  servicesChanged(keys: Iterable<string>): void {
    for (const key of keys) {
      this.serviceChanges++;
      this.#pendingServices.add(key);
    }
  }

  slicesChanged(keys: Iterable<string>): void {
    for (const key of keys) {
      this.endpointChanges++;
      this.#pendingSlices.add(key);
    }
  }

  /** A sync begins: it takes up whatever waits. */
  changesTaken(): void {
    this.#pendingServices.clear();
    this.#pendingSlices.clear();
  }

  synced(ms: number): void {
    this.syncSeconds.observe(ms / 1_000);
  }

  /** A sync made these changes so (fact 9.12). */
  programmed(triggers: Iterable<TriggerTime>, now: number): void {
    for (const { family, at } of triggers) {
      this.programmingSeconds[family].observe((now - at) / 1_000);
    }
  }

  healthAnswered(path: "healthz" | "livez", code: number): void {
    const key = `${path} ${code}`;
    const counted = this.#healthAnswers.get(key);
    if (counted !== undefined) counted.value++;
    else {
      const labels = { code: String(code) };
      this.#healthAnswers.set(key, { path, labels, value: 1 });
    }
  }

  healthAnswers(path: "healthz" | "livez"): Counted[] {
    return [...this.#healthAnswers.values()].filter((each) =>
      each.path === path
    );
  }

  requested({ method, host, code, seconds }: RequestSeen): void {
    const key = `${method} ${code} ${host}`;
    const counted = this.#requests.get(key);
    if (counted !== undefined) counted.value++;
    else this.#requests.set(key, { labels: { code, method, host }, value: 1 });
    const of = `${method} ${host}`;
    const measured = this.#requestSeconds.get(of) ?? {
      labels: { verb: method, host },
      distribution: new Distribution(REQUEST_BOUNDS_S),
    };
    measured.distribution.observe(seconds);
    this.#requestSeconds.set(of, measured);
  }

  get requests(): Iterable<Counted> {
    return this.#requests.values();
  }

  get requestSeconds(): Iterable<Measured> {
    return this.#requestSeconds.values();
  }
}

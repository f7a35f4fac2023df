/**
 * Which endpoints are passed over because they did not take a connection
 * (passive ejection). In: how dials ended. Out: whom to keep clients from, for
 * now. It knows neither lists nor turns: `load_balancer.ts` decides whether an
 * endpoint can be spared, and asks this at every choice.
 *
 * @module
 */
import type { Clock } from "../watch/clock.ts";

/** For how long an endpoint is ejected at first, in milliseconds. */
const EJECTION_MIN_MS = 1_000;
/** Doubled with every trial that fails, up to this. */
const EJECTION_MAX_MS = 30_000;

/** Somebody who was sent there. */
export interface Visitor {
  readonly ip: string;
  readonly port: number;
}

interface Ejection {
  delayMs: number;
  /** When the delay began. */
  since: number;
  /** Who was sent there to find out, and has not said yet what came of it. */
  trial: Visitor | undefined;
}

/**
 * The ejected endpoints of one ServicePort.
 *
 * 1. A failed dial ejects for a second. Then one client is sent there, the
 *    trial: if that fails it is ejected for twice as long, up to 30 s.
 * 2. While a trial runs nobody else is sent. One of which nothing is heard (its
 *    client left) counts as not made, and there is another after the same time.
 * 3. Any dial that is answered ends the ejection, and the next one begins with
 *    a second again.
 * 4. Dials that began before the ejection, or were made in spite of it, do not
 *    lengthen it when they fail, during a trial neither.
 *
 * No timers: what is over is noticed when somebody comes by.
 */
export class Ejections {
  readonly #clock: Pick<Clock, "now">;
  readonly #ejected = new Map<string, Ejection>();

  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#ejected.size;
  }

  /** Those ejected, whether a trial is due or not. */
  keys(): string[] {
    return [...this.#ejected.keys()];
  }

  has(key: string): boolean {
    return this.#ejected.has(key);
  }

  /** It is ejected, and no trial is due. */
  keepsOut(key: string): boolean {
    const ejection = this.#ejected.get(key);
    return ejection !== undefined && !this.#isDue(ejection);
  }

  /** Milliseconds of the clock at which a trial is due; 0: it is not ejected. */
  until(key: string): number {
    const ejection = this.#ejected.get(key);
    return ejection === undefined ? 0 : ejection.since + ejection.delayMs;
  }

  /** A client is sent there; if a trial was due, this is it. */
  chosen(key: string, visitor: Visitor): void {
    const ejection = this.#ejected.get(key);
    if (ejection === undefined || !this.#isDue(ejection)) return;
    ejection.since = this.#clock.now();
    ejection.trial = visitor;
  }

  /**
   * A dial for this visitor was refused, or timed out.
   *
   * @returns milliseconds until the next trial, if this ejects it (again)
   */
  failed(key: string, visitor: Visitor): number | undefined {
    const known = this.#ejected.get(key);
    if (known !== undefined && !isSame(known.trial, visitor)) return undefined;
    const delayMs = known === undefined
      ? EJECTION_MIN_MS
      : Math.min(2 * known.delayMs, EJECTION_MAX_MS);
    const since = this.#clock.now();
    this.#ejected.set(key, { delayMs, since, trial: undefined });
    return delayMs;
  }

  /** @returns whether this ended an ejection */
  answered(key: string): boolean {
    return this.#ejected.delete(key);
  }

  // A clock that was set back makes the age negative: then a trial is due.
  #isDue({ since, delayMs }: Ejection): boolean {
    const age = this.#clock.now() - since;
    return age < 0 || age >= delayMs;
  }
}

function isSame(one: Visitor | undefined, other: Visitor): boolean {
  return one?.port === other.port && one.ip === other.ip;
}

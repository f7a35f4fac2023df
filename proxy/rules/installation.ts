/**
 * What a strategy that works by routes has to have on the machine, what it has,
 * and what it could not get: the difference between them is what gets written.
 * Service addresses go in; items to add and to remove come out. `route` and
 * `portal` say what an item is.
 *
 * @module
 */
import type {
  ListenerChanges,
  ServiceAddress,
  SteeringError,
  SteeringFailure,
  SteeringResult,
} from "../steering.ts";
import { WantedAddresses } from "./wanted_addresses.ts";

/** What a strategy installs, item by item, each for itself. */
export interface Items<Item> {
  /** What must be there whatever Services there are, and for these addresses. */
  neededFor(
    ips: Iterable<string>,
    wanted: WantedAddresses,
  ): ReadonlySet<Item>;
  /** What can be there for one address and for nothing else. */
  onlyFor(ip: string): readonly Item[];
  /** The item that a Service address depends on, if it depends on any. */
  behind(address: ServiceAddress): Item | undefined;
  /** Which of these must not be installed, and why. */
  refused(items: readonly Item[]): ReadonlyMap<Item, SteeringError>;
  /** An item in neither half of the answer is there by another's doing. */
  add(items: readonly Item[], signal: AbortSignal): Promise<Added<Item>>;
  /** Returns what was removed. */
  remove(
    items: readonly Item[],
    signal: AbortSignal,
  ): Promise<readonly Item[]>;
}

export interface Added<Item> {
  readonly added: readonly Item[];
  readonly failures: ReadonlyMap<Item, SteeringError>;
}

export class Installation<Item extends string> {
  readonly #items: Items<Item>;
  readonly #wanted = new WantedAddresses();
  /** What could not be installed, until the next `repair`. */
  readonly #failures = new Map<Item, SteeringError>();
  /** What an earlier run left and nobody wants is not removed yet. */
  #isUnswept = true;
  /** As last read, and kept up to date by what was written since. */
  installed = new Set<Item>();

  constructor(items: Items<Item>) {
    this.#items = items;
  }

  get failures(): ReadonlyMap<Item, SteeringError> {
    return this.#failures;
  }

  /** What must be there before any Service is known. */
  async begin(signal: AbortSignal): Promise<void> {
    await this.#install(this.#neededFor([]), signal);
  }

  /** As `Steering.prepare`. */
  async prepare(
    added: readonly ServiceAddress[],
    signal: AbortSignal,
  ): Promise<SteeringResult> {
    for (const address of added) this.#wanted.add(address);
    const needed = this.#neededFor(new Set(added.map(({ ip }) => ip)));
    const written = await this.#install(needed, signal);
    return { written, failures: this.#failuresOf(added) };
  }

  /** As `Steering.sync`: takes away what was released. */
  async sync(
    { released }: Pick<ListenerChanges, "released">,
    signal: AbortSignal,
  ): Promise<SteeringResult> {
    for (const address of released) this.#wanted.release(address);
    const superfluous = this.#isUnswept
      ? this.#superfluous()
      : this.#leftAt(new Set(released.map(({ ip }) => ip)));
    this.#isUnswept = false;
    return { written: await this.#remove(superfluous, signal), failures: [] };
  }

  /** As `Steering.repair`, after `installed` was read again; walks everything. */
  async repair(signal: AbortSignal): Promise<SteeringResult> {
    this.#failures.clear();
    let written = await this.#install(
      this.#neededFor(this.#wanted.ips),
      signal,
    );
    // Before the first pass nothing is wanted, and all of it may be yet.
    if (!this.#isUnswept) {
      written += await this.#remove(this.#superfluous(), signal);
    }
    return { written, failures: this.allFailures() };
  }

  allFailures(): SteeringFailure[] {
    return this.#failuresOf(this.#wanted);
  }

  #failuresOf(addresses: Iterable<ServiceAddress>): SteeringFailure[] {
    if (this.#failures.size === 0) return [];
    return [...addresses].flatMap((address) => {
      const item = this.#items.behind(address);
      const error = item && this.#failures.get(item);
      return error === undefined ? [] : [{ address, error }];
    });
  }

  #neededFor(ips: Iterable<string>): ReadonlySet<Item> {
    return this.#items.neededFor(ips, this.#wanted);
  }

  /** What is installed and nobody wants; walks everything. */
  #superfluous(): Item[] {
    const needed = this.#neededFor(this.#wanted.ips);
    return [...this.installed].filter((item) => !needed.has(item));
  }

  /** What is still installed for these addresses, and no longer wanted. */
  #leftAt(ips: ReadonlySet<string>): Item[] {
    const needed = this.#neededFor(ips);
    return [...ips].flatMap((ip) => this.#items.onlyFor(ip))
      .filter((item) => this.installed.has(item) && !needed.has(item));
  }

  /** Adds what is missing and not known to fail; returns how much was added. */
  async #install(
    needed: Iterable<Item>,
    signal: AbortSignal,
  ): Promise<number> {
    const missing = [...needed].filter((item) =>
      !this.installed.has(item) && !this.#failures.has(item)
    );
    if (missing.length === 0) return 0;
    const refused = this.#items.refused(missing);
    for (const [item, error] of refused) this.#failures.set(item, error);
    const allowed = missing.filter((item) => !refused.has(item));
    const { added, failures } = await this.#items.add(allowed, signal);
    for (const item of added) this.installed.add(item);
    for (const [item, error] of failures) this.#failures.set(item, error);
    return added.length;
  }

  /** Returns how much was removed. What could not be is left to `repair`. */
  async #remove(items: readonly Item[], signal: AbortSignal): Promise<number> {
    if (items.length === 0) return 0;
    const removed = await this.#items.remove(items, signal);
    for (const item of removed) this.installed.delete(item);
    return removed.length;
  }
}

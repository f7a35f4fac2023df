/**
 * A steering strategy without a machine: remembers the differences it was told,
 * and fails or refuses the addresses that a test takes from it.
 *
 * @module
 */
import { addressKey } from "../../proxy/listen_addresses.ts";
import {
  type ListenerChanges,
  type ServiceAddress,
  type Steering,
  SteeringError,
  type SteeringResult,
} from "../../proxy/steering.ts";

export class FakeSteering implements Steering {
  readonly name = "route";
  readonly description = "a fake";
  /** Each call, in order: `prepare 10.96.0.1:80/TCP`. */
  readonly calls: string[] = [];
  /** What is wanted, as far as it was told. */
  readonly wanted = new Set<string>();
  /** What has a listener, as far as it was told. */
  readonly open = new Set<string>();
  /** IP addresses that do not come here. */
  readonly nowhere = new Set<string>();
  /** IP addresses that cannot be steered. */
  readonly failing = new Set<string>();
  readonly ours = new Set<string>();
  /** What the next call of each throws. */
  readonly throws: { prepare?: Error; sync?: Error } = {};
  /** What each `sync` says it wrote. */
  written = 0;
  readonly #addresses = new Map<string, ServiceAddress>();

  start(): Promise<void> {
    return Promise.resolve();
  }

  prepare(added: readonly ServiceAddress[]): Promise<SteeringResult> {
    const error = this.#take("prepare");
    if (error !== undefined) return Promise.reject(error);
    this.#note("prepare", added);
    for (const address of added) {
      this.wanted.add(addressKey(address));
      this.#addresses.set(addressKey(address), address);
    }
    return Promise.resolve(this.#result(added));
  }

  bindAddress({ ip, port }: ServiceAddress) {
    return this.nowhere.has(ip) ? undefined : { ip, port };
  }

  fallbackAddress(): undefined {
    return undefined;
  }

  sync(changes: ListenerChanges): Promise<SteeringResult> {
    const error = this.#take("sync");
    if (error !== undefined) return Promise.reject(error);
    const opened = changes.opened.map(({ address }) => address);
    this.#note("opened", opened);
    this.#note("closed", changes.closed);
    this.#note("released", changes.released);
    for (const address of opened) this.open.add(addressKey(address));
    for (const address of [...changes.closed, ...changes.released]) {
      this.open.delete(addressKey(address));
    }
    for (const address of changes.released) {
      this.wanted.delete(addressKey(address));
      this.#addresses.delete(addressKey(address));
    }
    return Promise.resolve({ written: this.written, failures: [] });
  }

  isOurs(ip: string): boolean {
    return this.ours.has(ip);
  }

  repair(): Promise<SteeringResult> {
    return Promise.resolve(this.#result([...this.#addresses.values()]));
  }

  cleanup(): Promise<void> {
    return Promise.resolve();
  }

  #take(call: "prepare" | "sync"): Error | undefined {
    const error = this.throws[call];
    delete this.throws[call];
    return error;
  }

  #note(what: string, addresses: readonly ServiceAddress[]): void {
    for (const address of addresses) {
      this.calls.push(`${what} ${addressKey(address)}`);
    }
  }

  #result(addresses: readonly ServiceAddress[]): SteeringResult {
    const failures = addresses.filter(({ ip }) => this.failing.has(ip))
      .map((address) => ({
        address,
        error: new SteeringError("Cannot steer: a test says so"),
      }));
    return { written: 0, failures };
  }
}

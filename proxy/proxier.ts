/**
 * Makes the desired state so: keeps a `PortProxy` for every ServicePort, opens
 * and closes listeners by difference, and has the steering strategy lead
 * packets to them. Everything it decides follows from the changes it is given;
 * it calls nothing upstream.
 *
 * An unchanged Service keeps its listeners and its connections. A Service that
 * is gone loses its listeners at once; its connections go on to their end, as
 * they do under upstream's modes (fact 0.5).
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { ServiceState } from "./desired_state.ts";
import type { Engine } from "./engine/engine.ts";
import { PortProxy } from "./port_proxy.ts";
import type { StateChanges } from "./state_tracker.ts";
import type {
  PortBinding,
  ServiceAddress,
  Steering,
  SteeringResult,
} from "./steering.ts";

const logger = getLogger("proxy");

export interface ProxierOptions {
  readonly engine: Engine;
  /** Already started. */
  readonly steering: Steering;
}

export class Proxier {
  readonly #options: ProxierOptions;
  readonly #ports = new Map<string, PortProxy>();
  /** Service key → keys of its ServicePorts. */
  readonly #portsOf = new Map<string, ReadonlySet<string>>();
  readonly #incomplete = new Set<PortProxy>();
  /** Gone from the desired state; their connections have not all ended. */
  readonly #draining = new Map<PortProxy, Promise<void>>();
  readonly #cut = new AbortController();
  #steeringIsStale = false;

  constructor(options: ProxierOptions) {
    this.#options = options;
  }

  /** Every ServicePort, for status and tests. */
  get ports(): Iterable<PortProxy> {
    return this.#ports.values();
  }

  /**
   * One sync. Listeners that nobody wants are closed before any is opened, so
   * that an address can change hands within one sync.
   *
   * @returns `again` if something that is wanted could not be had
   */
  async sync(
    changes: StateChanges,
    signal: AbortSignal,
  ): Promise<"done" | "again"> {
    for (const key of changes.removed) this.#replacePorts(key, []);
    for (const state of changes.changed) {
      this.#replacePorts(state.key, state.ports);
    }
    if (!this.#steeringIsStale && this.#incomplete.size === 0) return "done";
    const { steering } = this.#options;
    const prepared = await steering.prepare(this.#addresses(), signal);
    for (const port of [...this.#incomplete]) {
      await port.open(steering);
      if (!port.isIncomplete) this.#incomplete.delete(port);
    }
    const steered = await steering.sync(this.#bindings(), signal);
    const failed = reportFailures(prepared) + reportFailures(steered);
    this.#steeringIsStale = failed > 0;
    return this.#incomplete.size > 0 || failed > 0 ? "again" : "done";
  }

  /** Puts back steering that somebody removed; once in a sync period. */
  async repair(signal: AbortSignal): Promise<void> {
    const result = await this.#options.steering.repair(signal);
    if (result.written > 0) {
      logger.warn("Steering was changed by somebody else; put back", {
        written: result.written,
      });
    }
    reportFailures(result);
  }

  /** A connection that goes on needs its address as long as it lasts. */
  #addresses(): ServiceAddress[] {
    return [...this.#ports.values(), ...this.#draining.keys()].flatMap((
      port,
    ) => port.addresses);
  }

  #bindings(): PortBinding[] {
    return [...this.#ports.values()].flatMap((port) => [...port.bindings]);
  }

  #replacePorts(serviceKey: string, next: ServiceState["ports"]): void {
    const keys = new Set(next.map((state) => state.servicePort.key));
    for (const key of this.#portsOf.get(serviceKey) ?? []) {
      if (!keys.has(key)) this.#removePort(key);
    }
    for (const state of next) this.#updatePort(state);
    if (keys.size === 0) this.#portsOf.delete(serviceKey);
    else this.#portsOf.set(serviceKey, keys);
  }

  #updatePort(state: ServiceState["ports"][number]): void {
    const { key } = state.servicePort;
    let port = this.#ports.get(key);
    if (port === undefined) {
      port = new PortProxy(state, this.#options.engine);
      this.#ports.set(key, port);
      this.#steeringIsStale = true;
    } else if (port.update(state)) this.#steeringIsStale = true;
    if (port.isIncomplete) this.#incomplete.add(port);
    else this.#incomplete.delete(port);
  }

  #removePort(key: string): void {
    const port = this.#ports.get(key);
    if (port === undefined) return;
    this.#ports.delete(key);
    this.#incomplete.delete(port);
    this.#steeringIsStale = true;
    const drained = port.close(this.#cut.signal).finally(() => {
      this.#draining.delete(port);
      // Its address can be given back, with the next sync.
      this.#steeringIsStale = true;
    });
    this.#draining.set(port, drained);
  }

  /**
   * Stops accepting everywhere, then waits until every connection has ended or
   * `signal` is aborted, which cuts the rest. Steering stays.
   */
  async close(signal: AbortSignal): Promise<void> {
    const cut = () => this.#cut.abort();
    if (signal.aborted) cut();
    signal.addEventListener("abort", cut, { once: true });
    for (const key of [...this.#portsOf.keys()]) this.#replacePorts(key, []);
    await Promise.all(this.#draining.values());
    signal.removeEventListener("abort", cut);
  }
}

function reportFailures({ failures }: SteeringResult): number {
  for (const { address, error } of failures) {
    logger.warn(`Cannot steer ${address.name} to its listener`, {
      reason: error.message,
    });
  }
  return failures.length;
}
